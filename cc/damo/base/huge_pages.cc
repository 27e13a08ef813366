// SPDX-License-Identifier: Apache-2.0
#include "damo/base/huge_pages.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace damo {

// Not from malloc, which would cut it out of a larger piece; what falls off, in the arenas of many threads,
// holds other things and is never whole again.
char* MapAligned(size_t bytes, size_t alignment) {
  void* const mapped = mmap(nullptr, bytes + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                            /*fd=*/-1, /*offset=*/0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  char* const begin = static_cast<char*>(mapped);
  const size_t before = alignment - reinterpret_cast<uintptr_t>(begin) % alignment;
  munmap(begin, before);
  if (before < alignment) munmap(begin + before + bytes, alignment - before);
  if (alignment % kHugePageBytes == 0) (void)madvise(begin + before, bytes, MADV_HUGEPAGE);
  return begin + before;
}

}  // namespace damo
