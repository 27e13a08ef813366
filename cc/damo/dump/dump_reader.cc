// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/dump_reader.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <utility>

namespace damo {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

StatusOr<DumpHeader> ReadHeader(const File& file, const std::string& path, uint64_t file_bytes) {
  if (file_bytes < kDumpHeaderBytes) {
    return InvalidArgument("has ", file_bytes, " bytes, expected a header of ", kDumpHeaderBytes);
  }
  RangeReader reader(file.fd(), path, 0, kDumpHeaderBytes, kDumpHeaderBytes);
  DAMO_ASSIGN_OR_RETURN(const std::string_view bytes, reader.Take(kDumpHeaderBytes));
  DAMO_ASSIGN_OR_RETURN(const DumpHeader header, DecodeDumpHeader(bytes));
  if (*header.FileBytes() != file_bytes) {
    return InvalidArgument("has ", file_bytes, " bytes, expected ", *header.FileBytes(), " by its header");
  }
  return header;
}

}  // namespace

StatusOr<std::unique_ptr<DumpReader>> DumpReader::Open(const std::string& path) {
  File file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info;
  if (!file.is_open() || fstat(file.fd(), &info) != 0) return FileError("open file", path);
  if (!S_ISREG(info.st_mode)) return InvalidArgument("file '", path, "' is not a regular file");
  const auto file_bytes = static_cast<uint64_t>(info.st_size);
  StatusOr<DumpHeader> header = ReadHeader(file, path, file_bytes);
  if (!header.ok()) {
    return header.status().WithContext(StrCat("file '", path, "' is not a dump, or not a whole one"));
  }
  return std::unique_ptr<DumpReader>(new DumpReader(path, std::move(file), *header, file_bytes));
}

DumpReader::DumpReader(std::string path, File file, const DumpHeader& header, uint64_t file_bytes)
    : path_(std::move(path)), file_(std::move(file)), header_(header), file_bytes_(file_bytes) {
  posix_fadvise(file_.fd(), 0, 0, POSIX_FADV_SEQUENTIAL);
  Rewind();
}

void DumpReader::Rewind() {
  records_ = std::make_unique<RangeReader>(file_.fd(), path_, kDumpHeaderBytes, file_bytes_, kBufferBytes);
  left_ = header_;
}

StatusOr<std::optional<DumpRecord>> DumpReader::Next() {
  if (records_->remaining() == 0) return std::optional<DumpRecord>();
  record_offset_ = records_->offset();
  DAMO_ASSIGN_OR_RETURN(const std::string_view bytes, records_->Take(kDumpRecordHeaderBytes));
  const DumpRecordHeader record = DecodeDumpRecordHeader(bytes);
  if (record.group < 0 || record.group >= int32_t{kDumpGroups} || left_.counts[record.group] == 0) {
    return InvalidArgument("file '", path_, "', offset ", record_offset_, ": a record of group ",
                           record.group, ", of which the header says no more rows");
  }
  // What is left of the file is as long as the records that are left, so this one is whole.
  left_.counts[record.group] -= 1;
  DAMO_ASSIGN_OR_RETURN(const std::string_view weights,
                        records_->Take(header_.RecordBytes(record.group) - kDumpRecordHeaderBytes));
  return std::optional<DumpRecord>({static_cast<uint8_t>(record.group), record.key, weights});
}

}  // namespace damo
