// SPDX-License-Identifier: Apache-2.0
//
// CheckpointDescription: what a checkpoint says of itself, in the file DAMO_CHECKPOINT.
// docs/checkpoint_format.md has it member by member.
#ifndef DAMO_CHECKPOINT_DESCRIPTION_H_
#define DAMO_CHECKPOINT_DESCRIPTION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "damo/base/status.h"
#include "damo/config/group_config.h"
#include "damo/storage/storage.h"

namespace damo {

// The version this code writes, and the newest it reads. On disk: never renumber.
inline constexpr uint64_t kCheckpointFormat = 1;

// The folder of a delta's database.
inline constexpr char kDeltaFolder[] = "changes";

struct CheckpointDescription {
  struct Group {
    GroupConfig config;
    int64_t step = 0;
    int64_t num_rows = 0;  // of the store, also in a delta
  };
  // What a delta is relative to.
  struct Base {
    std::string id;
    std::string path;  // absolute, or relative to the delta's directory
    int64_t num_changed_rows = 0;
    int64_t num_deleted_rows = 0;
  };

  std::string id;              // 32 hexadecimal digits, of every checkpoint others
  int64_t created_millis = 0;  // since the Unix epoch, UTC
  uint64_t seed = 0;
  std::vector<Group> groups;       // by number
  std::vector<StorageFile> files;  // all but the description itself
  std::optional<Base> base;        // nullopt: full

  std::string ToJson() const;
  // DataLoss unless `text` is such a description; InvalidArgument if it is of another format.
  static StatusOr<CheckpointDescription> FromJson(std::string_view text);
};

std::string NewCheckpointId();

// Writes it into `directory`; it survives loss of power, except that the directory is not synced.
Status WriteDescription(const CheckpointDescription& description, const std::string& directory);

// The description in `directory`. NotFound if that is no checkpoint.
StatusOr<CheckpointDescription> ReadDescription(const std::string& directory);

// Files of `directory` whose names are prefixed with `prefix`, with checksums; those that RocksDB does not
// need to open a database left out.
StatusOr<std::vector<StorageFile>> DescribeFiles(const std::string& directory, const std::string& prefix);

// DataLoss unless every file of the description is there, has its size and, where known, its checksum.
Status CheckFiles(const CheckpointDescription& description, const std::string& directory);

}  // namespace damo

#endif  // DAMO_CHECKPOINT_DESCRIPTION_H_
