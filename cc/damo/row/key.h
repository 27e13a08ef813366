// SPDX-License-Identifier: Apache-2.0
//
// Row keys as they lie in RocksDB: one byte of group, then the uint64 key big-endian. Byte order is (group,
// key) order, so a group is one contiguous range. Fixed for ever; docs/row_format.md.
#ifndef DAMO_ROW_KEY_H_
#define DAMO_ROW_KEY_H_

#include <array>
#include <cstdint>
#include <string_view>

#include "damo/base/endian.h"

namespace damo {

inline constexpr size_t kRowKeyBytes = 9;

// One encoded row key. A plain value.
class RowKey {
 public:
  RowKey() = default;
  RowKey(uint8_t group, uint64_t key) {
    bytes_[0] = static_cast<char>(group);
    StoreBigEndian64(key, &bytes_[1]);
  }
  std::string_view bytes() const { return {bytes_.data(), bytes_.size()}; }

 private:
  std::array<char, kRowKeyBytes> bytes_{};
};

// Group and key of an encoded row key; requires kRowKeyBytes bytes.
inline uint8_t GroupOfRowKey(std::string_view bytes) { return static_cast<uint8_t>(bytes[0]); }
inline uint64_t KeyOfRowKey(std::string_view bytes) { return LoadBigEndian64(bytes.data() + 1); }

}  // namespace damo

#endif  // DAMO_ROW_KEY_H_
