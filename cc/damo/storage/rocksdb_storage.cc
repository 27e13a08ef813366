// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_storage.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/snapshot.h>
#include <rocksdb/statistics.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "damo/row/key.h"
#include "damo/storage/directory.h"
#include "damo/storage/rocksdb_compaction_wait.h"
#include "damo/storage/rocksdb_file_guard.h"
#include "damo/storage/rocksdb_image.h"
#include "damo/storage/rocksdb_options.h"
#include "damo/storage/rocksdb_sorted_batch.h"
#include "damo/storage/rocksdb_status.h"
#include "damo/storage/rocksdb_write_failure.h"

namespace damo {
namespace {

constexpr char kManifestFamily[] = "manifest";

// Keys per RocksDB MultiGet: enough to share work between keys, few enough that the blocks and rows held at
// once stay small beside any memory budget.
constexpr size_t kMultiGetChunk = 256;

constexpr size_t kScanReadaheadBytes = size_t{1} << 20;

// A sorted batch waits while level 0 has so many files of rows: each costs every read a look at its filter.
constexpr uint64_t kMaxLevel0Files = 12;

// Of a sorted batch's files. Writing one holds its filter and index in memory: two percent of it or so.
constexpr uint64_t kMaxIngestFileBytes = uint64_t{64} << 20;

// ---- opening ----

// Fails unless the database in `directory` has exactly our column families. Changes nothing there.
Status CheckFamilies(const std::string& directory, const RocksDbStorageOptions& options) {
  rocksdb::DBOptions db_options;
  db_options.env = EnvOf(options);
  std::vector<std::string> names;
  DAMO_RETURN_IF_ERROR(
      ToStatus(rocksdb::DB::ListColumnFamilies(db_options, directory, &names), "read its manifest"));
  std::sort(names.begin(), names.end());
  if (names == std::vector<std::string>{rocksdb::kDefaultColumnFamilyName, kManifestFamily}) return Status();
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "'" : ", '") + name + "'";
  return InvalidArgument("is a RocksDB database but not a damo store: its column families are ", list,
                         ", expected 'default', '", kManifestFamily, "'");
}

// RocksDB has no status code for a lock that is taken; it is told by the text.
Status OpenFailure(const rocksdb::Status& status) {
  const std::string text = status.ToString();
  if (text.find("lock hold by current process") != std::string::npos) {
    return FailedPrecondition("this process already has it open for writing (", text, ")");
  }
  if (text.find("While lock file") != std::string::npos) {
    return FailedPrecondition(
        "another process has it open for writing; close it there, or open it read-only (", text, ")");
  }
  return ToStatus(status, "open its database");
}

// ---- the storage ----

// A column family's handle, given back to its database when it goes.
struct FamilyReleaser {
  rocksdb::DB* db;
  void operator()(rocksdb::ColumnFamilyHandle* handle) const {
    // Fails only for the handle that a database keeps for itself.
    db->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
  }
};
using Family = std::unique_ptr<rocksdb::ColumnFamilyHandle, FamilyReleaser>;

class RocksDbBatch final : public StorageBatch {
 public:
  RocksDbBatch(rocksdb::ColumnFamilyHandle* rows, rocksdb::ColumnFamilyHandle* manifest)
      : rows_(rows), manifest_(manifest) {}

  Status PutRow(uint8_t group, uint64_t key, std::string_view row) override {
    return ToStatus(writes_.Put(rows_, ToSlice(RowKey(group, key).bytes()), ToSlice(row)), "add a row of ",
                    row.size(), " bytes to a batch");
  }
  Status DeleteRow(uint8_t group, uint64_t key) override {
    return ToStatus(writes_.Delete(rows_, ToSlice(RowKey(group, key).bytes())), "add a deletion to a batch");
  }
  Status PutManifest(std::string_view name, std::string_view value) override {
    return ToStatus(writes_.Put(manifest_, ToSlice(name), ToSlice(value)), "add manifest value '", name,
                    "' to a batch");
  }
  Status DeleteManifest(std::string_view name) override {
    return ToStatus(writes_.Delete(manifest_, ToSlice(name)), "add the deletion of manifest value '", name,
                    "' to a batch");
  }

  rocksdb::WriteBatch* writes() { return &writes_; }

 private:
  rocksdb::ColumnFamilyHandle* const rows_;
  rocksdb::ColumnFamilyHandle* const manifest_;
  rocksdb::WriteBatch writes_;
};

// Reads rows a chunk at a time, into memory that it uses again.
class ChunkReader {
 public:
  ChunkReader(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* rows, size_t chunk_size)
      : db_(db),
        rows_(rows),
        keys_(chunk_size),
        slices_(chunk_size),
        values_(chunk_size),
        statuses_(chunk_size) {}

  // Reads at most chunk_size rows. Each status is OK, not found, or a failure.
  void Read(const rocksdb::ReadOptions& options, uint8_t group, Span<const uint64_t> keys) {
    for (size_t i = 0; i < keys.size(); ++i) {
      keys_[i] = RowKey(group, keys[i]);
      slices_[i] = ToSlice(keys_[i].bytes());
      values_[i].Reset();
    }
    db_->MultiGet(options, rows_, keys.size(), slices_.data(), values_.data(), statuses_.data(),
                  /*sorted_input=*/true);
  }

  // Of the i-th key of the last Read.
  const rocksdb::Status& status(size_t i) const { return statuses_[i]; }
  std::optional<std::string_view> row(size_t i) const {
    if (statuses_[i].IsNotFound()) return std::nullopt;
    return ToView(values_[i]);
  }

 private:
  rocksdb::DB* const db_;
  rocksdb::ColumnFamilyHandle* const rows_;
  std::vector<RowKey> keys_;
  std::vector<rocksdb::Slice> slices_;
  std::vector<rocksdb::PinnableSlice> values_;
  std::vector<rocksdb::Status> statuses_;
};

class RocksDbCursor final : public RowCursor {
 public:
  // All are borrowed.
  RocksDbCursor(const std::string& directory, rocksdb::DB* db, rocksdb::ColumnFamilyHandle* rows,
                const rocksdb::Snapshot* snapshot, uint8_t group)
      : directory_(directory),
        first_(static_cast<char>(group)),
        limit_(static_cast<char>(group + 1)),
        limit_slice_(&limit_, 1) {
    rocksdb::ReadOptions read;
    read.snapshot = snapshot;
    if (group < UINT8_MAX) read.iterate_upper_bound = &limit_slice_;
    read.fill_cache = false;  // a pass over everything must not push out what training uses
    read.readahead_size = kScanReadaheadBytes;
    iterator_.reset(db->NewIterator(read, rows));
  }

  bool Next() override {
    if (at_row_) {
      iterator_->Next();
    } else {
      iterator_->Seek(rocksdb::Slice(&first_, 1));
    }
    at_row_ = iterator_->Valid();
    if (at_row_ && iterator_->key().size() != kRowKeyBytes) {
      failure_ =
          DataLoss(Context(), " has a key of ", iterator_->key().size(), " bytes, expected ", kRowKeyBytes);
      return false;
    }
    return at_row_;
  }
  uint64_t key() const override { return KeyOfRowKey(ToView(iterator_->key())); }
  std::string_view row() const override { return ToView(iterator_->value()); }
  Status status() const override {
    return failure_.ok() ? ToStatus(iterator_->status(), Context()) : failure_;
  }

 private:
  std::string Context() const {
    return StrCat("scan store '", directory_, "': group ", int{static_cast<uint8_t>(first_)});
  }

  const std::string& directory_;
  const char first_;
  const char limit_;
  const rocksdb::Slice limit_slice_;
  std::unique_ptr<rocksdb::Iterator> iterator_;
  bool at_row_ = false;
  Status failure_;
};

class RocksDbSnapshot final : public StorageSnapshot {
 public:
  // All are borrowed.
  RocksDbSnapshot(const std::string& directory, rocksdb::DB* db, rocksdb::ColumnFamilyHandle* rows,
                  rocksdb::ColumnFamilyHandle* manifest)
      : directory_(directory), db_(db), rows_(rows), manifest_(manifest), snapshot_(db) {}

  std::unique_ptr<RowCursor> NewCursor(uint8_t group) const override {
    return std::make_unique<RocksDbCursor>(directory_, db_, rows_, snapshot_.snapshot(), group);
  }

  Status ScanManifest(const ManifestVisitor& visit) const override {
    rocksdb::ReadOptions read;
    read.snapshot = snapshot_.snapshot();
    const std::unique_ptr<rocksdb::Iterator> value(db_->NewIterator(read, manifest_));
    for (value->SeekToFirst(); value->Valid(); value->Next()) {
      DAMO_RETURN_IF_ERROR(visit(ToView(value->key()), ToView(value->value())));
    }
    return ToStatus(value->status(), "scan store '", directory_, "': manifest");
  }

 private:
  const std::string& directory_;
  rocksdb::DB* const db_;
  rocksdb::ColumnFamilyHandle* const rows_;
  rocksdb::ColumnFamilyHandle* const manifest_;
  mutable rocksdb::ManagedSnapshot snapshot_;  // snapshot() is not const
};

class RocksDbStorage final : public Storage {
 public:
  RocksDbStorage(std::string directory, const RocksDbStorageOptions& options)
      : directory_(std::move(directory)),
        options_(options),
        parts_(MakeSharedParts(options)),
        ingest_folder_(directory_, EnvOf(options)) {}

  // Called once, before anything else. A failure names no path: the caller does.
  Status Open(bool create) {
    rocksdb::DBOptions db_options = MakeDbOptions(options_, parts_);
    db_options.env = &env_;
    db_options.listeners = {write_failure_, compaction_wait_};
    db_options.create_if_missing = create;
    db_options.create_missing_column_families = create;
    const rocksdb::ColumnFamilyOptions family = MakeFamilyOptions(options_, parts_);
    const std::vector<rocksdb::ColumnFamilyDescriptor> families = {
        {rocksdb::kDefaultColumnFamilyName, family}, {kManifestFamily, family}};
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    const rocksdb::Status status =
        options_.read_only ? rocksdb::DB::OpenForReadOnly(db_options, directory_, families, &handles, &db)
                           : rocksdb::DB::Open(db_options, directory_, families, &handles, &db);
    if (!status.ok()) return OpenFailure(status);
    db_.reset(db);
    rows_ = Family(handles[0], FamilyReleaser{db});
    manifest_ = Family(handles[1], FamilyReleaser{db});
    return options_.read_only ? Status() : ingest_folder_.RemoveLeftovers();
  }

  Status MultiGet(uint8_t group, Span<const uint64_t> keys, const RowVisitor& visit) const override {
    DAMO_RETURN_IF_ERROR(CheckStrictlyAscending(keys));
    rocksdb::ReadOptions read;  // verifies checksums
    std::optional<rocksdb::ManagedSnapshot> snapshot;
    if (keys.size() > kMultiGetChunk) {  // RocksDB reads one chunk as of one moment; several need a snapshot
      snapshot.emplace(db_.get());
      read.snapshot = snapshot->snapshot();
    }
    ChunkReader chunk(db_.get(), rows_.get(), std::min(keys.size(), kMultiGetChunk));
    for (size_t begin = 0; begin < keys.size(); begin += kMultiGetChunk) {
      const size_t size = std::min(keys.size() - begin, kMultiGetChunk);
      chunk.Read(read, group, keys.subspan(begin, size));
      for (size_t i = 0; i < size; ++i) {
        const std::optional<std::string_view> row = chunk.row(i);
        if (row) DAMO_RETURN_IF_ERROR(ReadStatus(chunk.status(i), group, keys.size()));
        DAMO_RETURN_IF_ERROR(visit(begin + i, row));
      }
    }
    return Status();
  }

  StatusOr<std::unique_ptr<StorageSnapshot>> NewSnapshot() const override {
    return std::unique_ptr<StorageSnapshot>(
        std::make_unique<RocksDbSnapshot>(directory_, db_.get(), rows_.get(), manifest_.get()));
  }

  StatusOr<std::unique_ptr<StorageImage>> NewImage() override {
    if (options_.read_only) {
      return FailedPrecondition("store '", directory_, "' is open read-only: its files are its writer's");
    }
    DAMO_RETURN_IF_ERROR(FlushMemtables("take an image of"));
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<StorageImage> image,
                          RocksDbImage::Take(db_.get(), EnvOf(options_)));
    return image;
  }

  StatusOr<std::optional<std::string>> GetManifest(std::string_view name) const override {
    std::string value;
    const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), manifest_.get(), ToSlice(name), &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    DAMO_RETURN_IF_ERROR(ToStatus(status, "read store '", directory_, "': manifest value '", name, "'"));
    return std::optional<std::string>(std::move(value));
  }

  std::unique_ptr<StorageBatch> NewBatch() const override {
    return std::make_unique<RocksDbBatch>(rows_.get(), manifest_.get());
  }

  Status Write(StorageBatch& batch) override {
    if (options_.read_only) return ReadOnlyFailure();
    DAMO_RETURN_IF_ERROR(CheckStillWriting("write to"));
    rocksdb::WriteOptions write;
    write.sync = options_.durability == Durability::kSync;
    write.disableWAL = options_.durability == Durability::kCheckpoint;
    return ToStatus(db_->Write(write, static_cast<RocksDbBatch&>(batch).writes()), "write to store '",
                    directory_, "'");
  }

  StatusOr<std::unique_ptr<SortedBatch>> NewSortedBatch() override {
    if (options_.read_only) return ReadOnlyFailure();
    const auto ingest = [this](const std::vector<rocksdb::IngestExternalFileArg>& files) {
      return Ingest(files);
    };
    return std::unique_ptr<SortedBatch>(std::make_unique<RocksDbSortedBatch>(RocksDbSortedBatch::Target{
        &ingest_folder_, db_.get(), rows_.get(), manifest_.get(), kMaxIngestFileBytes, ingest}));
  }

  Status Flush() override {
    if (options_.read_only) return Status();  // nothing was written
    return FlushMemtables("flush");
  }

  StatusOr<StorageStats> Stats() const override {
    StorageStats stats;
    DAMO_ASSIGN_OR_RETURN(stats.disk_bytes, DatabaseBytes(directory_));
    stats.block_cache_hits = parts_.statistics->getTickerCount(rocksdb::BLOCK_CACHE_DATA_HIT);
    stats.block_cache_misses = parts_.statistics->getTickerCount(rocksdb::BLOCK_CACHE_DATA_MISS);
    if (!db_->GetIntProperty(rows_.get(), rocksdb::DB::Properties::kBlockCacheUsage,
                             &stats.block_cache_bytes)) {
      return Internal("stats of store '", directory_, "': RocksDB does not tell its block cache's usage");
    }
    return stats;
  }

  // Moves everything to table files first, so that the next open, whoever's it is, has no log to replay.
  Status Close() override {
    const Status flushed = options_.read_only ? Status() : FlushMemtables("close");
    rows_.reset();
    manifest_.reset();
    const Status closed = ToStatus(db_->Close(), "close store '", directory_, "'");
    db_.reset();
    return flushed.ok() ? closed : flushed;
  }

 private:
  Status ReadStatus(const rocksdb::Status& status, uint8_t group, size_t num_keys) const {
    return ToStatus(status, "read store '", directory_, "': group ", int{group}, ", ", num_keys, " keys");
  }

  Status CheckStillWriting(std::string_view action) const {
    return ToStatus(write_failure_->first(), action, " store '", directory_,
                    "': nothing is written since a file could not be; remove the cause, close the store and "
                    "open it again");
  }

  Status ReadOnlyFailure() const {
    return FailedPrecondition("write to store '", directory_, "': it is open read-only");
  }

  // Commits the files of a sorted batch. RocksDB syncs them, their directory and its record of them.
  Status Ingest(const std::vector<rocksdb::IngestExternalFileArg>& files) {
    DAMO_RETURN_IF_ERROR(CheckStillWriting("write a sorted batch to"));
    compaction_wait_->Until(
        [this] { return !write_failure_->first().ok() || NumLevel0Files() < kMaxLevel0Files; });
    // What was written before may be in memtables, or in a log that is not synced; a loss of power must not
    // leave the batch without it.
    DAMO_RETURN_IF_ERROR(FlushMemtables("write a sorted batch to"));
    return ToStatus(db_->IngestExternalFiles(files), "write a sorted batch to store '", directory_, "'");
  }

  // Not only the log: afterwards there is none to replay, and none to count as disk space.
  uint64_t NumLevel0Files() const {
    std::string number;
    if (!db_->GetProperty(rows_.get(), rocksdb::DB::Properties::kNumFilesAtLevelPrefix + "0", &number))
      return 0;
    return std::stoull(number);
  }

  Status FlushMemtables(std::string_view action) {
    DAMO_RETURN_IF_ERROR(CheckStillWriting(action));
    rocksdb::FlushOptions flush;
    flush.wait = true;
    flush.allow_write_stall = true;  // else it would first wait for compactions to catch up
    return ToStatus(db_->Flush(flush, {rows_.get(), manifest_.get()}), action, " store '", directory_, "'");
  }

  const std::string directory_;
  const RocksDbStorageOptions options_;
  const SharedParts parts_;
  const std::shared_ptr<WriteFailure> write_failure_ = std::make_shared<WriteFailure>();
  GuardedEnv env_{EnvOf(options_), write_failure_};
  IngestFolder ingest_folder_;
  const std::shared_ptr<CompactionWait> compaction_wait_ = std::make_shared<CompactionWait>();
  std::unique_ptr<rocksdb::DB> db_;
  Family rows_;  // these two go before db_
  Family manifest_;
};

Status CheckArguments(const std::string& directory, const RocksDbStorageOptions& options) {
  if (directory.empty()) return InvalidArgument("the path is empty");
  if (directory.find('\0') != std::string::npos) return InvalidArgument("the path contains a zero byte");
  if (options.memory_budget < RocksDbStorageOptions::kMinMemoryBudget) {
    return InvalidArgument("memory_budget must be >= ", RocksDbStorageOptions::kMinMemoryBudget,
                           " bytes. Received: memory_budget=", options.memory_budget);
  }
  if (options.memtable_bytes < 0 || options.memtable_bytes > options.memory_budget / 4) {
    return InvalidArgument("memtable_bytes must be in [0, memory_budget / 4]. Received: memtable_bytes=",
                           options.memtable_bytes, ", memory_budget=", options.memory_budget);
  }
  return Status();
}

using StorageOr = StatusOr<std::unique_ptr<Storage>>;

StorageOr Create(const std::string& directory, const RocksDbStorageOptions& options) {
  DAMO_ASSIGN_OR_RETURN(const bool marked, BeginCreation(directory));
  auto storage = std::make_unique<RocksDbStorage>(directory, options);
  const Status opened = storage->Open(/*create=*/true);
  if (!opened.ok()) {
    // Another process was quicker and may be done already: its store must not be taken for unfinished.
    if (marked && opened.code() == StatusCode::kFailedPrecondition) EndCreation(directory).IgnoreError();
    return opened;
  }
  DAMO_RETURN_IF_ERROR(EndCreation(directory));
  return std::unique_ptr<Storage>(std::move(storage));
}

StorageOr OpenExisting(const std::string& directory, const RocksDbStorageOptions& options) {
  DAMO_RETURN_IF_ERROR(CheckFamilies(directory, options));
  auto storage = std::make_unique<RocksDbStorage>(directory, options);
  DAMO_RETURN_IF_ERROR(storage->Open(/*create=*/false));
  return std::unique_ptr<Storage>(std::move(storage));
}

// Opens beside a writer, which may delete files after this open has read their names and before it has opened
// them. An open that fails so is tried again, from the newer state; files that are really missing fail each.
StorageOr OpenExistingReadOnly(const std::string& directory, const RocksDbStorageOptions& options) {
  constexpr int kAttempts = 10;
  for (int attempt = 1;; ++attempt) {
    StorageOr storage = OpenExisting(directory, options);
    const StatusCode code = storage.status().code();
    const bool files_missing = code == StatusCode::kIoError || code == StatusCode::kDataLoss;
    if (!files_missing || attempt == kAttempts) return storage;
  }
}

StorageOr CheckAndOpen(const std::string& directory, const RocksDbStorageOptions& options) {
  DAMO_RETURN_IF_ERROR(CheckArguments(directory, options));
  DAMO_ASSIGN_OR_RETURN(const DirectoryContent content, InspectDirectory(directory));
  if (!options.read_only && HasCheckpoint(directory)) {
    return FailedPrecondition("it is a checkpoint: open it read-only, or restore a store from it");
  }
  if (content == DirectoryContent::kDatabase) {
    return options.read_only ? OpenExistingReadOnly(directory, options) : OpenExisting(directory, options);
  }
  if (options.create_if_missing && !options.read_only) return Create(directory, options);
  if (content == DirectoryContent::kAbsent) return NotFound("there is no such directory");
  return NotFound("the directory holds no store");
}

}  // namespace

StatusOr<std::unique_ptr<Storage>> OpenRocksDbStorage(const std::string& directory,
                                                      const RocksDbStorageOptions& options) {
  StorageOr storage = CheckAndOpen(directory, options);
  if (storage.ok()) return storage;
  return storage.status().WithContext(StrCat("open store '", directory, "'"));
}

}  // namespace damo
