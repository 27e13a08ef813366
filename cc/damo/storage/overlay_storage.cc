// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/overlay_storage.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "damo/storage/merged_cursor.h"
#include "damo/storage/rocksdb_storage.h"

namespace damo {
namespace {

// Keys that are looked for on top at once: so many rows are copied before the base is asked for the others.
constexpr size_t kKeysPerRead = 256;

class OverlaySnapshot final : public StorageSnapshot {
 public:
  OverlaySnapshot(std::unique_ptr<StorageSnapshot> top, std::unique_ptr<StorageSnapshot> base)
      : top_(std::move(top)), base_(std::move(base)) {}

  std::unique_ptr<RowCursor> NewCursorFrom(uint8_t group, uint64_t first_key) const override {
    std::vector<std::unique_ptr<RowCursor>> newest_first;
    newest_first.push_back(top_->NewCursorFrom(group, first_key));
    newest_first.push_back(base_->NewCursorFrom(group, first_key));
    return std::make_unique<MergedCursor>(std::move(newest_first));
  }
  Status ScanManifest(const ManifestVisitor& visit) const override { return base_->ScanManifest(visit); }

 private:
  const std::unique_ptr<StorageSnapshot> top_;
  const std::unique_ptr<StorageSnapshot> base_;
};

// What fails on top is this process's own trouble: trying the base again, as it may be by now, is no help.
Status OwnTrouble(const Status& status) {
  if (status.ok() || status.code() == StatusCode::kInternal) return status;
  return FailedPrecondition("keep rows of the redo log in a temporary directory: ", status.message());
}

class OverlayBatch final : public SortedBatch {
 public:
  using Begin = std::function<StatusOr<std::unique_ptr<SortedBatch>>()>;

  // `begin` makes the batch on top, when there is a first row for it.
  explicit OverlayBatch(Begin begin) : begin_(std::move(begin)) {}

  Status PutRow(uint8_t group, uint64_t key, std::string_view row) override {
    const auto put = [&]() -> Status {
      if (rows_ == nullptr) {
        DAMO_ASSIGN_OR_RETURN(rows_, begin_());
      }
      return rows_->PutRow(group, key, row);
    };
    return OwnTrouble(put());
  }
  Status DeleteRow(uint8_t group, uint64_t key) override {
    return Internal("delete the row of key ", key, " of group ", int{group}, " on top of a read-only store");
  }
  Status PutManifest(std::string_view name, std::string_view /*value*/) override {
    return Internal("put manifest value '", name, "' on top of a read-only store");
  }
  Status DeleteManifest(std::string_view name) override {
    return Internal("delete manifest value '", name, "' on top of a read-only store");
  }
  Status Finish() override { return rows_ == nullptr ? Status() : OwnTrouble(rows_->Finish()); }
  Status Commit() override { return rows_ == nullptr ? Status() : OwnTrouble(rows_->Commit()); }

 private:
  const Begin begin_;
  std::unique_ptr<SortedBatch> rows_;
};

class OverlayStorage final : public Storage {
 public:
  OverlayStorage(std::unique_ptr<Storage> base, MakeOverlayTop make_top)
      : base_(std::move(base)), make_top_(std::move(make_top)) {}

  Status MultiGet(uint8_t group, Span<const uint64_t> keys, const RowVisitor& visit) const override {
    const Storage* const top = Top();
    if (top == nullptr) return base_->MultiGet(group, keys, visit);
    DAMO_RETURN_IF_ERROR(CheckStrictlyAscending(keys));
    for (size_t begin = 0; begin < keys.size(); begin += kKeysPerRead) {
      const Span<const uint64_t> chunk = keys.subspan(begin, std::min(kKeysPerRead, keys.size() - begin));
      DAMO_RETURN_IF_ERROR(ReadChunk(*top, group, chunk, [&](size_t i, std::optional<std::string_view> row) {
        return visit(begin + i, row);
      }));
    }
    return Status();
  }

  StatusOr<std::unique_ptr<StorageSnapshot>> NewSnapshot() const override {
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<StorageSnapshot> base, base_->NewSnapshot());
    const Storage* const top = Top();
    if (top == nullptr) return base;
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<StorageSnapshot> rows, top->NewSnapshot());
    return std::unique_ptr<StorageSnapshot>(
        std::make_unique<OverlaySnapshot>(std::move(rows), std::move(base)));
  }

  StatusOr<std::unique_ptr<SortedBatch>> NewSortedBatch() override {
    return std::unique_ptr<SortedBatch>(std::make_unique<OverlayBatch>([this] { return BeginOnTop(); }));
  }

  StatusOr<StorageStats> Stats() const override {
    DAMO_ASSIGN_OR_RETURN(StorageStats stats, base_->Stats());
    const Storage* const top = Top();
    if (top == nullptr) return stats;
    DAMO_ASSIGN_OR_RETURN(const StorageStats of_top, top->Stats());
    stats.block_cache_hits += of_top.block_cache_hits;
    stats.block_cache_misses += of_top.block_cache_misses;
    stats.block_cache_bytes += of_top.block_cache_bytes;
    return stats;
  }

  Status Close() override {
    Status status = top_.rows == nullptr ? Status() : top_.rows->Close();
    top_.rows.reset();
    top_.directory.reset();
    const Status closed = base_->Close();
    return status.ok() ? closed : status;
  }

  StatusOr<std::unique_ptr<StorageImage>> NewImage() override { return base_->NewImage(); }
  StatusOr<std::unique_ptr<Storage>> NewStorageIn(const std::string& directory) const override {
    return base_->NewStorageIn(directory);
  }
  StatusOr<std::optional<std::string>> GetManifest(std::string_view name) const override {
    return base_->GetManifest(name);
  }
  std::unique_ptr<StorageBatch> NewBatch() const override { return base_->NewBatch(); }
  Status Write(StorageBatch& batch) override { return base_->Write(batch); }
  StatusOr<bool> UpToDate() const override { return base_->UpToDate(); }
  Status Flush() override { return base_->Flush(); }
  void ReleaseRows(uint8_t group, int64_t update_time) override { base_->ReleaseRows(group, update_time); }
  Status RevokeReleases() override { return base_->RevokeReleases(); }
  Status Compact(Span<const uint8_t> groups, const ByteProgress& progress) override {
    return base_->Compact(groups, progress);
  }
  Status VerifyFiles(const FileVisitor& visit) const override { return base_->VerifyFiles(visit); }

 private:
  Storage* Top() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return top_.rows.get();
  }

  StatusOr<std::unique_ptr<SortedBatch>> BeginOnTop() {
    // I/O under the lock on purpose: there is to be one storage on top.
    const std::lock_guard<std::mutex> lock(mutex_);
    if (top_.rows == nullptr) {
      DAMO_ASSIGN_OR_RETURN(top_, make_top_());
    }
    return top_.rows->NewSortedBatch();
  }

  // Rows found on top are copied; the base is asked for the others, and all are visited in order.
  Status ReadChunk(const Storage& top, uint8_t group, Span<const uint64_t> keys,
                   const RowVisitor& visit) const {
    std::vector<std::optional<std::string>> found(keys.size());
    DAMO_RETURN_IF_ERROR(top.MultiGet(group, keys, [&](size_t i, std::optional<std::string_view> row) {
      if (row) found[i].emplace(*row);
      return Status();
    }));
    std::vector<uint64_t> other_keys;
    std::vector<size_t> indices;
    for (size_t i = 0; i < keys.size(); ++i) {
      if (found[i]) continue;
      other_keys.push_back(keys[i]);
      indices.push_back(i);
    }
    size_t next = 0;
    const auto visit_found = [&](size_t end) -> Status {
      for (; next < end; ++next) DAMO_RETURN_IF_ERROR(visit(next, *found[next]));
      return Status();
    };
    const auto visit_other = [&](size_t i, std::optional<std::string_view> row) -> Status {
      DAMO_RETURN_IF_ERROR(visit_found(indices[i]));
      ++next;
      return visit(indices[i], row);
    };
    DAMO_RETURN_IF_ERROR(base_->MultiGet(group, other_keys, visit_other));
    return visit_found(keys.size());
  }

  const std::unique_ptr<Storage> base_;
  const MakeOverlayTop make_top_;
  mutable std::mutex mutex_;  // guards top_, which once made stays until the storage is closed
  OverlayTop top_;
};

}  // namespace

std::unique_ptr<Storage> NewOverlayStorage(std::unique_ptr<Storage> base, MakeOverlayTop make_top) {
  return std::make_unique<OverlayStorage>(std::move(base), std::move(make_top));
}

StatusOr<OverlayTop> MakeTemporaryTop(int64_t memory_budget) {
  OverlayTop top;
  DAMO_ASSIGN_OR_RETURN(top.directory, TemporaryDirectory::Make());
  RocksDbStorageOptions options;
  options.memory_budget = memory_budget;
  options.memtable_bytes = RocksDbStorageOptions::kMinMemoryBudget / 4;  // nothing goes through memtables
  options.cache_row_blocks = false;
  options.temporary = true;
  DAMO_ASSIGN_OR_RETURN(top.rows, OpenRocksDbStorage(top.directory->path(), options));
  return top;
}

}  // namespace damo
