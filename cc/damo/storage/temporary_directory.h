// SPDX-License-Identifier: Apache-2.0
//
// TemporaryDirectory: a directory on a disk for what this process needs while it runs.
#ifndef DAMO_STORAGE_TEMPORARY_DIRECTORY_H_
#define DAMO_STORAGE_TEMPORARY_DIRECTORY_H_

#include <memory>
#include <string>

#include "damo/base/status.h"

namespace damo {

class TemporaryDirectory {
 public:
  // Makes an empty one, for this user only, in the directory that the environment variable TMPDIR names;
  // where it is not set in /var/tmp, else in /tmp, which may be memory. First removes those there that
  // processes of this user made and could not remove. FailedPrecondition names each place that was tried.
  static StatusOr<std::unique_ptr<TemporaryDirectory>> Make();

  // Removes it and all it holds.
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  TemporaryDirectory(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  const std::string path_;
  const int fd_;  // locked as long as it is in use, and so until the process ends, however it does
};

}  // namespace damo

#endif  // DAMO_STORAGE_TEMPORARY_DIRECTORY_H_
