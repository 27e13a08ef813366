// SPDX-License-Identifier: Apache-2.0
#include "damo/base/huge_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

namespace damo {

size_t PageBytes() {
  static const auto bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

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

// The system would round the range up, to what others have beside it.
bool DropPages(char* begin, size_t bytes) {
  if ((reinterpret_cast<uintptr_t>(begin) | bytes) % PageBytes() != 0) return false;
  return madvise(begin, bytes, MADV_DONTNEED) == 0;
}

}  // namespace damo
