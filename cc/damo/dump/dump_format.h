// SPDX-License-Identifier: Apache-2.0
//
// The bytes of a dump: a header that says how many rows of how many weights each group has, then the rows.
// docs/dump_format.md. Fixed for ever.
#ifndef DAMO_DUMP_DUMP_FORMAT_H_
#define DAMO_DUMP_DUMP_FORMAT_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "damo/base/status.h"

namespace damo {

inline constexpr size_t kDumpGroups = 256;
inline constexpr size_t kDumpHeaderBytes = kDumpGroups * (sizeof(int32_t) + sizeof(uint64_t));
// Of a record, before its weights: int64 key, int32 group.
inline constexpr size_t kDumpRecordHeaderBytes = sizeof(int64_t) + sizeof(int32_t);

// By group number. dim is 0 where there is no such group.
struct DumpHeader {
  std::array<int32_t, kDumpGroups> dims{};
  std::array<uint64_t, kDumpGroups> counts{};

  // Bytes of one record of a group.
  size_t RecordBytes(size_t group) const {
    return kDumpRecordHeaderBytes + sizeof(float) * static_cast<size_t>(dims[group]);
  }
  // Bytes of a file with this header; nullopt if no file can be as large.
  std::optional<uint64_t> FileBytes() const;
};

std::string EncodeDumpHeader(const DumpHeader& header);

// InvalidArgument, saying what is wrong with which group, if the bytes, kDumpHeaderBytes of them, cannot be a
// header: a dim that is not in [0, 65536], rows in a group without a dim, more bytes than a file can have.
StatusOr<DumpHeader> DecodeDumpHeader(std::string_view bytes);

// Writes kDumpRecordHeaderBytes at `bytes`.
void EncodeDumpRecordHeader(uint8_t group, uint64_t key, char* bytes);

// What stands at the beginning of a record; the group may be any number.
struct DumpRecordHeader {
  int32_t group;
  uint64_t key;
};
DumpRecordHeader DecodeDumpRecordHeader(std::string_view bytes);

}  // namespace damo

#endif  // DAMO_DUMP_DUMP_FORMAT_H_
