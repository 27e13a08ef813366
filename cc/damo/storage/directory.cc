// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

#include "damo/storage/file.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

constexpr char kUnfinishedMark[] = "DAMO_UNFINISHED";

Status FileError(std::string_view action, const fs::path& path, const std::error_code& error) {
  return IoError(action, " '", path.string(), "': ", error.message());
}

// Adds to `bytes` those of the files of one directory, subdirectories not included.
template <typename Counts>
Status AddFileBytes(const fs::path& directory, const Counts& counts, uint64_t* bytes) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (!counts(entry->path())) continue;
    std::error_code deleted_meanwhile;  // such a file counts nothing
    const uintmax_t size = entry->file_size(deleted_meanwhile);
    if (!deleted_meanwhile) *bytes += size;
  }
  return error ? FileError("list directory", directory, error) : Status();
}

}  // namespace

bool HasCheckpoint(const std::string& directory) {
  std::error_code error;
  return fs::exists(fs::path(directory) / kCheckpointFile, error);
}

StatusOr<std::string> ResolvePath(const std::string& path) {
  std::error_code error;
  fs::path resolved = fs::absolute(path, error);
  if (!error) resolved = fs::weakly_canonical(resolved, error);
  if (error) return IoError("resolve path '", path, "': ", error.message());
  return resolved.string();
}

Status CheckOutsideStore(const std::string& path, const std::string& store_directory) {
  DAMO_ASSIGN_OR_RETURN(const std::string resolved, ResolvePath(path));
  const fs::path inside = fs::path(resolved).lexically_relative(store_directory);
  if (inside.empty() || *inside.begin() == "..") return Status();
  return InvalidArgument("'", path, "' must lie outside the store's own directory '", store_directory, "'");
}

std::string ParentOf(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

Status SyncDirectory(const std::string& directory) {
  const File file(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!file.is_open()) return FileError("open directory", directory);
  return fsync(file.fd()) == 0 ? Status() : FileError("sync directory", directory);
}

Status CreateDirectories(const std::string& directory) {
  const fs::path path(directory);
  std::error_code error;
  if (fs::is_directory(path, error)) return Status();
  const std::string parent = ParentOf(directory);
  DAMO_RETURN_IF_ERROR(CreateDirectories(parent));
  fs::create_directory(path, error);
  if (error) return FileError("create directory", path, error);
  return SyncDirectory(parent);
}

StatusOr<DirectoryContent> InspectDirectory(const std::string& directory) {
  const fs::path path(directory);
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return DirectoryContent::kAbsent;
  if (status.type() == fs::file_type::none) return FileError("inspect", path, error);
  if (!fs::is_directory(status)) return InvalidArgument("is a file, not a directory");
  if (fs::exists(path / kUnfinishedMark, error)) return DirectoryContent::kUnfinished;
  if (fs::exists(path / "CURRENT", error)) return DirectoryContent::kDatabase;
  const bool empty = fs::is_empty(path, error);
  if (error) return FileError("list directory", path, error);
  if (HasCheckpoint(directory)) {
    return InvalidArgument(
        "it is a checkpoint of changes only, which no store can be opened on; restore one from it");
  }
  if (!empty) return InvalidArgument("the directory is not empty and holds no store");
  return DirectoryContent::kNothing;
}

StatusOr<bool> BeginCreation(const std::string& directory) {
  DAMO_RETURN_IF_ERROR(CreateDirectories(directory));
  const fs::path mark = fs::path(directory) / kUnfinishedMark;
  const File file(open(mark.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file.is_open() && errno == EEXIST) return false;
  if (!file.is_open()) return FileError("create file", mark.string());
  DAMO_RETURN_IF_ERROR(SyncDirectory(directory));
  return true;
}

Status EndCreation(const std::string& directory) {
  const fs::path mark = fs::path(directory) / kUnfinishedMark;
  std::error_code error;
  fs::remove(mark, error);
  if (error) return FileError("remove file", mark, error);
  return SyncDirectory(directory);
}

StatusOr<std::string> DatabaseState(const std::string& directory) {
  const fs::path current = fs::path(directory) / "CURRENT";  // has the name of the record
  std::ifstream file(current);
  std::string name;
  if (!std::getline(file, name)) return IoError("read file '", current.string(), "'");
  const fs::path record = fs::path(directory) / name;
  std::error_code error;
  const uintmax_t bytes = fs::file_size(record, error);
  if (error) return FileError("get the size of file", record, error);
  return StrCat(name, " ", bytes);
}

StatusOr<uint64_t> DatabaseBytes(const std::string& directory) {
  const auto is_data = [](const fs::path& file) {
    return file.extension() == ".sst" || file.extension() == ".log";
  };
  const auto is_any = [](const fs::path&) { return true; };
  uint64_t bytes = 0;
  DAMO_RETURN_IF_ERROR(AddFileBytes(directory, is_data, &bytes));
  for (const char* const folder : {kIngestFolder, kRedoFolder}) {
    const fs::path path = fs::path(directory) / folder;
    std::error_code error;  // a folder that cannot be looked at fails the listing
    if (fs::exists(path, error) || error) DAMO_RETURN_IF_ERROR(AddFileBytes(path, is_any, &bytes));
  }
  return bytes;
}

}  // namespace damo
