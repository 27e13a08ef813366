// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/temporary_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

namespace damo {
namespace {

namespace fs = std::filesystem;

constexpr char kPrefix[] = "damo-reader-";

std::vector<std::string> Places() {
  const char* const asked = getenv("TMPDIR");
  if (asked != nullptr && *asked != '\0') return {asked};
  return {"/var/tmp", "/tmp"};
}

// Opens a directory of this user's and locks it; -1 if that cannot be done, as where a process uses it.
int OpenAndLock(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -1;
  struct stat opened;
  struct stat named;
  // It may have been removed between the two calls, by one that found it before it was locked.
  const bool ours = fstat(fd, &opened) == 0 && opened.st_uid == geteuid() &&
                    flock(fd, LOCK_EX | LOCK_NB) == 0 && lstat(path.c_str(), &named) == 0 &&
                    opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
  if (ours) return fd;
  close(fd);
  return -1;
}

void Remove(const std::string& path, int fd) {
  std::error_code ignored;  // what stays is removed by the next process that makes one here
  fs::remove_all(path, ignored);
  close(fd);
}

// What processes have left that were killed.
void RemoveLeftovers(const std::string& place) {
  std::error_code error;
  std::vector<std::string> paths;
  for (fs::directory_iterator entry(place, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.compare(0, sizeof(kPrefix) - 1, kPrefix) == 0) paths.push_back(entry->path().string());
  }
  for (const std::string& path : paths) {
    const int fd = OpenAndLock(path);
    if (fd >= 0) Remove(path, fd);
  }
}

}  // namespace

StatusOr<std::unique_ptr<TemporaryDirectory>> TemporaryDirectory::Make() {
  constexpr int kAttempts = 10;  // another process may take a new one for a leftover before it is locked
  std::string tried;
  for (const std::string& place : Places()) {
    RemoveLeftovers(place);
    std::string reason = "it is removed by others";
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      std::string path = place + "/" + kPrefix + "XXXXXX";
      if (mkdtemp(path.data()) == nullptr) {
        reason = std::generic_category().message(errno);
        break;
      }
      const int fd = OpenAndLock(path);
      if (fd >= 0) return std::unique_ptr<TemporaryDirectory>(new TemporaryDirectory(std::move(path), fd));
    }
    tried += StrCat(tried.empty() ? "" : ", ", "'", place, "': ", reason);
  }
  return FailedPrecondition("make a temporary directory (", tried,
                            "); name one on a disk by the environment variable TMPDIR");
}

TemporaryDirectory::~TemporaryDirectory() { Remove(path_, fd_); }

}  // namespace damo
