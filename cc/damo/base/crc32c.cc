// SPDX-License-Identifier: Apache-2.0
#include "damo/base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace damo {
namespace {

// ISA-L takes the length as an int. A multiple of a cache line.
constexpr size_t kMaxLength = size_t{1} << 30;

}  // namespace

uint32_t Crc32c(std::string_view bytes) { return ExtendCrc32c(0, bytes); }

uint32_t ExtendCrc32c(uint32_t crc, std::string_view bytes) {
  uint32_t state = ~crc;  // ISA-L leaves both inversions to its callers
  while (!bytes.empty()) {
    const size_t length = std::min(bytes.size(), kMaxLength);
    // Not written to; the parameter lacks its const.
    auto* const data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
    state = crc32_iscsi(data, static_cast<int>(length), state);
    bytes.remove_prefix(length);
  }
  return ~state;
}

}  // namespace damo
