// SPDX-License-Identifier: Apache-2.0
//
// TestTables: tables of either kind over a storage that is the test's, with trouble on demand.
#ifndef DAMO_TABLE_TEST_TABLES_H_
#define DAMO_TABLE_TEST_TABLES_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_allocations.h"
#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/redo/test_log_file_system.h"
#include "damo/storage/storage.h"
#include "damo/table/cached_table.h"
#include "damo/table/direct_table.h"
#include "damo/table/manifest.h"

namespace damo {

using Keys = std::vector<uint64_t>;
using Floats = std::vector<float>;

// Passes everything on to a storage that is someone else's, except where a test puts trouble in the way. Not
// set: no trouble.
class TroubledStorage final : public Storage {
 public:
  explicit TroubledStorage(Storage* target) : target_(target) {}

  Status MultiGet(uint8_t group, Span<const uint64_t> keys, const RowVisitor& visit) const override {
    if (before_read) DAMO_RETURN_IF_ERROR(before_read(keys));
    DAMO_RETURN_IF_ERROR(target_->MultiGet(group, keys, visit));
    return after_read ? after_read(keys) : Status();
  }
  Status Write(StorageBatch& batch) override {
    DAMO_RETURN_IF_ERROR(write_status);
    return target_->Write(batch);
  }
  StatusOr<std::unique_ptr<StorageSnapshot>> NewSnapshot() const override {
    if (before_snapshot) DAMO_RETURN_IF_ERROR(before_snapshot());
    return target_->NewSnapshot();
  }
  StatusOr<std::optional<std::string>> GetManifest(std::string_view name) const override {
    return target_->GetManifest(name);
  }
  StatusOr<std::unique_ptr<StorageImage>> NewImage() override { return target_->NewImage(); }
  StatusOr<std::unique_ptr<Storage>> NewStorageIn(const std::string& directory) const override {
    return target_->NewStorageIn(directory);
  }
  std::unique_ptr<StorageBatch> NewBatch() const override { return target_->NewBatch(); }
  StatusOr<std::unique_ptr<SortedBatch>> NewSortedBatch() override {
    if (before_sorted_batch) DAMO_RETURN_IF_ERROR(before_sorted_batch());
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<SortedBatch> batch, target_->NewSortedBatch());
    return std::unique_ptr<SortedBatch>(std::make_unique<TroubledSortedBatch>(*this, std::move(batch)));
  }
  StatusOr<bool> SettleCommit() override { return target_->SettleCommit(); }
  Status Flush() override { return target_->Flush(); }
  void ReleaseRows(uint8_t group, int64_t update_time) override { target_->ReleaseRows(group, update_time); }
  Status RevokeReleases() override { return target_->RevokeReleases(); }
  Status Compact(Span<const uint8_t> groups, const ByteProgress& progress) override {
    return target_->Compact(groups, progress);
  }
  Status VerifyFiles(const FileVisitor& visit) const override { return target_->VerifyFiles(visit); }
  StatusOr<StorageStats> Stats() const override { return target_->Stats(); }
  Status Close() override { return Status(); }

  std::function<Status(Span<const uint64_t> keys)> before_read;
  std::function<Status(Span<const uint64_t> keys)> after_read;
  Status write_status;
  std::function<Status()> before_snapshot;
  std::function<Status()> before_sorted_batch;
  std::function<Status(uint64_t key)> before_sorted_row;
  std::function<Status()> before_commit;

 private:
  class TroubledSortedBatch final : public SortedBatch {
   public:
    TroubledSortedBatch(const TroubledStorage& storage, std::unique_ptr<SortedBatch> target)
        : storage_(storage), target_(std::move(target)) {}
    Status PutRow(uint8_t group, uint64_t key, std::string_view row) override {
      if (storage_.before_sorted_row) DAMO_RETURN_IF_ERROR(storage_.before_sorted_row(key));
      return target_->PutRow(group, key, row);
    }
    Status DeleteRow(uint8_t group, uint64_t key) override { return target_->DeleteRow(group, key); }
    Status PutManifest(std::string_view name, std::string_view value) override {
      return target_->PutManifest(name, value);
    }
    Status DeleteManifest(std::string_view name) override { return target_->DeleteManifest(name); }
    Status Finish() override { return target_->Finish(); }
    Status Commit() override {
      if (storage_.before_commit) DAMO_RETURN_IF_ERROR(storage_.before_commit());
      const SparedAllocations all;  // a map in memory could commit half of it
      return target_->Commit();
    }

   private:
    const TroubledStorage& storage_;
    const std::unique_ptr<SortedBatch> target_;
  };

  Storage* const target_;
};

// A file system on which a test can make writing and syncing fail.
class TroubledLogFileSystem final : public ForwardingLogFileSystem {
 public:
  ssize_t WriteV(int fd, const iovec* parts, int num_parts) override {
    if (!full) return ForwardingLogFileSystem::WriteV(fd, parts, num_parts);
    errno = ENOSPC;
    return -1;
  }
  int SyncData(int fd) override {
    if (num_failing_syncs == 0) return ForwardingLogFileSystem::SyncData(fd);
    --num_failing_syncs;
    errno = EIO;
    return -1;
  }
  std::atomic<bool> full{false};
  std::atomic<int> num_failing_syncs{0};  // the next ones
};

enum class TableKind { kDirect, kCached };

// The tables of a store, as after opening it. Whoever makes another one over the same storage flushes first.
class TestTables {
 public:
  struct Options {
    TableKind kind = TableKind::kCached;
    int64_t cache_bytes = int64_t{1} << 20;
    uint64_t redo_bytes = uint64_t{1} << 20;
    Durability durability = Durability::kWal;
    std::optional<int64_t> ttl_seconds;
    bool background = true;  // whether rows are flushed in the background
  };

  // Both are borrowed.
  TestTables(Storage* rows, const Clock* clock, const Options& options)
      : options_(options), storage_(new TroubledStorage(rows)) {
    StoreSession::Settings settings;
    settings.directory = "/rows";
    settings.clock = clock;
    session_ = std::make_shared<StoreSession>(settings, std::unique_ptr<Storage>(storage_));
    StatusOr<Manifest> manifest = LoadOrCreateManifest(*rows, std::nullopt, false);
    EXPECT_TRUE(manifest.ok()) << manifest.status().ToString();
    manifest_ = *manifest;
    if (options.kind == TableKind::kCached) MakeShared();
  }
  ~TestTables() {
    if (write_back_ != nullptr) write_back_->Stop();  // before the tables that it flushes go
  }

  // The table of `config`; its rows and its state are those of the storage.
  EmbeddingTable* Add(const GroupConfig& config) {
    auto recipe = MakeGroupRecipe(config, options_.ttl_seconds);
    EXPECT_TRUE(recipe.ok()) << recipe.status().ToString();
    const std::unique_ptr<StorageBatch> batch = storage_->NewBatch();
    EXPECT_TRUE(PutGroupConfig(config, *batch).ok());
    const GroupState& state = manifest_.states[config.group];
    EXPECT_TRUE(PutGroupState(config.group, state, *batch).ok());
    EXPECT_TRUE(storage_->Write(*batch).ok());
    if (options_.kind == TableKind::kDirect) {
      tables_.push_back(std::make_unique<DirectTable>(session_, *recipe, state));
      tables_.back()->AllowRelease();
      return tables_.back().get();
    }
    auto table = std::make_unique<CachedTable>(
        session_, *recipe, state,
        CachedTable::Shared{memory_, log_.get(), write_back_.get(), options_.durability});
    EXPECT_TRUE(table->PrepareToApply(*storage_).ok());
    write_back_->AddSource(table->source());
    cached_[config.group] = table.get();
    tables_.push_back(std::move(table));
    tables_.back()->AllowRelease();
    return tables_.back().get();
  }

  // Brings everything into the storage.
  Status Flush() { return write_back_ != nullptr ? write_back_->Flush(*storage_) : Status(); }

  TroubledStorage& storage() { return *storage_; }
  TroubledLogFileSystem& log_files() { return log_files_; }
  const std::map<int, CachedTable*>& cached() const { return cached_; }
  StoreSession& session() { return *session_; }
  CacheMemory& memory() { return *memory_; }
  RedoLog& log() { return *log_; }
  WriteBack& write_back() { return *write_back_; }
  std::string log_directory() const { return directory_ / "redo"; }

 private:
  void MakeShared() {
    RedoLog::Options log_options;
    log_options.directory = log_directory();
    log_options.first_lsn = manifest_.redo_lsn;
    log_options.file_system = &log_files_;
    StatusOr<std::unique_ptr<RedoLog>> log = OpenRedoLog(log_options);
    EXPECT_TRUE(log.ok()) << log.status().ToString();
    log_ = std::move(*log);
    memory_ = std::make_shared<CacheMemory>(options_.cache_bytes);
    WriteBack::Options write_back_options;
    write_back_options.cache_bytes = options_.cache_bytes;
    write_back_options.redo_bytes = options_.redo_bytes;
    write_back_options.at_one_moment = options_.durability == Durability::kCheckpoint;
    write_back_ = std::make_unique<WriteBack>(write_back_options, *session_, log_.get());
    if (options_.background) write_back_->Start();
  }

  const Options options_;
  const TestDirectory directory_;
  TroubledLogFileSystem log_files_;
  TroubledStorage* const storage_;  // the session's
  std::shared_ptr<StoreSession> session_;
  Manifest manifest_;
  std::shared_ptr<CacheMemory> memory_;
  std::unique_ptr<RedoLog> log_;
  std::unique_ptr<WriteBack> write_back_;
  std::map<int, CachedTable*> cached_;
  std::vector<std::unique_ptr<EmbeddingTable>> tables_;
};

inline GroupConfig TableConfig(int group, int64_t dim, const std::string& optimizer,
                               const std::string& initializer) {
  GroupConfig config;
  config.group = group;
  config.dim = dim;
  config.optimizer = Parameters(optimizer);
  config.initializer = Parameters(initializer);
  return config;
}

// The keys first, first + 1, ...
inline Keys KeyRange(uint64_t first, size_t n) {
  Keys keys(n);
  std::iota(keys.begin(), keys.end(), first);
  return keys;
}

// What one apply call gets.
struct Batch {
  Keys keys;
  Floats gradients;
};

// `size` keys below `num_keys`, some of them more than once, with gradients of about 1.
inline Batch RandomBatch(std::mt19937_64& random, size_t size, uint64_t num_keys, int64_t dim) {
  Batch batch;
  std::uniform_real_distribution<float> gradient(-1, 1);
  for (size_t i = 0; i < size; ++i) batch.keys.push_back(random() % num_keys);
  for (size_t i = 0; i < size * dim; ++i) batch.gradients.push_back(gradient(random));
  return batch;
}

inline StatusOr<ApplyResult> TryApply(EmbeddingTable& table, const Batch& batch,
                                      const ApplyOptions& options = {}) {
  return table.ApplyGradients(batch.keys, batch.gradients, options, *Executor::Inline());
}

inline ApplyResult Apply(EmbeddingTable& table, const Batch& batch, const ApplyOptions& options = {}) {
  const StatusOr<ApplyResult> result = TryApply(table, batch, options);
  EXPECT_TRUE(result.ok()) << result.status().ToString();
  return result.ok() ? *result : ApplyResult();
}

inline Floats Lookup(const EmbeddingTable& table, const Keys& keys, const LookupOptions& options = {}) {
  Floats weights(keys.size() * table.dim(), std::nanf(""));
  const Status status = table.Lookup(keys, options, *Executor::Inline(), weights);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return weights;
}

inline Floats LookupToTrain(const EmbeddingTable& table, const Keys& keys) {
  LookupOptions options;
  options.training = true;
  return Lookup(table, keys, options);
}

inline bool SameBits(const Floats& a, const Floats& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

inline bool SameRow(const std::optional<Row>& a, const std::optional<Row>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return a->header.update_num == b->header.update_num && a->header.update_time == b->header.update_time &&
         SameBits(a->weights, b->weights) && SameBits(a->slots, b->slots);
}

// Files of a store's redo log that hold records, or may.
inline std::vector<std::string> RedoSegments(const std::string& store) {
  std::vector<std::string> segments;
  for (const auto& entry : std::filesystem::directory_iterator(store + "/redo")) {
    if (entry.path().extension() == ".redo") segments.push_back(entry.path());
  }
  return segments;
}

// That two tables have the same step, size, and rows for `keys`, in every bit.
inline testing::AssertionResult SameTables(const EmbeddingTable& a, const EmbeddingTable& b,
                                           const Keys& keys) {
  if (a.step() != b.step()) {
    return testing::AssertionFailure() << "steps " << a.step() << " and " << b.step();
  }
  const StatusOr<int64_t> size_a = a.Size();
  const StatusOr<int64_t> size_b = b.Size();
  if (!size_a.ok() || !size_b.ok()) {
    return testing::AssertionFailure() << size_a.status().ToString() << size_b.status().ToString();
  }
  if (*size_a != *size_b) return testing::AssertionFailure() << "sizes " << *size_a << " and " << *size_b;
  for (const uint64_t key : keys) {
    const StatusOr<std::optional<Row>> row_a = a.GetRow(key);
    const StatusOr<std::optional<Row>> row_b = b.GetRow(key);
    if (!row_a.ok() || !row_b.ok()) {
      return testing::AssertionFailure() << row_a.status().ToString() << row_b.status().ToString();
    }
    if (!SameRow(*row_a, *row_b)) return testing::AssertionFailure() << "rows of key " << key << " differ";
  }
  return testing::AssertionSuccess();
}

}  // namespace damo

#endif  // DAMO_TABLE_TEST_TABLES_H_
