// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_storage.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/snapshot.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/statistics.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "damo/row/key.h"
#include "damo/storage/directory.h"
#include "damo/storage/rocksdb_compaction.h"
#include "damo/storage/rocksdb_database.h"
#include "damo/storage/rocksdb_image.h"
#include "damo/storage/rocksdb_ingest_folder.h"
#include "damo/storage/rocksdb_options.h"
#include "damo/storage/rocksdb_released_rows.h"
#include "damo/storage/rocksdb_sorted_batch.h"
#include "damo/storage/rocksdb_status.h"

namespace damo {
namespace {

// Keys per RocksDB MultiGet: enough to share work between keys, few enough that the blocks and rows held at
// once stay small beside any memory budget.
constexpr size_t kMultiGetChunk = 256;

constexpr size_t kScanReadaheadBytes = size_t{1} << 20;

// A sorted batch waits while level 0 has so many files of rows: each costs every read a look at its filter.
constexpr uint64_t kMaxLevel0Files = 12;

// Of a sorted batch's files. Writing one holds its filter and index in memory: two percent of it or so.
constexpr uint64_t kMaxIngestFileBytes = uint64_t{64} << 20;

// Of a copy while it is written: its rows come in sorted batches.
constexpr int64_t kCopyMemoryBudget = int64_t{8} << 20;

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
                         ", expected 'default', '", kManifestFamily, "'; or its file MANIFEST is cut short");
}

// ---- the storage ----

using DatabasePointer = std::shared_ptr<RocksDbDatabase>;

class RocksDbBatch final : public StorageBatch {
 public:
  // Only the families of `database` matter: they are the same in the one that the batch is written to.
  explicit RocksDbBatch(DatabasePointer database) : database_(std::move(database)) {}

  Status PutRow(uint8_t group, uint64_t key, std::string_view row) override {
    return ToStatus(writes_.Put(database_->rows(), ToSlice(RowKey(group, key).bytes()), ToSlice(row)),
                    "add a row of ", row.size(), " bytes to a batch");
  }
  Status DeleteRow(uint8_t group, uint64_t key) override {
    return ToStatus(writes_.Delete(database_->rows(), ToSlice(RowKey(group, key).bytes())),
                    "add a deletion to a batch");
  }
  Status PutManifest(std::string_view name, std::string_view value) override {
    return ToStatus(writes_.Put(database_->manifest(), ToSlice(name), ToSlice(value)), "add manifest value '",
                    name, "' to a batch");
  }
  Status DeleteManifest(std::string_view name) override {
    return ToStatus(writes_.Delete(database_->manifest(), ToSlice(name)),
                    "add the deletion of manifest value '", name, "' to a batch");
  }

  rocksdb::WriteBatch* writes() { return &writes_; }

 private:
  const DatabasePointer database_;
  rocksdb::WriteBatch writes_;
};

// Reads rows a chunk at a time, into memory that it uses again.
class ChunkReader {
 public:
  // `database` outlives it.
  ChunkReader(const RocksDbDatabase& database, size_t chunk_size)
      : database_(database),
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
    database_->MultiGet(options, database_.rows(), keys.size(), slices_.data(), values_.data(),
                        statuses_.data(), /*sorted_input=*/true);
  }

  // Of the i-th key of the last Read.
  const rocksdb::Status& status(size_t i) const { return statuses_[i]; }
  std::optional<std::string_view> row(size_t i) const {
    if (statuses_[i].IsNotFound()) return std::nullopt;
    return ToView(values_[i]);
  }

 private:
  const RocksDbDatabase& database_;
  std::vector<RowKey> keys_;
  std::vector<rocksdb::Slice> slices_;
  std::vector<rocksdb::PinnableSlice> values_;
  std::vector<rocksdb::Status> statuses_;
};

class RocksDbCursor final : public RowCursor {
 public:
  // All are borrowed.
  RocksDbCursor(const std::string& directory, const RocksDbDatabase& database,
                const rocksdb::Snapshot* snapshot, uint8_t group, uint64_t first_key)
      : directory_(directory),
        first_(group, first_key),
        limit_(static_cast<char>(group + 1)),
        limit_slice_(&limit_, 1) {
    rocksdb::ReadOptions read;
    read.snapshot = snapshot;
    if (group < UINT8_MAX) read.iterate_upper_bound = &limit_slice_;
    read.fill_cache = false;  // a pass over everything must not push out what training uses
    read.readahead_size = kScanReadaheadBytes;
    iterator_.reset(database->NewIterator(read, database.rows()));
  }

  bool Next() override {
    if (at_row_) {
      iterator_->Next();
    } else {
      iterator_->Seek(ToSlice(first_.bytes()));
    }
    at_row_ = iterator_->Valid();
    if (!at_row_) return false;
    const rocksdb::Slice key = iterator_->key();  // asked for once: it is a call through three layers
    if (key.size() != kRowKeyBytes) {
      failure_ = DataLoss(Context(), " has a key of ", key.size(), " bytes, expected ", kRowKeyBytes);
      return false;
    }
    key_ = KeyOfRowKey(ToView(key));
    return true;
  }
  uint64_t key() const override { return key_; }
  std::string_view row() const override { return ToView(iterator_->value()); }
  Status status() const override {
    return failure_.ok() ? ToStatus(iterator_->status(), Context()) : failure_;
  }

 private:
  std::string Context() const {
    return StrCat("scan store '", directory_, "': group ", int{GroupOfRowKey(first_.bytes())});
  }

  const std::string& directory_;
  const RowKey first_;
  const char limit_;
  const rocksdb::Slice limit_slice_;
  std::unique_ptr<rocksdb::Iterator> iterator_;
  bool at_row_ = false;
  uint64_t key_ = 0;  // of that row
  Status failure_;
};

class RocksDbSnapshot final : public StorageSnapshot {
 public:
  // `directory` outlives it.
  RocksDbSnapshot(const std::string& directory, DatabasePointer database)
      : directory_(directory), database_(std::move(database)), snapshot_(database_->get()) {}

  std::unique_ptr<RowCursor> NewCursorFrom(uint8_t group, uint64_t first_key) const override {
    return std::make_unique<RocksDbCursor>(directory_, *database_, snapshot_.snapshot(), group, first_key);
  }

  Status ScanManifest(const ManifestVisitor& visit) const override {
    rocksdb::ReadOptions read;
    read.snapshot = snapshot_.snapshot();
    const std::unique_ptr<rocksdb::Iterator> value((*database_)->NewIterator(read, database_->manifest()));
    for (value->SeekToFirst(); value->Valid(); value->Next()) {
      DAMO_RETURN_IF_ERROR(visit(ToView(value->key()), ToView(value->value())));
    }
    return ToStatus(value->status(), "scan store '", directory_, "': manifest");
  }

 private:
  const std::string& directory_;
  const DatabasePointer database_;             // goes after snapshot_
  mutable rocksdb::ManagedSnapshot snapshot_;  // snapshot() is not const
};

class RocksDbStorage final : public Storage {
 public:
  RocksDbStorage(std::string directory, const RocksDbStorageOptions& options)
      : ingest_folder_(directory, EnvOf(options)),
        common_{std::move(directory), options, MakeSharedParts(options),
                &ingest_folder_,      &lock_,  std::make_shared<ReleasedRows>()},
        file_options_(MakeFileOptions(common_)) {}

  // Called once, before anything else. A failure names no path: the caller does.
  Status Open(bool create) {
    if (options().read_only) {
      DAMO_ASSIGN_OR_RETURN(state_, DatabaseState(directory()));
    }
    DAMO_ASSIGN_OR_RETURN(database_, RocksDbDatabase::Open(common_, create));
    return options().read_only ? Status() : ingest_folder_.RemoveLeftovers();
  }

  Status MultiGet(uint8_t group, Span<const uint64_t> keys, const RowVisitor& visit) const override {
    DAMO_RETURN_IF_ERROR(CheckStrictlyAscending(keys));
    const DatabasePointer database = Current();
    rocksdb::ReadOptions read;  // verifies checksums
    std::optional<rocksdb::ManagedSnapshot> snapshot;
    if (keys.size() > kMultiGetChunk) {  // RocksDB reads one chunk as of one moment; several need a snapshot
      snapshot.emplace(database->get());
      read.snapshot = snapshot->snapshot();
    }
    ChunkReader chunk(*database, std::min(keys.size(), kMultiGetChunk));
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
    return std::unique_ptr<StorageSnapshot>(std::make_unique<RocksDbSnapshot>(directory(), Current()));
  }

  StatusOr<std::unique_ptr<StorageImage>> NewImage() override {
    if (options().read_only) {
      return FailedPrecondition("store '", directory(), "' is open read-only: its files are its writer's");
    }
    DAMO_ASSIGN_OR_RETURN(DatabasePointer database, FlushMemtables("take an image of"));
    return RocksDbImage::Take(std::move(database), EnvOf(options()));
  }

  StatusOr<std::unique_ptr<Storage>> NewStorageIn(const std::string& directory) const override {
    RocksDbStorageOptions copy_options;
    copy_options.memory_budget = kCopyMemoryBudget;
    copy_options.durability = Durability::kWal;  // what is closed is durable
    copy_options.env_for_test = options().env_for_test;
    return OpenRocksDbStorage(directory, copy_options);
  }

  StatusOr<std::optional<std::string>> GetManifest(std::string_view name) const override {
    const DatabasePointer database = Current();
    std::string value;
    const rocksdb::Status status =
        (*database)->Get(rocksdb::ReadOptions(), database->manifest(), ToSlice(name), &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    DAMO_RETURN_IF_ERROR(ToStatus(status, "read store '", directory(), "': manifest value '", name, "'"));
    return std::optional<std::string>(std::move(value));
  }

  std::unique_ptr<StorageBatch> NewBatch() const override {
    return std::make_unique<RocksDbBatch>(Current());
  }

  Status Write(StorageBatch& batch) override {
    DAMO_ASSIGN_OR_RETURN(const DatabasePointer database, Writable("write to"));
    rocksdb::WriteOptions write;
    write.sync = options().durability == Durability::kSync;
    write.disableWAL = options().durability == Durability::kCheckpoint;
    return ToStatus(database->Write(write, static_cast<RocksDbBatch&>(batch).writes()), "write to store '",
                    directory(), "'");
  }

  // Its files are the same whichever database takes them over: one that fails meanwhile does no harm.
  StatusOr<std::unique_ptr<SortedBatch>> NewSortedBatch() override {
    if (options().read_only) return ReadOnlyFailure();
    const auto ingest = [this](const std::vector<std::string>& rows,
                               const std::vector<std::string>& manifest) { return Ingest(rows, manifest); };
    return std::unique_ptr<SortedBatch>(std::make_unique<RocksDbSortedBatch>(
        RocksDbSortedBatch::Target{&ingest_folder_, &file_options_, kMaxIngestFileBytes, ingest}));
  }

  StatusOr<bool> SettleCommit() override {
    if (!commit_in_doubt_) return false;
    // If the database that failed has given way to another by now, that one has settled it.
    DAMO_RETURN_IF_ERROR(Writable("find out whether a batch that failed is in").status());
    commit_in_doubt_ = false;
    return true;
  }

  Status Flush() override {
    if (options().read_only) return Status();  // nothing was written
    return FlushMemtables("flush").status();
  }

  StatusOr<bool> UpToDate() const override {
    if (!options().read_only) return true;
    DAMO_ASSIGN_OR_RETURN(const std::string state, DatabaseState(directory()));
    return state == state_;
  }

  void ReleaseRows(uint8_t group, int64_t update_time) override {
    common_.released->Release(group, update_time);
  }

  Status RevokeReleases() override {
    const DatabasePointer database = Current();
    // Compactions under way have judged by what was released; this waits for them.
    DAMO_RETURN_IF_ERROR(
        ToStatus((*database)->PauseBackgroundWork(), "wait for compactions of store '", directory(), "'"));
    common_.released->Clear();
    return ToStatus((*database)->ContinueBackgroundWork(), "go on with compactions of store '", directory(),
                    "'");
  }

  Status Compact(Span<const uint8_t> groups, const ByteProgress& progress) override {
    DAMO_ASSIGN_OR_RETURN(const DatabasePointer database, Writable("compact"));
    return CompactGroups(*database, groups, progress)
        .WithContext(StrCat("compact store '", directory(), "'"));
  }

  Status VerifyFiles(const FileVisitor& visit) const override {
    const DatabasePointer database = Current();
    for (const rocksdb::LiveFileMetaData& file : LiveFiles(*database)) {
      const std::string path = file.db_path + file.name;
      const rocksdb::Status verified = VerifyFile(path);
      if (!verified.ok() && WasReplaced(file, path)) continue;
      DAMO_RETURN_IF_ERROR(visit(path, ToStatus(verified, "verify its checksums")));
    }
    return Status();
  }

  StatusOr<StorageStats> Stats() const override {
    StorageStats stats;
    DAMO_ASSIGN_OR_RETURN(stats.disk_bytes, DatabaseBytes(directory()));
    stats.block_cache_hits = common_.parts.statistics->getTickerCount(rocksdb::BLOCK_CACHE_DATA_HIT);
    stats.block_cache_misses = common_.parts.statistics->getTickerCount(rocksdb::BLOCK_CACHE_DATA_MISS);
    const DatabasePointer database = Current();
    if (!(*database)->GetIntProperty(database->rows(), rocksdb::DB::Properties::kBlockCacheUsage,
                                     &stats.block_cache_bytes)) {
      return Internal("stats of store '", directory(), "': RocksDB does not tell its block cache's usage");
    }
    return stats;
  }

  // Moves everything to table files first, so that the next open, whoever's it is, has no log to replay.
  Status Close() override {
    const Status flushed = options().read_only ? Status() : FlushMemtables("close").status();
    const Status closed = ToStatus(database_->Close(), "close store '", directory(), "'");
    database_.reset();
    return flushed.ok() ? closed : flushed;
  }

 private:
  // Of the files of sorted batches.
  static rocksdb::Options MakeFileOptions(const RocksDbDatabase::Common& common) {
    rocksdb::Options options(MakeDbOptions(common.options, common.parts),
                             MakeFamilyOptions(common.options, common.parts));
    options.env = EnvOf(common.options);
    return options;
  }

  const std::string& directory() const { return common_.directory; }
  const RocksDbStorageOptions& options() const { return common_.options; }

  // The database to read from. What is read from it holds on to it: another may take its place meanwhile.
  DatabasePointer Current() const {
    const std::lock_guard<std::mutex> lock(database_mutex_);
    return database_;
  }

  // The database to write to: the current one, or where that has failed a new one, opened by this call.
  // `action` is for the message.
  StatusOr<DatabasePointer> Writable(std::string_view action) {
    if (options().read_only) return ReadOnlyFailure();
    if (const DatabasePointer database = Current(); database->failure().ok()) return database;
    // I/O under the lock on purpose: whoever waits for it waits for the database that is being opened.
    const std::lock_guard<std::mutex> lock(reopen_mutex_);
    const DatabasePointer failed = Current();
    const rocksdb::Status failure = failed->failure();
    if (failure.ok()) return failed;
    StatusOr<DatabasePointer> fresh = OpenInPlaceOf(*failed);
    if (!fresh.ok()) {
      return ToStatus(failure, action, " store '", directory(),
                      "': nothing is written since a file could not be, and its database could not be opened "
                      "anew (",
                      fresh.status().message(), "); the first failure");
    }
    const std::lock_guard<std::mutex> database_lock(database_mutex_);
    database_ = *fresh;
    return fresh;
  }

  // RocksDB has no way back from most failures that can be trusted (decision 8): what is on disk is opened
  // anew, as after the death of the process.
  StatusOr<DatabasePointer> OpenInPlaceOf(RocksDbDatabase& failed) {
    if (options().durability == Durability::kCheckpoint) {
      return FailedPrecondition("what is in its memory would be lost; close the store and open it again");
    }
    DAMO_RETURN_IF_ERROR(failed.EndWriting());
    DAMO_ASSIGN_OR_RETURN(DatabasePointer fresh, RocksDbDatabase::Open(common_, /*create=*/false));
    DAMO_RETURN_IF_ERROR(failed.UndoFailedWrites(*fresh));
    return fresh;
  }

  static std::vector<rocksdb::LiveFileMetaData> LiveFiles(RocksDbDatabase& database) {
    std::vector<rocksdb::LiveFileMetaData> files;
    database->GetLiveFilesMetaData(&files);
    return files;
  }

  rocksdb::Status VerifyFile(const std::string& path) const {
    rocksdb::Options file_options;
    file_options.env = EnvOf(options());
    rocksdb::SstFileReader reader(file_options);
    const rocksdb::Status opened = reader.Open(path);
    rocksdb::ReadOptions read;
    read.readahead_size = kScanReadaheadBytes;
    return opened.ok() ? reader.VerifyChecksum(read) : opened;
  }

  // Whether a file that could be read no more is gone because it is no longer needed. A reader beside a
  // writer goes on from files that it opened when it began: one that was missing then failed the opening.
  bool WasReplaced(const rocksdb::LiveFileMetaData& file, const std::string& path) const {
    if (!EnvOf(options())->FileExists(path).IsNotFound()) return false;
    if (options().read_only) return true;
    const std::vector<rocksdb::LiveFileMetaData> files = LiveFiles(*Current());
    return std::none_of(files.begin(), files.end(), [&](const auto& live) { return live.name == file.name; });
  }

  Status ReadStatus(const rocksdb::Status& status, uint8_t group, size_t num_keys) const {
    return ToStatus(status, "read store '", directory(), "': group ", int{group}, ", ", num_keys, " keys");
  }

  Status ReadOnlyFailure() const {
    return FailedPrecondition("write to store '", directory(), "': it is open read-only");
  }

  // Commits the files of a sorted batch. RocksDB syncs them, their directory and its record of them.
  Status Ingest(const std::vector<std::string>& rows, const std::vector<std::string>& manifest) {
    constexpr std::string_view kAction = "write a sorted batch to";
    commit_in_doubt_ = false;
    // What was written before may be in memtables, or in a log that is not synced; a loss of power must not
    // leave the batch without it.
    DAMO_ASSIGN_OR_RETURN(const DatabasePointer database, FlushMemtables(kAction, kMaxLevel0Files));
    std::vector<rocksdb::IngestExternalFileArg> files;
    const auto add = [&](rocksdb::ColumnFamilyHandle* family, const std::vector<std::string>& paths) {
      if (paths.empty()) return;
      files.emplace_back();
      files.back().column_family = family;
      files.back().external_files = paths;
      files.back().options.move_files = true;
      files.back().options.write_global_seqno = false;  // never change a file that was synced
    };
    add(database->rows(), rows);
    add(database->manifest(), manifest);
    const rocksdb::Status status = database->Ingest(files);
    // One that fails without ending the database has not come as far as the record.
    commit_in_doubt_ = !status.ok() && !database->failure().ok();
    return ToStatus(status, kAction, " store '", directory(), "'");
  }

  // Moves what was written before to table files, once level 0 has room for them. Not only the log is
  // written: afterwards there is none to replay, and none to count as disk space. Returns the database that
  // it did this to. One that turns out to have failed, of a compaction, say, gives way to another, once.
  StatusOr<DatabasePointer> FlushMemtables(std::string_view action,
                                           uint64_t max_level0_files = std::numeric_limits<uint64_t>::max()) {
    rocksdb::FlushOptions flush;
    flush.wait = true;
    flush.allow_write_stall = true;  // else it would first wait for compactions to catch up
    for (bool is_last = false;; is_last = true) {
      DAMO_ASSIGN_OR_RETURN(const DatabasePointer database, Writable(action));
      database->WaitForCompactions(max_level0_files);
      rocksdb::Status status = database->failure();
      if (status.ok()) status = (*database)->Flush(flush, {database->rows(), database->manifest()});
      if (status.ok()) return database;
      if (is_last || database->failure().ok()) return ToStatus(status, action, " store '", directory(), "'");
    }
  }

  IngestFolder ingest_folder_;
  DirectoryLock lock_;
  const RocksDbDatabase::Common common_;
  const rocksdb::Options file_options_;
  std::atomic<bool> commit_in_doubt_{false};  // of the last sorted batch
  std::mutex reopen_mutex_;                   // held while a database is opened in the place of another
  mutable std::mutex database_mutex_;         // guards database_
  DatabasePointer database_;
  std::string state_;  // of a read-only storage: that of the files, just before it opened them
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
