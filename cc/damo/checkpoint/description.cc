// SPDX-License-Identifier: Apache-2.0
#include "damo/checkpoint/description.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <system_error>

#include "damo/base/crc32c.h"
#include "damo/storage/directory.h"
#include "damo/storage/file.h"

namespace damo {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr size_t kReadBytes = size_t{1} << 20;

std::string DescriptionPath(const std::string& directory) { return directory + "/" + kCheckpointFile; }

json ToJsonValue(const CheckpointDescription::Group& group) {
  return {{"group", group.config.group},
          {"config", json::parse(group.config.ToJson())},
          {"step", group.step},
          {"rows", group.num_rows}};
}

json ToJsonValue(const StorageFile& file) {
  json object = {{"name", file.name}, {"bytes", file.bytes}};
  if (file.crc32c) object["crc32c"] = *file.crc32c;
  return object;
}

json ToJsonValue(const CheckpointDescription::Base& base) {
  return {{"id", base.id},
          {"path", base.path},
          {"changed_rows", base.num_changed_rows},
          {"deleted_rows", base.num_deleted_rows}};
}

// Takes members out of an object. The first that is missing or of another type is the failure.
class MemberReader {
 public:
  explicit MemberReader(const json& object) : object_(object) {}

  void Get(const char* name, std::string* value) {
    const json* const member = Member(name);
    if (member != nullptr && Expect(name, "a string", member->is_string()))
      *value = member->get<std::string>();
  }
  void Get(const char* name, uint64_t* value) {
    const json* const member = Member(name);
    if (member != nullptr && Expect(name, "an integer >= 0", member->is_number_unsigned())) {
      *value = member->get<uint64_t>();
    }
  }
  void Get(const char* name, int64_t* value) {
    uint64_t number = 0;
    Get(name, &number);
    if (Expect(name, "below 2^63", number <= uint64_t{INT64_MAX})) *value = static_cast<int64_t>(number);
  }
  void Get(const char* name, std::optional<uint32_t>* value) {
    if (!object_.is_object() || !object_.contains(name)) return;
    uint64_t number = 0;
    Get(name, &number);
    if (Expect(name, "below 2^32", number <= UINT32_MAX)) *value = static_cast<uint32_t>(number);
  }
  const json& Array(const char* name) {
    static const json empty = json::array();
    const json* const member = Member(name);
    return member != nullptr && Expect(name, "an array", member->is_array()) ? *member : empty;
  }
  const json* Member(const char* name) {
    const auto it = object_.find(name);
    if (object_.is_object() && it != object_.end()) return &*it;
    Expect(name, "there", false);
    return nullptr;
  }
  const Status& status() const { return status_; }

 private:
  bool Expect(const char* name, const char* rule, bool holds) {
    if (!holds && status_.ok()) status_ = DataLoss("member '", name, "' must be ", rule);
    return holds;
  }

  const json& object_;
  Status status_;
};

StatusOr<CheckpointDescription::Group> ToGroup(const json& object) {
  CheckpointDescription::Group group;
  MemberReader members(object);
  int64_t number = 0;
  members.Get("group", &number);
  members.Get("step", &group.step);
  members.Get("rows", &group.num_rows);
  const json* const config = members.Member("config");
  DAMO_RETURN_IF_ERROR(members.status());
  DAMO_RETURN_IF_ERROR(ValidateGroup(number));
  DAMO_ASSIGN_OR_RETURN(group.config, GroupConfig::FromJson(static_cast<int>(number), config->dump()));
  return group;
}

// A name leads into the checkpoint, whatever a description of unknown origin says.
StatusOr<StorageFile> ToFile(const json& object) {
  StorageFile file;
  MemberReader members(object);
  members.Get("name", &file.name);
  members.Get("bytes", &file.bytes);
  members.Get("crc32c", &file.crc32c);
  DAMO_RETURN_IF_ERROR(members.status());
  const fs::path path(file.name);
  const bool leads_out = path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end();
  if (file.name.empty() || leads_out) return DataLoss("'", file.name, "' is no name of a file in it");
  return file;
}

StatusOr<CheckpointDescription::Base> ToBase(const json& object) {
  CheckpointDescription::Base base;
  MemberReader members(object);
  members.Get("id", &base.id);
  members.Get("path", &base.path);
  members.Get("changed_rows", &base.num_changed_rows);
  members.Get("deleted_rows", &base.num_deleted_rows);
  DAMO_RETURN_IF_ERROR(members.status());
  return base;
}

StatusOr<uint32_t> ChecksumOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string buffer(kReadBytes, '\0');
  uint32_t crc32c = 0;
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || file.gcount() > 0) {
    crc32c = ExtendCrc32c(crc32c, {buffer.data(), static_cast<size_t>(file.gcount())});
  }
  if (file.bad() || !file.eof()) return IoError("read file '", path, "'");
  return crc32c;
}

Status CheckFile(const StorageFile& file, const std::string& directory) {
  const std::string path = directory + "/" + file.name;
  std::error_code error;
  const uintmax_t bytes = fs::file_size(path, error);
  if (error) return DataLoss("file '", path, "': ", error.message());
  if (bytes != file.bytes) return DataLoss("file '", path, "' has ", bytes, " bytes, expected ", file.bytes);
  if (!file.crc32c) return Status();
  DAMO_ASSIGN_OR_RETURN(const uint32_t crc32c, ChecksumOf(path));
  if (crc32c == *file.crc32c) return Status();
  return DataLoss("file '", path, "' has checksum ", crc32c, ", expected ", *file.crc32c);
}

bool NeededToOpen(const fs::path& file) {
  const std::string name = file.filename().string();
  return name != "LOCK" && name.rfind("LOG", 0) != 0;
}

}  // namespace

std::string CheckpointDescription::ToJson() const {
  json object = {{"format", kCheckpointFormat},
                 {"kind", base ? "delta" : "full"},
                 {"id", id},
                 {"created", created_millis},
                 {"seed", seed},
                 {"groups", json::array()},
                 {"files", json::array()}};
  for (const Group& group : groups) object["groups"].push_back(ToJsonValue(group));
  for (const StorageFile& file : files) object["files"].push_back(ToJsonValue(file));
  if (base) object["base"] = ToJsonValue(*base);
  return object.dump(1) + "\n";
}

StatusOr<CheckpointDescription> CheckpointDescription::FromJson(std::string_view text) {
  const json object = json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return DataLoss("is not a JSON object");
  MemberReader members(object);
  uint64_t format = 0;
  members.Get("format", &format);
  DAMO_RETURN_IF_ERROR(members.status());
  if (format != kCheckpointFormat) {
    return InvalidArgument("has format ", format, ", this release reads format ", kCheckpointFormat);
  }
  CheckpointDescription description;
  std::string kind;
  members.Get("kind", &kind);
  members.Get("id", &description.id);
  members.Get("created", &description.created_millis);
  members.Get("seed", &description.seed);
  for (const json& group : members.Array("groups")) {
    DAMO_ASSIGN_OR_RETURN(Group one, ToGroup(group));
    description.groups.push_back(std::move(one));
  }
  for (const json& file : members.Array("files")) {
    DAMO_ASSIGN_OR_RETURN(StorageFile one, ToFile(file));
    description.files.push_back(std::move(one));
  }
  const json* const base = kind == "full" ? nullptr : members.Member("base");
  DAMO_RETURN_IF_ERROR(members.status());
  if (kind != "full" && kind != "delta") return DataLoss("is of kind '", kind, "', not 'full' or 'delta'");
  if (base != nullptr) {
    DAMO_ASSIGN_OR_RETURN(description.base, ToBase(*base));
  }
  return description;
}

std::string NewCheckpointId() {
  std::random_device random;
  std::string id;
  while (id.size() < 32) id += "0123456789abcdef"[random() % 16];
  return id;
}

Status WriteDescription(const CheckpointDescription& description, const std::string& directory) {
  const std::string path = DescriptionPath(directory);
  const File file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!file.is_open()) return FileError("create file", path);
  DAMO_RETURN_IF_ERROR(WriteAllAt(file.fd(), description.ToJson(), /*offset=*/0, path));
  return fsync(file.fd()) == 0 ? Status() : FileError("sync file", path);
}

StatusOr<CheckpointDescription> ReadDescription(const std::string& directory) {
  const std::string path = DescriptionPath(directory);
  std::error_code error;
  if (!fs::exists(path, error)) return NotFound("it is none: there is no file '", path, "'");
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) return IoError("read file '", path, "'");
  StatusOr<CheckpointDescription> description = CheckpointDescription::FromJson(text);
  if (!description.ok()) return description.status().WithContext(StrCat("file '", path, "'"));
  return description;
}

StatusOr<std::vector<StorageFile>> DescribeFiles(const std::string& directory, const std::string& prefix) {
  std::vector<StorageFile> files;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (!entry->is_regular_file(error) || !NeededToOpen(entry->path())) continue;
    DAMO_ASSIGN_OR_RETURN(const uint32_t crc32c, ChecksumOf(entry->path().string()));
    files.push_back({prefix + entry->path().filename().string(), entry->file_size(error), crc32c});
  }
  if (error) return IoError("list directory '", directory, "': ", error.message());
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return files;
}

Status CheckFiles(const CheckpointDescription& description, const std::string& directory) {
  for (const StorageFile& file : description.files) DAMO_RETURN_IF_ERROR(CheckFile(file, directory));
  return Status();
}

}  // namespace damo
