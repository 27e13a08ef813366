// SPDX-License-Identifier: Apache-2.0
//
// Store::Expire(): looks for expired rows in the storage without holding anyone up, and removes them a few at
// a time, each after another look while no apply call runs.
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "damo/table/store.h"

namespace damo {
namespace {

// Apply calls wait while these are looked at again: some 10 ms where they lie side by side. Each time, what
// they have changed is flushed first; so not much fewer.
constexpr size_t kRowsPerEdit = Store::kExpirePartRows;
// Rows looked at between two calls of `progress`.
constexpr int64_t kRowsPerReport = 65536;

// Removing fewer rows than one in so many leaves it to RocksDB when to write the files anew.
constexpr int64_t kCompactionWorth = 10;

// A pass over the rows of a group in the storage.
class ExpiredRowScan {
 public:
  ExpiredRowScan(const EmbeddingTable& table, int64_t now_millis)
      : group_(static_cast<uint8_t>(table.group())), recipe_(table.recipe()), now_millis_(now_millis) {}

  // Goes on until there are kRowsPerEdit keys, or kRowsPerReport rows were looked at, or no row is left.
  Status GoOn(const Storage& storage) {
    int64_t num_looked_at = 0;
    std::optional<uint64_t> stopped_at;
    const auto look = [&](uint64_t key, std::string_view row) -> Status {
      if (keys_.size() == kRowsPerEdit || num_looked_at == kRowsPerReport) {
        stopped_at = key;
        return FailedPrecondition("enough for now");
      }
      ++num_looked_at;
      DAMO_ASSIGN_OR_RETURN(const RowHeader header, DecodeRowHeader(row, recipe_->layout, group_, key));
      if (recipe_->lifetime.Expired(header.update_time, now_millis_)) keys_.push_back(key);
      return Status();
    };
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StorageSnapshot> rows, storage.NewSnapshot());
    const Status status = rows->ScanFrom(group_, *next_, look);
    num_scanned_ += num_looked_at;
    next_ = stopped_at;
    return stopped_at ? Status() : status;
  }

  bool at_end() const { return !next_; }
  int64_t num_scanned() const { return num_scanned_; }
  bool has_enough() const { return keys_.size() == kRowsPerEdit || (at_end() && !keys_.empty()); }
  std::vector<uint64_t> TakeKeys() { return std::exchange(keys_, {}); }

 private:
  const uint8_t group_;
  const std::shared_ptr<const GroupRecipe> recipe_;
  const int64_t now_millis_;
  std::optional<uint64_t> next_ = 0;  // the key to go on from; nullopt: none is left
  int64_t num_scanned_ = 0;
  std::vector<uint64_t> keys_;  // whose rows are expired
};

// Visits those rows of `keys`, in ascending order, that are there: several times as fast as a lookup of each
// where they lie side by side, and no slower where they do not.
Status VisitRows(const Storage& storage, uint8_t group, const std::vector<uint64_t>& keys,
                 const ScanVisitor& visit) {
  constexpr int kStepsBeforeSeek = 16;
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StorageSnapshot> rows, storage.NewSnapshot());
  std::unique_ptr<RowCursor> cursor;
  for (const uint64_t key : keys) {
    bool found = cursor != nullptr && cursor->key() >= key;
    for (int i = 0; !found && cursor != nullptr && i < kStepsBeforeSeek; ++i) {
      if (!cursor->Next()) return cursor->status();
      found = cursor->key() >= key;
    }
    if (!found) {
      cursor = rows->NewCursorFrom(group, key);
      if (!cursor->Next()) return cursor->status();
    }
    if (cursor->key() == key) DAMO_RETURN_IF_ERROR(visit(key, cursor->row()));
  }
  return Status();
}

}  // namespace

StatusOr<int64_t> Store::Expire(const std::function<Status(const ExpireProgress&)>& progress) {
  const auto report = [&](const ExpireProgress& done) { return progress ? progress(done) : Status(); };
  const auto expire = [&]() -> StatusOr<int64_t> {
    const std::vector<std::shared_ptr<EmbeddingTable>> tables = Tables();
    std::vector<std::shared_ptr<ReleaseHold>> holds;  // so that compactions take no row before it is counted
    holds.reserve(tables.size());
    for (const auto& table : tables) holds.push_back(std::make_shared<ReleaseHold>(table));
    DAMO_RETURN_IF_ERROR(Flush());  // else rows that expired in memory would not be found
    ExpireProgress done{};
    for (const auto& table : tables) {
      if (!table->recipe()->lifetime.is_forever()) DAMO_RETURN_IF_ERROR(ExpireGroup(*table, report, &done));
    }
    return done.rows_removed;
  };
  StatusOr<int64_t> num_removed = expire();
  if (!num_removed.ok()) {
    return num_removed.status().WithContext(StrCat("remove expired rows of store '", directory(), "'"));
  }
  return num_removed;
}

Status Store::ExpireGroup(EmbeddingTable& table, const std::function<Status(const ExpireProgress&)>& report,
                          ExpireProgress* done) {
  const ExpireProgress before = *done;
  ExpiredRowScan scan(table, NowMillis());
  while (!scan.at_end()) {
    {
      DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
      DAMO_RETURN_IF_ERROR(scan.GoOn(*storage));
    }
    if (scan.has_enough()) {
      DAMO_ASSIGN_OR_RETURN(const int64_t num_removed, RemoveExpired(table, scan.TakeKeys()));
      done->rows_removed += num_removed;
    }
    done->rows_scanned = before.rows_scanned + scan.num_scanned();
    DAMO_RETURN_IF_ERROR(report(*done));
  }
  const int64_t num_removed = done->rows_removed - before.rows_removed;
  if (num_removed == 0 || num_removed < scan.num_scanned() / kCompactionWorth) return Status();
  DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
  const auto group = static_cast<uint8_t>(table.group());
  return storage->Compact({&group, 1}, nullptr);
}

// Removes those of the rows of `keys`, in ascending order, that are expired: they may have been updated since
// they were found to be so.
StatusOr<int64_t> Store::RemoveExpired(EmbeddingTable& table, const std::vector<uint64_t>& keys) {
  int64_t num_removed = 0;
  const auto remove = [&](GroupEdit& edit) -> Status {
    const auto group = static_cast<uint8_t>(table.group());
    const std::shared_ptr<const GroupRecipe> recipe = table.recipe();
    const int64_t now_millis = NowMillis();
    edit.keys.emplace();
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, edit.storage.NewSortedBatch());
    const auto look_again = [&](uint64_t key, std::string_view row) -> Status {
      DAMO_ASSIGN_OR_RETURN(const RowHeader header, DecodeRowHeader(row, recipe->layout, group, key));
      if (!recipe->lifetime.Expired(header.update_time, now_millis)) return Status();
      edit.keys->push_back(key);
      return batch->DeleteRow(group, key);
    };
    DAMO_RETURN_IF_ERROR(VisitRows(edit.storage, group, keys, look_again));
    if (edit.keys->empty()) return Status();
    num_removed = static_cast<int64_t>(edit.keys->size());
    edit.state.num_rows -= num_removed;
    DAMO_RETURN_IF_ERROR(PutGroupState(group, edit.state, *batch));
    return batch->Commit();
  };
  DAMO_RETURN_IF_ERROR(EditGroup(table.group(), remove));
  return num_removed;
}

}  // namespace damo
