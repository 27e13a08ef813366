// SPDX-License-Identifier: Apache-2.0
//
// Fixed-width integers to and from bytes. Rows and manifest values are little-endian; row keys hold their
// uint64 big-endian, so that byte order is numeric order.
#ifndef DAMO_BASE_ENDIAN_H_
#define DAMO_BASE_ENDIAN_H_

#include <cstdint>
#include <cstring>

namespace damo {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "rows are copied to and from memory as they lie on disk, which is little-endian");

template <typename T>
void StoreLittleEndian(T value, char* bytes) {
  std::memcpy(bytes, &value, sizeof(T));
}

template <typename T>
T LoadLittleEndian(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

inline void StoreBigEndian64(uint64_t value, char* bytes) {
  value = __builtin_bswap64(value);
  std::memcpy(bytes, &value, sizeof(value));
}

inline uint64_t LoadBigEndian64(const char* bytes) {
  uint64_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return __builtin_bswap64(value);
}

}  // namespace damo

#endif  // DAMO_BASE_ENDIAN_H_
