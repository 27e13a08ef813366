// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_sorted_batch.h"

#include <rocksdb/env.h>
#include <rocksdb/options.h>

#include <optional>

#include "damo/row/key.h"
#include "damo/storage/directory.h"
#include "damo/storage/rocksdb_status.h"

namespace damo {

// ---- folder ----

IngestFolder::IngestFolder(const std::string& directory, rocksdb::Env* env)
    : path_(directory + "/" + kIngestFolder), env_(env) {}

Status IngestFolder::RemoveLeftovers() const {
  std::vector<std::string> names;
  const rocksdb::Status listed = env_->GetChildren(path_, &names);
  if (listed.IsNotFound() || listed.IsPathNotFound()) return Status();
  DAMO_RETURN_IF_ERROR(ToStatus(listed, "list directory '", path_, "'"));
  for (const std::string& name : names) {
    const std::string path = path_ + "/" + name;
    DAMO_RETURN_IF_ERROR(ToStatus(env_->DeleteFile(path), "remove file '", path, "'"));
  }
  return Status();
}

StatusOr<std::string> IngestFolder::NewFile() {
  DAMO_RETURN_IF_ERROR(ToStatus(env_->CreateDirIfMissing(path_), "create directory '", path_, "'"));
  return StrCat(path_, "/", num_files_.fetch_add(1), ".sst");
}

void IngestFolder::Remove(const std::string& path) const { env_->DeleteFile(path).PermitUncheckedError(); }

// ---- file ----

IngestFile::IngestFile(IngestFolder* folder, rocksdb::DB* database, rocksdb::ColumnFamilyHandle* family)
    : folder_(folder) {
  const rocksdb::Options options = database->GetOptions(family);
  // The pages written stay in the operating system's cache: the rows are the latest, and a compaction will
  // read them all before long.
  writer_.emplace(rocksdb::EnvOptions(options), options, family, /*invalidate_page_cache=*/false);
}

IngestFile::~IngestFile() {
  writer_.reset();  // closes the file
  if (!path_.empty()) folder_->Remove(path_);
}

Status IngestFile::Open() {
  DAMO_ASSIGN_OR_RETURN(path_, folder_->NewFile());
  return ToStatus(writer_->Open(path_), "create file '", path_, "'");
}

Status IngestFile::Put(std::string_view key, std::string_view value) {
  return ToStatus(writer_->Put(ToSlice(key), ToSlice(value)), "write file '", path_, "'");
}

Status IngestFile::Delete(std::string_view key) {
  return ToStatus(writer_->Delete(ToSlice(key)), "write file '", path_, "'");
}

Status IngestFile::Finish() { return ToStatus(writer_->Finish(), "finish file '", path_, "'"); }

uint64_t IngestFile::num_bytes() { return writer_->FileSize(); }

// ---- batch ----

Status RocksDbSortedBatch::PutRow(uint8_t group, uint64_t key, std::string_view row) {
  return AddRow(group, key, row);
}

Status RocksDbSortedBatch::DeleteRow(uint8_t group, uint64_t key) { return AddRow(group, key, std::nullopt); }

Status RocksDbSortedBatch::PutManifest(std::string_view name, std::string_view value) {
  manifest_.insert_or_assign(std::string(name), std::string(value));
  return Status();
}

Status RocksDbSortedBatch::DeleteManifest(std::string_view name) {
  manifest_.insert_or_assign(std::string(name), std::nullopt);
  return Status();
}

Status RocksDbSortedBatch::AddRow(uint8_t group, uint64_t key, std::optional<std::string_view> row) {
  DAMO_RETURN_IF_ERROR(failure_);
  failure_ = order_.Add(group, key);
  if (failure_.ok()) failure_ = StartRowFileIfNeeded();
  if (!failure_.ok()) return failure_;
  IngestFile& file = *row_files_.back();
  const RowKey row_key(group, key);
  failure_ = row ? file.Put(row_key.bytes(), *row) : file.Delete(row_key.bytes());
  return failure_;
}

Status RocksDbSortedBatch::StartRowFileIfNeeded() {
  if (!row_files_.empty()) {
    if (row_files_.back()->num_bytes() < target_.max_file_bytes) return Status();
    DAMO_RETURN_IF_ERROR(row_files_.back()->Finish());
  }
  row_files_.push_back(std::make_unique<IngestFile>(target_.folder, target_.database, target_.rows));
  return row_files_.back()->Open();
}

Status RocksDbSortedBatch::WriteManifestFile() {
  manifest_file_ = std::make_unique<IngestFile>(target_.folder, target_.database, target_.manifest);
  DAMO_RETURN_IF_ERROR(manifest_file_->Open());
  for (const auto& [name, value] : manifest_) {
    DAMO_RETURN_IF_ERROR(value ? manifest_file_->Put(name, *value) : manifest_file_->Delete(name));
  }
  return manifest_file_->Finish();
}

Status RocksDbSortedBatch::Finish() {
  DAMO_RETURN_IF_ERROR(failure_);
  if (finished_) return Status();
  if (!row_files_.empty()) failure_ = row_files_.back()->Finish();
  if (failure_.ok() && !manifest_.empty()) failure_ = WriteManifestFile();
  finished_ = failure_.ok();
  return failure_;
}

Status RocksDbSortedBatch::Commit() {
  DAMO_RETURN_IF_ERROR(Finish());
  std::vector<rocksdb::IngestExternalFileArg> files;
  const auto add = [&](rocksdb::ColumnFamilyHandle* family, const IngestFile& file) {
    if (files.empty() || files.back().column_family != family) {
      files.emplace_back();
      files.back().column_family = family;
      files.back().options.move_files = true;
      files.back().options.write_global_seqno = false;  // never change a file that was synced
    }
    files.back().external_files.push_back(file.path());
  };
  for (const std::unique_ptr<IngestFile>& file : row_files_) add(target_.rows, *file);
  if (manifest_file_) add(target_.manifest, *manifest_file_);
  return files.empty() ? Status() : target_.ingest(files);
}

}  // namespace damo
