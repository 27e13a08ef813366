// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_released_rows.h"

#include <optional>
#include <string>
#include <utility>

#include "damo/row/key.h"
#include "damo/row/row_codec.h"
#include "damo/storage/rocksdb_status.h"

namespace damo {
namespace {

// Of one compaction, in one thread.
class ReleasedRowsFilter final : public rocksdb::CompactionFilter {
 public:
  explicit ReleasedRowsFilter(std::shared_ptr<const ReleasedRows> released)
      : released_(std::move(released)) {}

  const char* Name() const override { return "damo.ReleasedRows"; }
  bool Filter(int /*level*/, const rocksdb::Slice& key, const rocksdb::Slice& row, std::string* /*new_value*/,
              bool* /*value_changed*/) const override {
    return released_->Contains(ToView(key), ToView(row));
  }

 private:
  const std::shared_ptr<const ReleasedRows> released_;
};

class ReleasedRowsFilterFactory final : public rocksdb::CompactionFilterFactory {
 public:
  explicit ReleasedRowsFilterFactory(std::shared_ptr<const ReleasedRows> released)
      : released_(std::move(released)) {}

  const char* Name() const override { return "damo.ReleasedRows"; }
  std::unique_ptr<rocksdb::CompactionFilter> CreateCompactionFilter(
      const rocksdb::CompactionFilter::Context& /*context*/) override {
    return std::make_unique<ReleasedRowsFilter>(released_);
  }

 private:
  const std::shared_ptr<const ReleasedRows> released_;
};

}  // namespace

ReleasedRows::ReleasedRows() { Clear(); }

void ReleasedRows::Clear() {
  for (std::atomic<int64_t>& last : last_) last = kNone;
}

void ReleasedRows::Release(uint8_t group, int64_t update_time) {
  int64_t last = last_[group];
  while (last < update_time && !last_[group].compare_exchange_weak(last, update_time)) {
  }
}

bool ReleasedRows::Contains(std::string_view key, std::string_view row) const {
  if (key.size() != kRowKeyBytes) return false;
  const uint8_t group = GroupOfRowKey(key);
  const int64_t last = last_[group].load(std::memory_order_relaxed);
  if (last == kNone) return false;
  const std::optional<int64_t> update_time = PeekUpdateTime(row, group, KeyOfRowKey(key));
  return update_time && *update_time <= last;
}

std::shared_ptr<rocksdb::CompactionFilterFactory> NewReleasedRowsFilter(
    std::shared_ptr<const ReleasedRows> released) {
  return std::make_shared<ReleasedRowsFilterFactory>(std::move(released));
}

}  // namespace damo
