// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/log_file_system.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

namespace damo {
namespace {

class PosixLogFileSystem final : public LogFileSystem {
 public:
  int MakeDirectory(const std::string& path) override {
    if (mkdir(path.c_str(), 0777) == 0 || errno == EEXIST) return 0;
    return -1;
  }
  // Appending, because after a Truncate() a file offset would lie behind the end and leave a hole.
  int Create(const std::string& path) override {
    return open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  }
  int Open(const std::string& path) override { return open(path.c_str(), O_WRONLY | O_CLOEXEC); }
  int OpenToRead(const std::string& path) override { return open(path.c_str(), O_RDONLY | O_CLOEXEC); }
  ssize_t Read(int fd, void* bytes, size_t size) override { return read(fd, bytes, size); }
  ssize_t WriteV(int fd, const iovec* parts, int num_parts) override { return writev(fd, parts, num_parts); }
  int Truncate(int fd, off_t size) override { return ftruncate(fd, size); }
  int SyncData(int fd) override { return fdatasync(fd); }
  int Close(int fd) override { return close(fd); }
  int Unlink(const std::string& path) override { return unlink(path.c_str()); }

  int SyncDirectory(const std::string& path) override {
    const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -1;
    const int result = fsync(fd);
    const int error = errno;
    close(fd);
    errno = error;
    return result;
  }

  std::string BootId() override {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string id;
    std::getline(file, id);
    return id;
  }
};

}  // namespace

LogFileSystem* LogFileSystem::Posix() {
  static auto* const file_system = new PosixLogFileSystem;
  return file_system;
}

}  // namespace damo
