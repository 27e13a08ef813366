// SPDX-License-Identifier: Apache-2.0
//
// Memory that is read at random: with pages of 4 KiB nearly each read would also miss the address cache.
#ifndef DAMO_BASE_HUGE_PAGES_H_
#define DAMO_BASE_HUGE_PAGES_H_

#include <cstddef>

namespace damo {

inline constexpr size_t kHugePageBytes = size_t{2} << 20;

// Of the pages that memory is made of where they are not huge.
size_t PageBytes();

// Memory from the system, zeroed and at a multiple of `alignment`. Both numbers are multiples of a page, the
// alignment a power of two. If it is aligned to huge pages they are asked for, which may fail: then
// everything works, slower. munmap() gives it back, or parts of it.
char* MapAligned(size_t bytes, size_t alignment);

// Lets the system take the memory of a range of whole pages; others it leaves alone. What is there is lost,
// the addresses stay. False if the memory stays.
bool DropPages(char* begin, size_t bytes);

}  // namespace damo

#endif  // DAMO_BASE_HUGE_PAGES_H_
