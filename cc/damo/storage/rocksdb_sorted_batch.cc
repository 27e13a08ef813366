// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_sorted_batch.h"

#include <optional>

#include "damo/row/key.h"
#include "damo/storage/rocksdb_status.h"

namespace damo {

// ---- file ----

IngestFile::IngestFile(IngestFolder* folder, const rocksdb::Options& options) : folder_(folder) {
  // The pages written stay in the operating system's cache: the rows are the latest, and a compaction will
  // read them all before long.
  writer_.emplace(rocksdb::EnvOptions(options), options, /*column_family=*/nullptr,
                  /*invalidate_page_cache=*/false);
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
  return Added(writer_->Put(ToSlice(key), ToSlice(value)));
}

Status IngestFile::Delete(std::string_view key) { return Added(writer_->Delete(ToSlice(key))); }

Status IngestFile::Added(const rocksdb::Status& status) {
  if (head_bytes_ == 0) head_bytes_ = num_bytes();
  return ToStatus(status, "write file '", path_, "'");
}

Status IngestFile::Finish() {
  const FileEdges edges{head_bytes_, /*tail_offset=*/num_bytes()};
  DAMO_RETURN_IF_ERROR(ToStatus(writer_->Finish(), "finish file '", path_, "'"));
  folder_->SetEdges(path_, edges);
  return Status();
}

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
  row_files_.push_back(std::make_unique<IngestFile>(target_.folder, *target_.options));
  return row_files_.back()->Open();
}

Status RocksDbSortedBatch::WriteManifestFile() {
  manifest_file_ = std::make_unique<IngestFile>(target_.folder, *target_.options);
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
  if (row_files_.empty() && !manifest_file_) return Status();
  std::vector<std::string> rows;
  std::vector<std::string> manifest;
  for (const std::unique_ptr<IngestFile>& file : row_files_) rows.push_back(file->path());
  if (manifest_file_) manifest.push_back(manifest_file_->path());
  return target_.ingest(rows, manifest);
}

}  // namespace damo
