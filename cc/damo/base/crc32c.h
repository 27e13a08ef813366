// SPDX-License-Identifier: Apache-2.0
//
// CRC-32C (Castagnoli), the checksum of iSCSI, ext4 and RocksDB, by Intel's ISA-L. It tells every single
// flipped bit and every burst of up to 32 bits.
#ifndef DAMO_BASE_CRC32C_H_
#define DAMO_BASE_CRC32C_H_

#include <cstdint>
#include <string_view>

namespace damo {

// The checksum of `bytes`. Thread-safe.
uint32_t Crc32c(std::string_view bytes);

// The checksum of a + b, where `crc` is that of a and `bytes` are b. The checksum of nothing is 0.
uint32_t ExtendCrc32c(uint32_t crc, std::string_view bytes);

}  // namespace damo

#endif  // DAMO_BASE_CRC32C_H_
