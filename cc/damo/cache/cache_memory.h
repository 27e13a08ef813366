// SPDX-License-Identifier: Apache-2.0
//
// CacheMemory: the memory of all row caches of one store: slabs, and what is charged beside them, within one
// limit. A cache that needs memory when there is none gets some of the largest one's.
#ifndef DAMO_CACHE_CACHE_MEMORY_H_
#define DAMO_CACHE_CACHE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace damo {

// Thread-safe. Outlives its holders.
class CacheMemory {
 public:
  // One cache.
  class Holder {
   public:
    virtual ~Holder() = default;
    // Releases a slab if that can be done at once; called by another holder's thread, without the memory's
    // lock. May do nothing.
    virtual void TryReleaseSlab() = 0;

   private:
    friend class CacheMemory;
    int64_t bytes_ = 0;  // slabs and charges; guarded by CacheMemory::mutex_
  };

  explicit CacheMemory(int64_t limit_bytes);
  ~CacheMemory();
  CacheMemory(const CacheMemory&) = delete;
  CacheMemory& operator=(const CacheMemory&) = delete;

  int64_t limit_bytes() const { return limit_bytes_; }
  // Slabs in use and charges.
  int64_t used_bytes() const;
  // These and slabs that were given back, as far as the system still has memory for them: what others may use
  // of a slab's memory is given back to the system first.
  int64_t held_bytes() const;

  // A holder is known from Join() to Leave(), by when it has released everything.
  void Join(Holder* holder);
  void Leave(Holder* holder);

  // Memory aligned to 64 bytes, not cleared; null where it would go over the limit. `beyond_limit` asks for
  // it all the same, if nobody gives way: the least that a cache cannot do without.
  char* AcquireSlab(Holder* holder, size_t slab_bytes, bool beyond_limit);
  void ReleaseSlab(Holder* holder, char* slab, size_t slab_bytes);

  // Counts memory that `holder` allocates itself, or frees (negative). Goes over the limit if need be; slabs
  // are then refused until it is under again.
  void Charge(Holder* holder, int64_t bytes);

  // Counts memory that is no cache's, or, negative, is no longer. Goes over the limit if need be; what caches
  // can give back at once they do.
  void Reserve(int64_t bytes);
  // What Reserve() has counted.
  int64_t reserved_bytes() const;

  // Rows of up to an eighth of this share slabs of exactly this size, which are cut from large pages.
  static constexpr size_t kSlabBytes = size_t{32} << 10;

 private:
  char* TakeLocked(Holder* holder, size_t slab_bytes);
  // A slab of kSlabBytes from the free lists or a new chunk.
  char* CutSlabLocked();
  int64_t HeldLocked() const;
  // Gives memory of idle slabs back to the system until what is held is within the limit, or none is left.
  void ReturnIdleLocked();
  // The holder that has most; null if there is none.
  Holder* LargestLocked() const;
  // The same, null unless it has at least two slabs more than `holder`.
  Holder* LargerLocked(const Holder* holder, size_t slab_bytes) const;

  const size_t chunk_bytes_;
  const int64_t limit_bytes_;
  mutable std::mutex mutex_;  // guards what follows
  int64_t used_bytes_ = 0;
  int64_t reserved_bytes_ = 0;  // of these
  std::vector<Holder*> holders_;
  std::vector<char*> idle_slabs_;  // of kSlabBytes, given back by holders
  std::vector<char*> free_slabs_;  // of kSlabBytes, for which the system has no memory yet, or no more
  std::vector<char*> chunks_;
};

}  // namespace damo

#endif  // DAMO_CACHE_CACHE_MEMORY_H_
