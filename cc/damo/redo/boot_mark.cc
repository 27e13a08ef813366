// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/boot_mark.h"

#include <filesystem>
#include <system_error>
#include <vector>

#include "damo/redo/segment_writer.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

constexpr char kMarkSuffix[] = ".boot";

std::string MarkPath(const std::string& directory, const std::string& boot_id) {
  return directory + "/" + boot_id + kMarkSuffix;
}

StatusOr<std::vector<std::string>> ListMarks(const std::string& directory) {
  std::vector<std::string> marks;
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (entry->path().extension() == kMarkSuffix) marks.push_back(entry->path().string());
  }
  if (error) return IoError("list directory '", directory, "': ", error.message());
  return marks;
}

}  // namespace

bool MayHaveLostPower(const std::string& directory, const std::string& boot_id) {
  if (boot_id.empty()) return false;
  std::error_code error;
  return !fs::exists(MarkPath(directory, boot_id), error) && !error;
}

Status MarkBoot(LogFileSystem* file_system, const std::string& directory, const std::string& boot_id) {
  DAMO_ASSIGN_OR_RETURN(const std::vector<std::string> marks, ListMarks(directory));
  const std::string mine = MarkPath(directory, boot_id);
  bool marked = boot_id.empty();
  for (const std::string& mark : marks) {
    if (fs::path(mark).filename() == fs::path(mine).filename()) {
      marked = true;
    } else if (file_system->Unlink(mark) != 0) {
      return LogFileError("delete boot mark", mark);
    }
  }
  if (marked) return Status();
  const int fd = file_system->Create(mine);
  if (fd < 0) return LogFileError("create boot mark", mine);
  file_system->Close(fd);
  return Status();
}

}  // namespace damo
