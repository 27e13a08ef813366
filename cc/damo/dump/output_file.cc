// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "damo/storage/directory.h"

namespace damo {
namespace {

// The system is asked to begin writing to the disk after so many bytes: otherwise it would keep them until
// the sync at the end, and the disk would idle meanwhile.
constexpr uint64_t kPushBytes = uint64_t{8} << 20;

Status CheckPlace(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return IoError("create file '", path, "': it exists and is not a regular file");
  }
  return Status();
}

// Whether `path` still names the file `fd`.
bool IsNamed(int fd, const std::string& path) {
  struct stat open_file;
  struct stat named;
  return fstat(fd, &open_file) == 0 && stat(path.c_str(), &named) == 0 && open_file.st_dev == named.st_dev &&
         open_file.st_ino == named.st_ino;
}

}  // namespace

StatusOr<std::unique_ptr<OutputFile>> OutputFile::Create(const std::string& path) {
  DAMO_RETURN_IF_ERROR(CheckPlace(path));
  const std::string partial = path + ".partial";
  File file(open(partial.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
  if (!file.is_open()) return FileError("create file", partial);
  // Who had the lock may have finished since: then its file has the final name.
  if (flock(file.fd(), LOCK_EX | LOCK_NB) != 0 || !IsNamed(file.fd(), partial)) {
    return FailedPrecondition("create file '", path, "': it is being written already");
  }
  if (ftruncate(file.fd(), 0) != 0) return FileError("truncate file", partial);
  return std::unique_ptr<OutputFile>(new OutputFile(path, partial, std::move(file)));
}

OutputFile::OutputFile(std::string path, std::string partial_path, File file)
    : path_(std::move(path)),
      partial_path_(std::move(partial_path)),
      file_(std::move(file)),
      appended_([this](std::string_view part) { return Write(part); }) {}

OutputFile::~OutputFile() {
  if (!finished_) unlink(partial_path_.c_str());
}

Status OutputFile::Append(std::string_view bytes) {
  DAMO_ASSIGN_OR_RETURN(char* const room, Append(bytes.size()));
  std::memcpy(room, bytes.data(), bytes.size());
  return Status();
}

Status OutputFile::Write(std::string_view bytes) {
  DAMO_RETURN_IF_ERROR(WriteAllAt(file_.fd(), bytes, written_, path_));
  written_ += bytes.size();
  if (written_ - pushed_ >= kPushBytes) {
    // Advice: where it is not taken the sync at the end does all.
    (void)sync_file_range(file_.fd(), static_cast<off_t>(pushed_), static_cast<off_t>(written_ - pushed_),
                          SYNC_FILE_RANGE_WRITE);
    pushed_ = written_;
  }
  return Status();
}

Status OutputFile::Overwrite(uint64_t offset, std::string_view bytes) {
  DAMO_RETURN_IF_ERROR(appended_.Flush());
  return WriteAllAt(file_.fd(), bytes, offset, path_);
}

Status OutputFile::Finish() {
  DAMO_RETURN_IF_ERROR(appended_.Flush());
  if (fsync(file_.fd()) != 0) return FileError("sync file", path_);
  if (rename(partial_path_.c_str(), path_.c_str()) != 0) return FileError("rename file", partial_path_);
  finished_ = true;
  return SyncDirectory(ParentOf(path_));
}

}  // namespace damo
