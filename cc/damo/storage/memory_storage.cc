// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/memory_storage.h"

#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "damo/row/key.h"
#include "damo/row/row_codec.h"
#include "damo/storage/row_order.h"

namespace damo {
namespace {

using ByteMap = std::map<std::string, std::string, std::less<>>;

struct Contents {
  ByteMap rows;  // by encoded row key
  ByteMap manifest;
};

class MemoryBatch final : public StorageBatch {
 public:
  Status PutRow(uint8_t group, uint64_t key, std::string_view row) override {
    writes_.push_back({&Contents::rows, std::string(RowKey(group, key).bytes()), std::string(row)});
    return Status();
  }
  Status DeleteRow(uint8_t group, uint64_t key) override {
    writes_.push_back({&Contents::rows, std::string(RowKey(group, key).bytes()), std::nullopt});
    return Status();
  }
  Status PutManifest(std::string_view name, std::string_view value) override {
    writes_.push_back({&Contents::manifest, std::string(name), std::string(value)});
    return Status();
  }
  Status DeleteManifest(std::string_view name) override {
    writes_.push_back({&Contents::manifest, std::string(name), std::nullopt});
    return Status();
  }

  void ApplyTo(Contents& contents) const {
    for (const auto& [map, key, value] : writes_) {
      if (value.has_value()) {
        (contents.*map)[key] = *value;
      } else {
        (contents.*map).erase(key);
      }
    }
  }

 private:
  struct OneWrite {
    ByteMap Contents::*map;
    std::string key;
    std::optional<std::string> value;  // nullopt: delete
  };
  std::vector<OneWrite> writes_;
};

class MemorySortedBatch final : public SortedBatch {
 public:
  using Write = std::function<Status(StorageBatch&)>;

  explicit MemorySortedBatch(Write write) : write_(std::move(write)) {}

  Status PutRow(uint8_t group, uint64_t key, std::string_view row) override {
    DAMO_RETURN_IF_ERROR(AddKey(group, key));
    return batch_.PutRow(group, key, row);
  }
  Status DeleteRow(uint8_t group, uint64_t key) override {
    DAMO_RETURN_IF_ERROR(AddKey(group, key));
    return batch_.DeleteRow(group, key);
  }
  Status PutManifest(std::string_view name, std::string_view value) override {
    return batch_.PutManifest(name, value);
  }
  Status DeleteManifest(std::string_view name) override { return batch_.DeleteManifest(name); }
  Status Finish() override { return failure_; }
  Status Commit() override {
    DAMO_RETURN_IF_ERROR(failure_);
    return write_(batch_);
  }

 private:
  Status AddKey(uint8_t group, uint64_t key) {
    if (failure_.ok()) failure_ = order_.Add(group, key);
    return failure_;
  }

  const Write write_;
  RowOrder order_;
  MemoryBatch batch_;
  Status failure_;  // the first one: a batch that lacks something is never committed
};

class MemoryCursor final : public RowCursor {
 public:
  // `rows` is borrowed.
  MemoryCursor(const ByteMap& rows, uint8_t group, uint64_t first_key)
      : rows_(rows), group_(group), next_(rows.lower_bound(RowKey(group, first_key).bytes())) {}

  bool Next() override {
    if (next_ == rows_.end() || GroupOfRowKey(next_->first) != group_) return false;
    row_ = next_++;
    return true;
  }
  uint64_t key() const override { return KeyOfRowKey(row_->first); }
  std::string_view row() const override { return row_->second; }
  Status status() const override { return Status(); }

 private:
  const ByteMap& rows_;
  const uint8_t group_;
  ByteMap::const_iterator next_;
  ByteMap::const_iterator row_;
};

class MemorySnapshot final : public StorageSnapshot {
 public:
  explicit MemorySnapshot(Contents contents) : contents_(std::move(contents)) {}

  std::unique_ptr<RowCursor> NewCursorFrom(uint8_t group, uint64_t first_key) const override {
    return std::make_unique<MemoryCursor>(contents_.rows, group, first_key);
  }
  Status ScanManifest(const ManifestVisitor& visit) const override {
    for (const auto& [name, value] : contents_.manifest) DAMO_RETURN_IF_ERROR(visit(name, value));
    return Status();
  }

 private:
  const Contents contents_;
};

// Reads copy what they visit under the lock and visit it afterwards, so that a visitor may write.
class MemoryStorage final : public Storage {
 public:
  Status MultiGet(uint8_t group, Span<const uint64_t> keys, const RowVisitor& visit) const override {
    DAMO_RETURN_IF_ERROR(CheckStrictlyAscending(keys));
    const std::vector<std::optional<std::string>> rows = CopyRows(group, keys);
    for (size_t i = 0; i < rows.size(); ++i) DAMO_RETURN_IF_ERROR(visit(i, rows[i]));
    return Status();
  }

  StatusOr<std::unique_ptr<StorageSnapshot>> NewSnapshot() const override {
    std::shared_lock<std::shared_mutex> lock(mutex_);
    return std::unique_ptr<StorageSnapshot>(std::make_unique<MemorySnapshot>(contents_));
  }

  StatusOr<std::unique_ptr<StorageImage>> NewImage() override { return NoFiles(); }

  StatusOr<std::unique_ptr<Storage>> NewStorageIn(const std::string& /*directory*/) const override {
    return NoFiles();
  }

  StatusOr<std::optional<std::string>> GetManifest(std::string_view name) const override {
    std::shared_lock<std::shared_mutex> lock(mutex_);
    const auto found = contents_.manifest.find(name);
    if (found == contents_.manifest.end()) return std::optional<std::string>();
    return std::optional<std::string>(found->second);
  }

  std::unique_ptr<StorageBatch> NewBatch() const override { return std::make_unique<MemoryBatch>(); }

  Status Write(StorageBatch& batch) override {
    std::unique_lock<std::shared_mutex> lock(mutex_);
    static_cast<const MemoryBatch&>(batch).ApplyTo(contents_);
    return Status();
  }

  StatusOr<std::unique_ptr<SortedBatch>> NewSortedBatch() override {
    const auto write = [this](StorageBatch& batch) { return Write(batch); };
    return std::unique_ptr<SortedBatch>(std::make_unique<MemorySortedBatch>(write));
  }

  Status Flush() override { return Status(); }

  // Drops them at once, as the fastest of compactions would.
  void ReleaseRows(uint8_t group, int64_t update_time) override {
    std::unique_lock<std::shared_mutex> lock(mutex_);
    for (auto it = contents_.rows.lower_bound(RowKey(group, 0).bytes());
         it != contents_.rows.end() && GroupOfRowKey(it->first) == group;) {
      const std::optional<int64_t> of_row = PeekUpdateTime(it->second, group, KeyOfRowKey(it->first));
      it = of_row && *of_row <= update_time ? contents_.rows.erase(it) : std::next(it);
    }
  }

  Status RevokeReleases() override { return Status(); }
  Status Compact(Span<const uint8_t> /*groups*/, const ByteProgress& /*progress*/) override {
    return Status();
  }
  Status VerifyFiles(const FileVisitor& /*visit*/) const override { return Status(); }  // has none
  StatusOr<StorageStats> Stats() const override { return StorageStats(); }
  Status Close() override { return Status(); }

 private:
  static Status NoFiles() { return FailedPrecondition("a storage in memory has no files"); }

  std::vector<std::optional<std::string>> CopyRows(uint8_t group, Span<const uint64_t> keys) const {
    std::vector<std::optional<std::string>> rows;
    rows.reserve(keys.size());
    std::shared_lock<std::shared_mutex> lock(mutex_);
    for (const uint64_t key : keys) {
      const auto found = contents_.rows.find(RowKey(group, key).bytes());
      rows.push_back(found == contents_.rows.end() ? std::nullopt : std::optional(found->second));
    }
    return rows;
  }

  mutable std::shared_mutex mutex_;  // guards contents_
  Contents contents_;
};

}  // namespace

std::unique_ptr<Storage> NewMemoryStorage() { return std::make_unique<MemoryStorage>(); }

}  // namespace damo
