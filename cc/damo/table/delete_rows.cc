// SPDX-License-Identifier: Apache-2.0
#include "damo/table/delete_rows.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "damo/table/manifest.h"

namespace damo {
namespace {

// Keys between two turns of the apply calls, which wait some tenths of a second for that many.
constexpr size_t kKeysPerPart = size_t{1} << 17;

// Whether a lookup would find a stored row. One that cannot be decoded is counted: it is in the way of
// lookups, and whoever deletes it wants to be rid of it.
bool IsLive(const EmbeddingTable& table, const GroupRecipe& recipe, uint64_t key, std::string_view row,
            int64_t now_millis) {
  const StatusOr<RowHeader> header =
      DecodeRowHeader(row, recipe.layout, static_cast<uint8_t>(table.group()), key);
  return !header.ok() || !recipe.lifetime.Expired(header->update_time, now_millis);
}

// Deletes the rows of `keys`, which are strictly ascending. Returns how many were live.
StatusOr<int64_t> DeletePart(Store& store, const EmbeddingTable& table, Span<const uint64_t> keys) {
  const auto group = static_cast<uint8_t>(table.group());
  int64_t num_live = 0;
  const auto remove = [&](GroupEdit& edit) -> Status {
    const std::shared_ptr<const GroupRecipe> recipe = table.recipe();
    const int64_t now_millis = table.session().clock().NowMillis();
    std::vector<uint64_t>& removed = edit.keys.emplace();
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, edit.storage.NewSortedBatch());
    const auto visit = [&](size_t i, std::optional<std::string_view> row) -> Status {
      if (!row) return Status();
      removed.push_back(keys[i]);
      num_live += IsLive(table, *recipe, keys[i], *row, now_millis) ? 1 : 0;
      return batch->DeleteRow(group, keys[i]);
    };
    DAMO_RETURN_IF_ERROR(edit.storage.MultiGet(group, keys, visit));
    if (removed.empty()) return Status();
    edit.state.num_rows -= static_cast<int64_t>(removed.size());
    DAMO_RETURN_IF_ERROR(PutGroupState(table.group(), edit.state, *batch));
    return batch->Commit();
  };
  DAMO_RETURN_IF_ERROR(store.EditGroup(table.group(), remove));
  return num_live;
}

}  // namespace

StatusOr<int64_t> DeleteRows(Store& store, int64_t group, Span<const uint64_t> keys) {
  DAMO_ASSIGN_OR_RETURN(const std::shared_ptr<EmbeddingTable> table, store.Table(group));
  std::vector<uint64_t> sorted(keys.begin(), keys.end());
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  const Span<const uint64_t> all(sorted);
  int64_t num_deleted = 0;
  size_t begin = 0;
  do {  // even for no keys: a closed or read-only store refuses
    const size_t num_keys = std::min(kKeysPerPart, all.size() - begin);
    DAMO_ASSIGN_OR_RETURN(const int64_t num_live, DeletePart(store, *table, all.subspan(begin, num_keys)));
    num_deleted += num_live;
    begin += num_keys;
  } while (begin < all.size());
  return num_deleted;
}

}  // namespace damo
