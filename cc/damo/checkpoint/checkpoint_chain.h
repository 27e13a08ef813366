// SPDX-License-Identifier: Apache-2.0
//
// CheckpointChain: a checkpoint to be read: a full one, or a delta with all that it builds on.
#ifndef DAMO_CHECKPOINT_CHECKPOINT_CHAIN_H_
#define DAMO_CHECKPOINT_CHECKPOINT_CHAIN_H_

#include <memory>
#include <string>
#include <vector>

#include "damo/base/status.h"
#include "damo/checkpoint/description.h"
#include "damo/storage/storage.h"

namespace damo {

// Thread-safe.
class CheckpointChain {
 public:
  // Opens the checkpoint in `directory`, and by their recorded paths those it builds on. Nothing is opened
  // before every link has been found, has the id that the next one names, and has its files. Failure names
  // the directory at fault.
  static StatusOr<std::unique_ptr<CheckpointChain>> Open(const std::string& directory);
  // The same with every link given, the full one first, wherever they lie by now.
  static StatusOr<std::unique_ptr<CheckpointChain>> Open(const std::vector<std::string>& directories);

  // Of the checkpoint asked for, the newest.
  const CheckpointDescription& description() const { return links_.front().description; }
  // Its manifest is the newest, which is whole in each link; its rows are not all.
  Storage& newest() { return *links_.front().storage; }

  // The rows of a group, in key order, as of the newest link. The chain outlives it.
  std::unique_ptr<RowCursor> NewCursor(uint8_t group) const;

  // As Storage::VerifyFiles(), of all links.
  Status VerifyFiles(const Storage::FileVisitor& visit) const;

  // Visits the newest manifest.
  Status ScanManifest(const ManifestVisitor& visit) const;

 private:
  struct Link {
    std::string directory;
    CheckpointDescription description;
    std::unique_ptr<Storage> storage;
    std::unique_ptr<StorageSnapshot> snapshot;  // goes before its storage
  };

  static StatusOr<std::unique_ptr<CheckpointChain>> OpenLinks(std::vector<Link> links);
  static StatusOr<Link> ReadLink(const std::string& directory);
  static Status OpenStorage(Link& link);

  explicit CheckpointChain(std::vector<Link> links) : links_(std::move(links)) {}

  std::vector<Link> links_;  // newest first
};

}  // namespace damo

#endif  // DAMO_CHECKPOINT_CHECKPOINT_CHAIN_H_
