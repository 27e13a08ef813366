// SPDX-License-Identifier: Apache-2.0
//
// Linked into the tests only: there it takes the place of the standard library's operator new, in the engine,
// too. Not under ThreadSanitizer, which leaves alone what RocksDB's library frees by operator delete, but not
// what an operator delete of ours frees for it: there no allocation fails.
#include "damo/base/test_allocations.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

namespace {

// Allocations left before the one that fails; negative: it has failed, or none is to.
thread_local int64_t allocations_left = -1;
thread_local bool allocation_failed = false;

}  // namespace

#if !defined(__SANITIZE_THREAD__)

namespace {

void* AllocateUnlessToFail(std::size_t bytes, std::size_t alignment) {
  if (allocations_left >= 0 && allocations_left-- == 0) {
    allocation_failed = true;
    throw std::bad_alloc();
  }
  bytes = std::max<std::size_t>(bytes, 1);
  void* const memory = alignment <= alignof(std::max_align_t)
                           ? std::malloc(bytes)
                           : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// For std::nothrow.
void* AllocateOrNull(std::size_t bytes, std::size_t alignment) noexcept {
  try {
    return AllocateUnlessToFail(bytes, alignment);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

}  // namespace

void* operator new(std::size_t bytes) { return AllocateUnlessToFail(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return AllocateUnlessToFail(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes) { return operator new(bytes); }
void* operator new[](std::size_t bytes, std::align_val_t alignment) { return operator new(bytes, alignment); }
void* operator new(std::size_t bytes, const std::nothrow_t& /*nothrow*/) noexcept {
  return AllocateOrNull(bytes, alignof(std::max_align_t));
}
void* operator new(std::size_t bytes, std::align_val_t alignment,
                   const std::nothrow_t& /*nothrow*/) noexcept {
  return AllocateOrNull(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, const std::nothrow_t& nothrow) noexcept {
  return operator new(bytes, nothrow);
}
void* operator new[](std::size_t bytes, std::align_val_t alignment, const std::nothrow_t& nothrow) noexcept {
  return operator new(bytes, alignment, nothrow);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*bytes*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}
void operator delete(void* memory, const std::nothrow_t& /*nothrow*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/,
                     const std::nothrow_t& /*nothrow*/) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t& /*nothrow*/) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t /*alignment*/,
                       const std::nothrow_t& /*nothrow*/) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t /*bytes*/) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}

#endif  // !defined(__SANITIZE_THREAD__)

namespace damo {

FailingAllocation::FailingAllocation(int64_t n) {
  allocations_left = n;
  allocation_failed = false;
}

FailingAllocation::~FailingAllocation() { allocations_left = -1; }

bool FailingAllocation::failed() const { return allocation_failed; }

SparedAllocations::SparedAllocations() : left_(std::exchange(allocations_left, -1)) {}

SparedAllocations::~SparedAllocations() { allocations_left = left_; }

}  // namespace damo
