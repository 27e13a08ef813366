// SPDX-License-Identifier: Apache-2.0
#include "damo/row/row_codec.h"

namespace damo {

void EncodeRowHeader(const RowHeader& header, char* row) {
  StoreLittleEndian<int32_t>(header.group, row + row_offsets::kGroup);
  StoreLittleEndian<uint32_t>(0, row + row_offsets::kReserved);
  StoreLittleEndian<uint64_t>(header.key, row + row_offsets::kKey);
  StoreLittleEndian<int64_t>(header.update_time, row + row_offsets::kUpdateTime);
  StoreLittleEndian<int64_t>(header.update_num, row + row_offsets::kUpdateNum);
}

Status BadRow(std::string_view row, const RowLayout& layout, uint8_t group, uint64_t key) {
  if (row.size() != layout.row_bytes()) {
    return DataLoss("row of key ", key, " has ", row.size(), " bytes, expected ", layout.row_bytes());
  }
  const char* const bytes = row.data();
  const auto stored_group = LoadLittleEndian<int32_t>(bytes + row_offsets::kGroup);
  if (stored_group != group) {
    return DataLoss("row of key ", key, " says group ", stored_group, ", expected ", int{group});
  }
  const auto reserved = LoadLittleEndian<uint32_t>(bytes + row_offsets::kReserved);
  if (reserved != 0) return DataLoss("row of key ", key, " has reserved field ", reserved, ", expected 0");
  const auto stored_key = LoadLittleEndian<uint64_t>(bytes + row_offsets::kKey);
  if (stored_key != key) return DataLoss("row of key ", key, " says key ", stored_key);
  const auto update_num = LoadLittleEndian<int64_t>(bytes + row_offsets::kUpdateNum);
  if (update_num < 1 || update_num >= kMaxRowUpdates) {
    return DataLoss("row of key ", key, " has update_num ", update_num, ", expected in [1, 2^62)");
  }
  return DataLoss("row of key ", key, " has update_time ",
                  LoadLittleEndian<int64_t>(bytes + row_offsets::kUpdateTime), ", expected >= 0");
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
