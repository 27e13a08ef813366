// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_ingest_folder.h"

#include <vector>

#include "damo/storage/directory.h"
#include "damo/storage/rocksdb_status.h"

namespace damo {

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

void IngestFolder::Remove(const std::string& path) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    edges_.erase(path);
  }
  env_->DeleteFile(path).PermitUncheckedError();
}

void IngestFolder::SetEdges(const std::string& path, const FileEdges& edges) {
  const std::lock_guard<std::mutex> lock(mutex_);
  edges_[path] = edges;
}

std::optional<FileEdges> IngestFolder::EdgesOf(const std::string& path) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto it = edges_.find(path);
  return it == edges_.end() ? std::nullopt : std::optional<FileEdges>(it->second);
}

}  // namespace damo
