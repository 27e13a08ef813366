// SPDX-License-Identifier: Apache-2.0
//
// Row values as they lie in RocksDB: a 32-byte header, then float32 weights and optimizer slots. Fixed for
// ever; docs/row_format.md.
#ifndef DAMO_ROW_ROW_CODEC_H_
#define DAMO_ROW_ROW_CODEC_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "damo/base/endian.h"
#include "damo/base/span.h"
#include "damo/base/status.h"

namespace damo {

inline constexpr size_t kRowHeaderBytes = 32;

// Byte offsets of the header's fields. On disk: never renumber.
namespace row_offsets {
inline constexpr size_t kGroup = 0;        // int32
inline constexpr size_t kReserved = 4;     // uint32
inline constexpr size_t kKey = 8;          // int64, the bits of the uint64
inline constexpr size_t kUpdateTime = 16;  // int64
inline constexpr size_t kUpdateNum = 24;   // int64
}  // namespace row_offsets

// More than can be counted in the life of a machine; adding 1 never overflows.
inline constexpr int64_t kMaxRowUpdates = int64_t{1} << 62;

// The fields before the floats; `reserved` is always 0.
struct RowHeader {
  uint8_t group = 0;
  uint64_t key = 0;
  int64_t update_time = 0;  // milliseconds since the Unix epoch, UTC
  int64_t update_num = 0;   // updates so far, at least 1 in a stored row
};

// Where things lie in the rows of one group. A plain value.
class RowLayout {
 public:
  RowLayout(int64_t dim, int64_t num_slots) : dim_(dim), num_slots_(num_slots) {}

  size_t dim() const { return dim_; }
  size_t slot_floats() const { return dim_ * num_slots_; }
  size_t row_bytes() const { return kRowHeaderBytes + sizeof(float) * (dim_ + slot_floats()); }

  // Parts of a row at `row`, which is aligned for float and row_bytes() long.
  Span<float> Weights(char* row) const { return {Floats(row), dim()}; }
  Span<float> Slots(char* row) const { return {Floats(row) + dim_, slot_floats()}; }

 private:
  static float* Floats(char* row) { return reinterpret_cast<float*>(row + kRowHeaderBytes); }

  size_t dim_;
  size_t num_slots_;
};

// Writes the header at `row`.
void EncodeRowHeader(const RowHeader& header, char* row);

// DataLoss that says what is and what should be, of bytes that DecodeRowHeader() refuses.
Status BadRow(std::string_view row, const RowLayout& layout, uint8_t group, uint64_t key);

// Reads the header of an encoded row of `layout` that was found under (group, key). DataLoss if the bytes
// cannot be such a row: wrong size, another group or key inside, a reserved field that is not 0, or a count
// or time that cannot be. Inline: a pass over a store calls it for each row.
inline StatusOr<RowHeader> DecodeRowHeader(std::string_view row, const RowLayout& layout, uint8_t group,
                                           uint64_t key) {
  if (row.size() != layout.row_bytes()) return BadRow(row, layout, group, key);
  const char* const bytes = row.data();
  RowHeader header;
  header.group = group;
  header.key = LoadLittleEndian<uint64_t>(bytes + row_offsets::kKey);
  header.update_time = LoadLittleEndian<int64_t>(bytes + row_offsets::kUpdateTime);
  header.update_num = LoadLittleEndian<int64_t>(bytes + row_offsets::kUpdateNum);
  const bool good = LoadLittleEndian<int32_t>(bytes + row_offsets::kGroup) == group &&
                    LoadLittleEndian<uint32_t>(bytes + row_offsets::kReserved) == 0 && header.key == key &&
                    header.update_num >= 1 && header.update_num < kMaxRowUpdates && header.update_time >= 0;
  if (!good) return BadRow(row, layout, group, key);
  return header;
}

// When a row that was found under (group, key) was last updated; nullopt if the bytes cannot be such a row,
// whatever its layout.
std::optional<int64_t> PeekUpdateTime(std::string_view row, uint8_t group, uint64_t key);

}  // namespace damo

#endif  // DAMO_ROW_ROW_CODEC_H_
