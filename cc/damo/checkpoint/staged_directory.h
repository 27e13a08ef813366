// SPDX-License-Identifier: Apache-2.0
//
// StagedDirectory: a directory that appears under its name only when all of it is there.
#ifndef DAMO_CHECKPOINT_STAGED_DIRECTORY_H_
#define DAMO_CHECKPOINT_STAGED_DIRECTORY_H_

#include <memory>
#include <string>

#include "damo/base/status.h"

namespace damo {

// Of a directory that is being written aside: its name, and this.
inline constexpr char kUnfinishedSuffix[] = ".unfinished";

// Thread-compatible.
class StagedDirectory {
 public:
  // Makes a directory beside `target`, parents included, to be filled. InvalidArgument if there is something
  // at `target`; FailedPrecondition if someone is writing it already. What a process that died has left of an
  // attempt is removed.
  static StatusOr<std::unique_ptr<StagedDirectory>> Begin(const std::string& target);

  // Removes it, unless it was published.
  ~StagedDirectory();
  StagedDirectory(const StagedDirectory&) = delete;
  StagedDirectory& operator=(const StagedDirectory&) = delete;

  // Where it is meanwhile.
  const std::string& path() const { return path_; }

  // Gives it its name; survives loss of power. What is in it was synced before. InvalidArgument if there is
  // something by now.
  Status Publish();

 private:
  StagedDirectory(std::string target, std::string path)
      : target_(std::move(target)), path_(std::move(path)) {}
  Status Lock();

  const std::string target_;
  const std::string path_;
  int fd_ = -1;  // of the directory, locked: so that nobody takes it for a leftover
  bool published_ = false;
};

}  // namespace damo

#endif  // DAMO_CHECKPOINT_STAGED_DIRECTORY_H_
