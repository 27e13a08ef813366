// SPDX-License-Identifier: Apache-2.0
#include "damo/checkpoint/staged_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "damo/storage/directory.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

std::string LastError() { return std::generic_category().message(errno); }

std::string WithoutTrailingSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

Status CheckAbsent(const std::string& path) {
  struct stat status;
  if (lstat(path.c_str(), &status) == 0) return InvalidArgument("there is something already");
  return errno == ENOENT ? Status() : IoError("inspect '", path, "': ", LastError());
}

Status RemoveContents(const std::string& directory) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    fs::remove_all(entry->path(), error);
    if (error) break;
  }
  return error ? IoError("remove what is in '", directory, "': ", error.message()) : Status();
}

bool SameFile(int fd, const std::string& path) {
  struct stat by_fd;
  struct stat by_path;
  return fstat(fd, &by_fd) == 0 && stat(path.c_str(), &by_path) == 0 && by_fd.st_dev == by_path.st_dev &&
         by_fd.st_ino == by_path.st_ino;
}

}  // namespace

StatusOr<std::unique_ptr<StagedDirectory>> StagedDirectory::Begin(const std::string& asked) {
  if (asked.empty()) return InvalidArgument("`directory` must be a path. Received: directory=''");
  const std::string target = WithoutTrailingSlashes(asked);
  DAMO_RETURN_IF_ERROR(CheckAbsent(target));
  std::unique_ptr<StagedDirectory> staged(new StagedDirectory(target, target + kUnfinishedSuffix));
  DAMO_RETURN_IF_ERROR(CreateDirectories(staged->path_));
  const Status locked = staged->Lock();
  if (!locked.ok()) {
    staged->published_ = true;  // it is another's: not to be removed
    return locked;
  }
  DAMO_RETURN_IF_ERROR(RemoveContents(staged->path_));
  return staged;
}

// The lock goes with the process, however that ends.
Status StagedDirectory::Lock() {
  fd_ = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd_ < 0) return IoError("open directory '", path_, "': ", LastError());
  // It may have been published, or removed, between the two calls.
  if (flock(fd_, LOCK_EX | LOCK_NB) == 0 && SameFile(fd_, path_)) return Status();
  return FailedPrecondition("it is being written at this moment (see '", path_, "')");
}

StagedDirectory::~StagedDirectory() {
  if (!published_) {
    std::error_code ignored;  // what stays is removed by the next attempt
    fs::remove_all(path_, ignored);
  }
  if (fd_ >= 0) close(fd_);
}

Status StagedDirectory::Publish() {
  DAMO_RETURN_IF_ERROR(SyncDirectory(path_));
  if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno == EEXIST || errno == ENOTEMPTY) return InvalidArgument("there is something already");
    if (errno != EINVAL && errno != ENOSYS) return IoError("rename '", path_, "': ", LastError());
    // A filesystem that cannot tell. rename(2) replaces nothing but an empty directory.
    if (rename(path_.c_str(), target_.c_str()) != 0) return IoError("rename '", path_, "': ", LastError());
  }
  published_ = true;
  return SyncDirectory(ParentOf(target_));
}

}  // namespace damo
