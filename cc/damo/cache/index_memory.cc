// SPDX-License-Identifier: Apache-2.0
#include "damo/cache/index_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cassert>

#include "damo/base/huge_pages.h"
#include "damo/base/reserve_more.h"

namespace damo {

IndexMemory::IndexMemory(int num_shards) : num_shards_(num_shards) {}

IndexMemory::~IndexMemory() { assert(regions_.empty()); }

char* IndexMemory::Acquire(int shard, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto region = std::find_if(regions_.begin(), regions_.end(),
                             [bytes](const Region& region) { return region.piece_bytes == bytes; });
  if (region == regions_.end()) {
    ReserveMore(regions_, 1);
    const size_t all_bytes = bytes * static_cast<size_t>(num_shards_);
    const size_t alignment = all_bytes >= kHugePageBytes ? kHugePageBytes : PageBytes();
    const size_t mapped_bytes = (all_bytes + PageBytes() - 1) / PageBytes() * PageBytes();
    regions_.push_back({bytes, mapped_bytes, MapAligned(mapped_bytes, alignment), 0});
    region = regions_.end() - 1;
  }
  ++region->num_taken;
  return region->begin + bytes * static_cast<size_t>(shard);
}

void IndexMemory::Release(int shard, size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto region = std::find_if(regions_.begin(), regions_.end(),
                                   [bytes](const Region& region) { return region.piece_bytes == bytes; });
  assert(region != regions_.end());
  --region->num_taken;
  if (region->num_taken == 0) {
    munmap(region->begin, region->mapped_bytes);
    regions_.erase(region);
  } else {
    // A piece smaller than a page goes with the others.
    (void)DropPages(region->begin + bytes * static_cast<size_t>(shard), bytes);
  }
}

}  // namespace damo
