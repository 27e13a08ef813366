// SPDX-License-Identifier: Apache-2.0
#include "damo/row/row_codec.h"

#include "damo/base/endian.h"

namespace damo {
namespace {

// Byte offsets of the header's fields. On disk: never renumber.
constexpr size_t kGroupOffset = 0;        // int32
constexpr size_t kReservedOffset = 4;     // uint32
constexpr size_t kKeyOffset = 8;          // int64, the bits of the uint64
constexpr size_t kUpdateTimeOffset = 16;  // int64
constexpr size_t kUpdateNumOffset = 24;   // int64

// More than can be counted in the life of a machine; adding 1 never overflows.
constexpr int64_t kMaxUpdates = int64_t{1} << 62;

}  // namespace

void EncodeRowHeader(const RowHeader& header, char* row) {
  StoreLittleEndian<int32_t>(header.group, row + kGroupOffset);
  StoreLittleEndian<uint32_t>(0, row + kReservedOffset);
  StoreLittleEndian<uint64_t>(header.key, row + kKeyOffset);
  StoreLittleEndian<int64_t>(header.update_time, row + kUpdateTimeOffset);
  StoreLittleEndian<int64_t>(header.update_num, row + kUpdateNumOffset);
}

StatusOr<RowHeader> DecodeRowHeader(std::string_view row, const RowLayout& layout, uint8_t group,
                                    uint64_t key) {
  if (row.size() != layout.row_bytes()) {
    return DataLoss("row of key ", key, " has ", row.size(), " bytes, expected ", layout.row_bytes());
  }
  const char* const bytes = row.data();
  const auto stored_group = LoadLittleEndian<int32_t>(bytes + kGroupOffset);
  if (stored_group != group) {
    return DataLoss("row of key ", key, " says group ", stored_group, ", expected ", int{group});
  }
  const auto reserved = LoadLittleEndian<uint32_t>(bytes + kReservedOffset);
  if (reserved != 0) return DataLoss("row of key ", key, " has reserved field ", reserved, ", expected 0");
  RowHeader header;
  header.group = group;
  header.key = LoadLittleEndian<uint64_t>(bytes + kKeyOffset);
  header.update_time = LoadLittleEndian<int64_t>(bytes + kUpdateTimeOffset);
  header.update_num = LoadLittleEndian<int64_t>(bytes + kUpdateNumOffset);
  if (header.key != key) return DataLoss("row of key ", key, " says key ", header.key);
  if (header.update_num < 1 || header.update_num >= kMaxUpdates) {
    return DataLoss("row of key ", key, " has update_num ", header.update_num, ", expected in [1, 2^62)");
  }
  if (header.update_time < 0) {
    return DataLoss("row of key ", key, " has update_time ", header.update_time, ", expected >= 0");
  }
  return header;
}

std::optional<int64_t> PeekUpdateTime(std::string_view row, uint8_t group, uint64_t key) {
  if (row.size() <= kRowHeaderBytes || (row.size() - kRowHeaderBytes) % sizeof(float) != 0)
    return std::nullopt;
  const auto num_floats = static_cast<int64_t>((row.size() - kRowHeaderBytes) / sizeof(float));
  const StatusOr<RowHeader> header = DecodeRowHeader(row, RowLayout(num_floats, 0), group, key);
  if (!header.ok()) return std::nullopt;
  return header->update_time;
}

}  // namespace damo
