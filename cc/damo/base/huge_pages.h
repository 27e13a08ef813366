// SPDX-License-Identifier: Apache-2.0
//
// Memory that is read at random: with pages of 4 KiB nearly each read would also miss the address cache.
#ifndef DAMO_BASE_HUGE_PAGES_H_
#define DAMO_BASE_HUGE_PAGES_H_

#include <cstddef>

namespace damo {

inline constexpr size_t kHugePageBytes = size_t{2} << 20;

// Memory from the system, zeroed and at a multiple of `alignment`, which is a power of two of at least a
// page. If it is aligned to huge pages they are asked for, which may fail: then everything works, slower.
// munmap() gives it back, or parts of it.
char* MapAligned(size_t bytes, size_t alignment);

}  // namespace damo

#endif  // DAMO_BASE_HUGE_PAGES_H_
