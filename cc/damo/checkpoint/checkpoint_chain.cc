// SPDX-License-Identifier: Apache-2.0
#include "damo/checkpoint/checkpoint_chain.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "damo/storage/directory.h"
#include "damo/storage/merged_cursor.h"
#include "damo/storage/rocksdb_storage.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

// Rows pass through once, in order: only indexes gain from memory.
constexpr int64_t kMemoryBudget = int64_t{4} << 20;

Status CheckIsBase(const CheckpointDescription& base, const std::string& base_directory,
                   const CheckpointDescription& delta, const std::string& delta_directory) {
  if (base.id == delta.base->id) return Status();
  return InvalidArgument("checkpoint '", delta_directory, "' builds on checkpoint ", delta.base->id,
                         ", but '", base_directory, "' has checkpoint ", base.id);
}

// Where the base of the delta in `directory` is. Its path leads there from where the delta really lies, not
// from a symbolic link to it.
StatusOr<std::string> BaseDirectory(const CheckpointDescription& delta, const std::string& directory) {
  DAMO_ASSIGN_OR_RETURN(const fs::path resolved, ResolvePath(directory));
  return ResolvePath(resolved / delta.base->path);
}

}  // namespace

StatusOr<CheckpointChain::Link> CheckpointChain::ReadLink(const std::string& directory) {
  Link link;
  link.directory = directory;
  const auto read = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(link.description, ReadDescription(directory));
    return CheckFiles(link.description, directory);
  };
  const Status status = read();
  if (!status.ok()) return status.WithContext(StrCat("checkpoint '", directory, "'"));
  return link;
}

StatusOr<std::unique_ptr<CheckpointChain>> CheckpointChain::Open(const std::string& directory) {
  std::vector<Link> links;
  std::string next = directory;
  for (;;) {
    DAMO_ASSIGN_OR_RETURN(Link link, ReadLink(next));
    if (!links.empty()) {
      const Link& above = links.back();
      DAMO_RETURN_IF_ERROR(CheckIsBase(link.description, next, above.description, above.directory));
    }
    const auto is_same = [&](const Link& other) { return other.description.id == link.description.id; };
    if (std::any_of(links.begin(), links.end(), is_same)) {
      return DataLoss("checkpoint '", directory, "' builds on itself");
    }
    links.push_back(std::move(link));
    if (!links.back().description.base) return OpenLinks(std::move(links));
    DAMO_ASSIGN_OR_RETURN(next, BaseDirectory(links.back().description, next));
  }
}

StatusOr<std::unique_ptr<CheckpointChain>> CheckpointChain::Open(
    const std::vector<std::string>& directories) {
  if (directories.empty())
    return InvalidArgument("a chain of checkpoints must have at least one. Received: none");
  if (directories.size() == 1) return Open(directories.front());
  std::vector<Link> links;
  for (const std::string& directory : directories) {
    DAMO_ASSIGN_OR_RETURN(Link link, ReadLink(directory));
    if (link.description.base.has_value() == links.empty()) {
      return InvalidArgument("a chain must begin with a full checkpoint and go on with deltas. Received: '",
                             directory, "', which is ", link.description.base ? "a delta" : "full");
    }
    if (!links.empty()) {
      const Link& base = links.front();
      DAMO_RETURN_IF_ERROR(CheckIsBase(base.description, base.directory, link.description, directory));
    }
    links.insert(links.begin(), std::move(link));
  }
  return OpenLinks(std::move(links));
}

StatusOr<std::unique_ptr<CheckpointChain>> CheckpointChain::OpenLinks(std::vector<Link> links) {
  for (Link& link : links) DAMO_RETURN_IF_ERROR(OpenStorage(link));
  return std::unique_ptr<CheckpointChain>(new CheckpointChain(std::move(links)));
}

Status CheckpointChain::OpenStorage(Link& link) {
  RocksDbStorageOptions options;
  options.memory_budget = kMemoryBudget;
  options.cache_row_blocks = false;
  options.read_only = true;
  options.beside_writer = false;
  const std::string folder = link.description.base ? StrCat("/", kDeltaFolder) : "";
  DAMO_ASSIGN_OR_RETURN(link.storage, OpenRocksDbStorage(link.directory + folder, options));
  DAMO_ASSIGN_OR_RETURN(link.snapshot, link.storage->NewSnapshot());
  return Status();
}

std::unique_ptr<RowCursor> CheckpointChain::NewCursor(uint8_t group) const {
  std::vector<std::unique_ptr<RowCursor>> cursors;
  cursors.reserve(links_.size());
  for (const Link& link : links_) cursors.push_back(link.snapshot->NewCursor(group));
  return std::make_unique<MergedCursor>(std::move(cursors));
}

Status CheckpointChain::VerifyFiles(const Storage::FileVisitor& visit) const {
  for (const Link& link : links_) DAMO_RETURN_IF_ERROR(link.storage->VerifyFiles(visit));
  return Status();
}

Status CheckpointChain::ScanManifest(const ManifestVisitor& visit) const {
  return links_.front().snapshot->ScanManifest(visit);
}

}  // namespace damo
