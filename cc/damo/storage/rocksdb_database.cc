// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_database.h"

#include <algorithm>
#include <utility>

#include "damo/storage/rocksdb_status.h"

namespace damo {
namespace {

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

// Fills a batch that gives each key of the batches it goes through the value it has in a database.
class UndoWriter final : public rocksdb::WriteBatch::Handler {
 public:
  UndoWriter(const RocksDbDatabase& database, rocksdb::WriteBatch* undo) : database_(database), undo_(undo) {}

  rocksdb::Status PutCF(uint32_t family, const rocksdb::Slice& key,
                        const rocksdb::Slice& /*value*/) override {
    return Restore(family, key);
  }
  rocksdb::Status DeleteCF(uint32_t family, const rocksdb::Slice& key) override {
    return Restore(family, key);
  }

 private:
  rocksdb::Status Restore(uint32_t family, const rocksdb::Slice& key) {
    rocksdb::ColumnFamilyHandle* const handle =
        family == database_.rows()->GetID() ? database_.rows() : database_.manifest();
    rocksdb::PinnableSlice value;
    const rocksdb::Status status = database_->Get(rocksdb::ReadOptions(), handle, key, &value);
    if (status.IsNotFound()) return undo_->Delete(handle, key);
    return status.ok() ? undo_->Put(handle, key, value) : status;
  }

  const RocksDbDatabase& database_;
  rocksdb::WriteBatch* const undo_;
};

// While it stands no flush and no compaction runs; those under way have come to their end before.
class BackgroundPause {
 public:
  explicit BackgroundPause(rocksdb::DB* db) : db_(db), status_(db->PauseBackgroundWork()) {}
  ~BackgroundPause() {
    if (status_.ok())
      db_->ContinueBackgroundWork().PermitUncheckedError();  // fails only if it was not paused
  }
  BackgroundPause(const BackgroundPause&) = delete;
  BackgroundPause& operator=(const BackgroundPause&) = delete;
  const rocksdb::Status& status() const { return status_; }

 private:
  rocksdb::DB* const db_;
  const rocksdb::Status status_;
};

}  // namespace

RocksDbDatabase::RocksDbDatabase(const Common& common)
    : env_(EnvOf(common.options), write_failure_, common.ingest_folder, common.lock) {}

StatusOr<std::shared_ptr<RocksDbDatabase>> RocksDbDatabase::Open(const Common& common, bool create) {
  std::shared_ptr<RocksDbDatabase> database(new RocksDbDatabase(common));
  const Status opened = database->OpenFiles(common, create);
  const rocksdb::Status unread = database->env_.EndOpening();
  DAMO_RETURN_IF_ERROR(ToStatus(unread, "open its database"));
  DAMO_RETURN_IF_ERROR(opened);
  return database;
}

Status RocksDbDatabase::OpenFiles(const Common& common, bool create) {
  rocksdb::DBOptions options = MakeDbOptions(common.options, common.parts);
  options.env = &env_;
  options.listeners = {write_failure_, compaction_wait_, compaction_meter_};
  options.create_if_missing = create;
  options.create_missing_column_families = create;
  const rocksdb::ColumnFamilyOptions family = MakeFamilyOptions(common.options, common.parts);
  rocksdb::ColumnFamilyOptions row_family = family;
  // With a filter RocksDB compacts files that nothing else has touched for 30 days, too: rows that expire
  // among others that do not would else lie in them for ever.
  row_family.compaction_filter_factory = NewReleasedRowsFilter(common.released);
  const std::vector<rocksdb::ColumnFamilyDescriptor> families = {
      {rocksdb::kDefaultColumnFamilyName, row_family}, {kManifestFamily, family}};
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      common.options.read_only
          ? rocksdb::DB::OpenForReadOnly(options, common.directory, families, &handles, &db)
          : rocksdb::DB::Open(options, common.directory, families, &handles, &db);
  if (!status.ok()) return OpenFailure(status);
  db_.reset(db);
  rows_ = handles[0];
  manifest_ = handles[1];
  return Status();
}

RocksDbDatabase::~RocksDbDatabase() { DestroyHandles(); }

rocksdb::Status RocksDbDatabase::Close() {
  DestroyHandles();
  rocksdb::Status status = db_->Close();
  db_.reset();
  return status;
}

void RocksDbDatabase::DestroyHandles() {
  for (rocksdb::ColumnFamilyHandle** const handle : {&rows_, &manifest_}) {
    if (*handle == nullptr) continue;
    // Fails only for the handle that a database keeps for itself.
    db_->DestroyColumnFamilyHandle(*handle).PermitUncheckedError();
    *handle = nullptr;
  }
}

rocksdb::Status RocksDbDatabase::Write(const rocksdb::WriteOptions& options, rocksdb::WriteBatch* batch) {
  const std::shared_lock<std::shared_mutex> lock(write_mutex_);
  rocksdb::Status status = db_->Write(options, batch);
  if (!status.ok() && !failure().ok()) {
    const std::lock_guard<std::mutex> failed_lock(failed_writes_mutex_);
    failed_writes_.emplace_back(batch->Data());
  }
  return status;
}

// RocksDB 7.8.3 goes through the levels of a family's current version, but looks for overlaps in the version
// that its readers have. The two differ for a moment after one thread has recorded another's compaction with
// its own edit, until that other one wakes up. If it was the compaction that brings the first files to the
// last level, files are looked for in a level that the older version does not have: an assertion of Debian's
// build, and no good elsewhere.
rocksdb::Status RocksDbDatabase::Ingest(const std::vector<rocksdb::IngestExternalFileArg>& files) {
  const std::unique_lock<std::shared_mutex> lock(write_mutex_);
  const bool all_have_last_level = std::none_of(
      files.begin(), files.end(), [&](const auto& family) { return LastLevelIsEmpty(family.column_family); });
  if (all_have_last_level) return db_->IngestExternalFiles(files);
  // Ingestion would wait for memtables to be flushed if it found something in them.
  rocksdb::FlushOptions flush;
  flush.allow_write_stall = true;
  rocksdb::Status status = db_->Flush(flush, {rows_, manifest_});
  if (!status.ok()) return status;
  const BackgroundPause pause(db_.get());
  return pause.status().ok() ? db_->IngestExternalFiles(files) : pause.status();
}

// As readers see it.
bool RocksDbDatabase::LastLevelIsEmpty(rocksdb::ColumnFamilyHandle* family) const {
  rocksdb::ColumnFamilyMetaData levels;
  db_->GetColumnFamilyMetaData(family, &levels);
  return levels.levels.back().files.empty();
}

uint64_t RocksDbDatabase::NumLevel0Files() const {
  std::string number;
  if (!db_->GetProperty(rows_, rocksdb::DB::Properties::kNumFilesAtLevelPrefix + "0", &number)) return 0;
  return std::stoull(number);
}

void RocksDbDatabase::WaitForCompactions(uint64_t max_files) {
  compaction_wait_->Until([&] { return !failure().ok() || NumLevel0Files() < max_files; });
}

Status RocksDbDatabase::EndWriting() {
  env_.EndWriting();
  const std::unique_lock<std::shared_mutex> lock(write_mutex_);
  const std::lock_guard<std::mutex> failed_lock(failed_writes_mutex_);
  while (!failed_writes_.empty()) {
    UndoWriter writer(*this, &undo_);
    DAMO_RETURN_IF_ERROR(
        ToStatus(failed_writes_.back().Iterate(&writer), "read what a write that failed was to replace"));
    failed_writes_.pop_back();
  }
  return Status();
}

Status RocksDbDatabase::UndoFailedWrites(RocksDbDatabase& fresh) {
  const std::lock_guard<std::mutex> lock(failed_writes_mutex_);
  if (undo_.Count() == 0) return Status();
  rocksdb::WriteOptions options;
  options.sync = true;
  return ToStatus(fresh.Write(options, &undo_), "take back a write that failed");
}

}  // namespace damo
