// SPDX-License-Identifier: Apache-2.0
//
// A row in the cache: as it lies on disk (row/row_codec.h), except that the eight bytes of group and
// reserved, which are the same for all rows of a cache, hold what the cache must know of it.
#ifndef DAMO_CACHE_CACHED_ROW_H_
#define DAMO_CACHE_CACHED_ROW_H_

#include <cstddef>
#include <cstdint>

#include "damo/row/row_codec.h"

namespace damo {

enum class SlotState : uint8_t {
  kFree,     // holds nothing
  kLoading,  // belongs to a call that is reading the row from the storage; for others it is not there
  kReady,
};

struct CachedRow {
  uint32_t mark;  // 1 + the row's place among its shard's distinct keys of the apply call under way, else 0
  SlotState state;
  uint8_t referenced;    // looked up since the clock's hand came by; set by lookups at the same time
  uint8_t dirty;         // newer than in the storage
  uint8_t flush_number;  // of the flush that copied it last; 0: none
  uint64_t key;
  int64_t update_time;
  int64_t update_num;  // 0: the key has no row in the storage; these are its initial values

  float* floats() { return reinterpret_cast<float*>(this + 1); }
  const float* floats() const { return reinterpret_cast<const float*>(this + 1); }
  // Lookups run at the same time, so not a plain store; rarely, so that the line stays shared.
  void SetReferenced() {
    if (__atomic_load_n(&referenced, __ATOMIC_RELAXED) == 0) {
      __atomic_store_n(&referenced, uint8_t{1}, __ATOMIC_RELAXED);
    }
  }
};
static_assert(sizeof(CachedRow) == kRowHeaderBytes && offsetof(CachedRow, key) == 8 &&
                  offsetof(CachedRow, update_time) == 16 && offsetof(CachedRow, update_num) == 24,
              "the rest of a cached row lies as on disk");

}  // namespace damo

#endif  // DAMO_CACHE_CACHED_ROW_H_
