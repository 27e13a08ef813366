// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/group_import.h"

#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "damo/storage/directory.h"

namespace damo {
namespace {

std::string_view BytesOf(Span<const float> floats) {
  return {reinterpret_cast<const char*>(floats.data()), floats.size() * sizeof(float)};
}

RowSorter::Options SorterOptions(const Store& store) {
  RowSorter::Options options;
  options.directory = store.directory() + "/" + kIngestFolder;
  return options;
}

Status CheckSize(const char* name, size_t size, size_t expected) {
  if (size == expected) return Status();
  return InvalidArgument("`", name, "` must hold ", expected, " numbers. Received: ", size);
}

}  // namespace

StatusOr<std::unique_ptr<GroupImport>> GroupImport::Begin(std::shared_ptr<Store> store, int64_t group) {
  DAMO_RETURN_IF_ERROR(store->CheckWritable());
  DAMO_ASSIGN_OR_RETURN(std::shared_ptr<EmbeddingTable> table, store->Table(group));
  return std::unique_ptr<GroupImport>(new GroupImport(std::move(store), std::move(table)));
}

GroupImport::GroupImport(std::shared_ptr<Store> store, std::shared_ptr<EmbeddingTable> table)
    : store_(std::move(store)),
      table_(std::move(table)),
      layout_(table_->recipe()->layout),
      fresh_(layout_, store_->NowMillis()),
      row_(layout_.row_bytes(), '\0'),
      sorter_(SorterOptions(*store_)) {}

Status GroupImport::CheckSizes(Span<const uint64_t> keys, Span<const float> weights,
                               const std::optional<RowStates>& states) const {
  DAMO_RETURN_IF_ERROR(CheckSize("weights", weights.size(), keys.size() * layout_.dim()));
  if (!states) return Status();
  DAMO_RETURN_IF_ERROR(CheckSize("slots", states->slots.size(), keys.size() * layout_.slot_floats()));
  DAMO_RETURN_IF_ERROR(CheckSize("update_nums", states->update_nums.size(), keys.size()));
  return CheckSize("update_times", states->update_times.size(), keys.size());
}

Status GroupImport::Add(Span<const uint64_t> keys, Span<const float> weights,
                        const std::optional<RowStates>& states) {
  if (!usable_) return FailedPrecondition("the import has failed or is committed; begin another");
  usable_ = false;
  DAMO_RETURN_IF_ERROR(CheckSizes(keys, weights, states));
  const auto group = static_cast<uint8_t>(table_->group());
  for (size_t i = 0; i < keys.size(); ++i) {
    const Span<const float> row = weights.subspan(i * layout_.dim(), layout_.dim());
    DAMO_RETURN_IF_ERROR(CheckFinite("weights", keys[i], BytesOf(row)));
    DAMO_RETURN_IF_ERROR(states ? AddRow(keys[i], row, *states, i)
                                : sorter_.Add(group, keys[i], fresh_.Make(group, keys[i], BytesOf(row))));
  }
  usable_ = true;
  return Status();
}

Status GroupImport::AddRow(uint64_t key, Span<const float> weights, const RowStates& states, size_t i) {
  const auto group = static_cast<uint8_t>(table_->group());
  const Span<const float> slots = states.slots.subspan(i * layout_.slot_floats(), layout_.slot_floats());
  DAMO_RETURN_IF_ERROR(CheckFinite("slots", key, BytesOf(slots)));
  EncodeRowHeader({group, key, states.update_times[i], states.update_nums[i]}, row_.data());
  std::memcpy(row_.data() + kRowHeaderBytes, weights.data(), weights.size() * sizeof(float));
  const Span<float> row_slots = layout_.Slots(row_.data());
  std::copy(slots.begin(), slots.end(), row_slots.begin());
  // What reading it from the storage would find wrong is wrong here.
  const Status readable = DecodeRowHeader(row_, layout_, group, key).status();
  if (!readable.ok()) return InvalidArgument(readable.message());
  return sorter_.Add(group, key, row_);
}

StatusOr<int64_t> GroupImport::Commit(ImportMode mode) {
  if (!usable_) return FailedPrecondition("the import has failed or is committed; begin another");
  usable_ = false;
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<RowSource> rows, sorter_.Finish());
  return ImportRows(*store_, {table_->group()}, mode, *rows);
}

}  // namespace damo
