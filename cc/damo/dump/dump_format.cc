// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/dump_format.h"

#include "damo/base/endian.h"
#include "damo/config/group_config.h"

namespace damo {
namespace {

// Byte offsets. On disk: never renumber.
constexpr size_t kDimsOffset = 0;                                          // int32[256]
constexpr size_t kCountsOffset = kDimsOffset + 4 * kDumpGroups;            // uint64[256]
constexpr size_t kRecordKeyOffset = 0;                                     // int64, the bits of the uint64
constexpr size_t kRecordGroupOffset = kRecordKeyOffset + sizeof(int64_t);  // int32

constexpr uint64_t kMaxFileBytes = INT64_MAX;

}  // namespace

std::optional<uint64_t> DumpHeader::FileBytes() const {
  uint64_t bytes = kDumpHeaderBytes;
  for (size_t group = 0; group < kDumpGroups; ++group) {
    const uint64_t record_bytes = RecordBytes(group);
    if (counts[group] > (kMaxFileBytes - bytes) / record_bytes) return std::nullopt;
    bytes += counts[group] * record_bytes;
  }
  return bytes;
}

std::string EncodeDumpHeader(const DumpHeader& header) {
  std::string bytes(kDumpHeaderBytes, '\0');
  for (size_t group = 0; group < kDumpGroups; ++group) {
    StoreLittleEndian<int32_t>(header.dims[group], &bytes[kDimsOffset + sizeof(int32_t) * group]);
    StoreLittleEndian<uint64_t>(header.counts[group], &bytes[kCountsOffset + sizeof(uint64_t) * group]);
  }
  return bytes;
}

StatusOr<DumpHeader> DecodeDumpHeader(std::string_view bytes) {
  DumpHeader header;
  for (size_t group = 0; group < kDumpGroups; ++group) {
    const auto dim = LoadLittleEndian<int32_t>(&bytes[kDimsOffset + sizeof(int32_t) * group]);
    const auto count = LoadLittleEndian<uint64_t>(&bytes[kCountsOffset + sizeof(uint64_t) * group]);
    if (dim < 0 || dim > kMaxDim) {
      return InvalidArgument("group ", group, " has dim ", dim, ", expected in [0, ", kMaxDim, "]");
    }
    if (dim == 0 && count > 0) return InvalidArgument("group ", group, " has ", count, " rows but dim 0");
    header.dims[group] = dim;
    header.counts[group] = count;
  }
  if (!header.FileBytes()) return InvalidArgument("the rows of all groups are more than a file can hold");
  return header;
}

void EncodeDumpRecordHeader(uint8_t group, uint64_t key, char* bytes) {
  StoreLittleEndian<uint64_t>(key, bytes + kRecordKeyOffset);
  StoreLittleEndian<int32_t>(group, bytes + kRecordGroupOffset);
}

DumpRecordHeader DecodeDumpRecordHeader(std::string_view bytes) {
  return {LoadLittleEndian<int32_t>(bytes.data() + kRecordGroupOffset),
          LoadLittleEndian<uint64_t>(bytes.data() + kRecordKeyOffset)};
}

}  // namespace damo
