// SPDX-License-Identifier: Apache-2.0
#include "damo/cache/cache_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cassert>
#include <new>

#include "damo/base/huge_pages.h"
#include "damo/base/reserve_more.h"

namespace damo {
namespace {

constexpr size_t kAlignment = 64;

char* Allocate(size_t bytes, size_t alignment) {
  return static_cast<char*>(::operator new(bytes, std::align_val_t(alignment)));
}

void Free(char* memory, size_t alignment) { ::operator delete(memory, std::align_val_t(alignment)); }

}  // namespace

CacheMemory::CacheMemory(int64_t limit_bytes)
    : chunk_bytes_(limit_bytes >= int64_t{16 * kHugePageBytes} ? kHugePageBytes : 4 * kSlabBytes),
      limit_bytes_(limit_bytes) {}

CacheMemory::~CacheMemory() {
  assert(holders_.empty());
  for (char* const chunk : chunks_) munmap(chunk, chunk_bytes_);
}

int64_t CacheMemory::used_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return used_bytes_;
}

int64_t CacheMemory::held_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return HeldLocked();
}

int64_t CacheMemory::reserved_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return reserved_bytes_;
}

void CacheMemory::Join(Holder* holder) {
  const std::lock_guard<std::mutex> lock(mutex_);
  holders_.push_back(holder);
}

void CacheMemory::Leave(Holder* holder) {
  const std::lock_guard<std::mutex> lock(mutex_);
  assert(holder->bytes_ == 0);
  holders_.erase(std::remove(holders_.begin(), holders_.end(), holder), holders_.end());
}

char* CacheMemory::AcquireSlab(Holder* holder, size_t slab_bytes, bool beyond_limit) {
  Holder* largest = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (used_bytes_ + static_cast<int64_t>(slab_bytes) <= limit_bytes_) {
      return TakeLocked(holder, slab_bytes);
    }
    largest = LargerLocked(holder, slab_bytes);
  }
  if (largest != nullptr) largest->TryReleaseSlab();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!beyond_limit && used_bytes_ + static_cast<int64_t>(slab_bytes) > limit_bytes_) return nullptr;
  return TakeLocked(holder, slab_bytes);
}

void CacheMemory::ReleaseSlab(Holder* holder, char* slab, size_t slab_bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  used_bytes_ -= static_cast<int64_t>(slab_bytes);
  holder->bytes_ -= static_cast<int64_t>(slab_bytes);
  if (slab_bytes == kSlabBytes) {
    idle_slabs_.push_back(slab);
    ReturnIdleLocked();
  } else {
    Free(slab, kAlignment);
  }
}

void CacheMemory::Charge(Holder* holder, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  used_bytes_ += bytes;
  holder->bytes_ += bytes;
  ReturnIdleLocked();
}

void CacheMemory::Reserve(int64_t bytes) {
  int64_t used = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    used_bytes_ += bytes;
    reserved_bytes_ += bytes;
    used = used_bytes_;
    ReturnIdleLocked();
  }
  while (bytes > 0 && used > limit_bytes()) {
    Holder* largest = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      largest = LargestLocked();
    }
    if (largest == nullptr) return;
    largest->TryReleaseSlab();
    const int64_t left = used_bytes();
    if (left >= used) return;
    used = left;
  }
}

// Requires mutex_.
char* CacheMemory::TakeLocked(Holder* holder, size_t slab_bytes) {
  char* const slab = slab_bytes == kSlabBytes ? CutSlabLocked() : Allocate(slab_bytes, kAlignment);
  used_bytes_ += static_cast<int64_t>(slab_bytes);
  holder->bytes_ += static_cast<int64_t>(slab_bytes);
  ReturnIdleLocked();
  return slab;
}

// Requires mutex_.
int64_t CacheMemory::HeldLocked() const {
  return used_bytes_ + static_cast<int64_t>(idle_slabs_.size() * kSlabBytes);
}

// Requires mutex_.
void CacheMemory::ReturnIdleLocked() {
  while (!idle_slabs_.empty() && HeldLocked() > limit_bytes_) {
    char* const slab = idle_slabs_.back();
    if (!DropPages(slab, kSlabBytes)) return;  // then the memory stays, for the next slab
    idle_slabs_.pop_back();
    free_slabs_.push_back(slab);
  }
}

// Requires mutex_.
char* CacheMemory::CutSlabLocked() {
  if (!idle_slabs_.empty()) {
    char* const slab = idle_slabs_.back();
    idle_slabs_.pop_back();
    return slab;
  }
  if (free_slabs_.empty()) {
    ReserveMore(chunks_, 1);
    const size_t num_slabs = chunks_.capacity() * (chunk_bytes_ / kSlabBytes);
    free_slabs_.reserve(num_slabs);
    idle_slabs_.reserve(num_slabs);  // giving one back cannot fail
    char* const chunk = MapAligned(chunk_bytes_, chunk_bytes_);
    chunks_.push_back(chunk);
    for (size_t offset = chunk_bytes_; offset > 0; offset -= kSlabBytes) {
      free_slabs_.push_back(chunk + offset - kSlabBytes);
    }
  }
  char* const slab = free_slabs_.back();
  free_slabs_.pop_back();
  return slab;
}

// Requires mutex_.
CacheMemory::Holder* CacheMemory::LargestLocked() const {
  Holder* largest = nullptr;
  for (Holder* const holder : holders_) {
    if (largest == nullptr || holder->bytes_ > largest->bytes_) largest = holder;
  }
  return largest;
}

// Requires mutex_.
CacheMemory::Holder* CacheMemory::LargerLocked(const Holder* holder, size_t slab_bytes) const {
  Holder* const largest = LargestLocked();
  const int64_t least = holder->bytes_ + 2 * static_cast<int64_t>(slab_bytes);
  return largest != nullptr && largest->bytes_ >= least ? largest : nullptr;
}

}  // namespace damo
