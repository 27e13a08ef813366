// SPDX-License-Identifier: Apache-2.0
//
// IndexMemory: memory for the indexes of a cache's shards. Those of one size lie side by side: one alone is
// too small for large pages, and hashing makes all shards grow at about the same time.
#ifndef DAMO_CACHE_INDEX_MEMORY_H_
#define DAMO_CACHE_INDEX_MEMORY_H_

#include <cstddef>
#include <mutex>
#include <vector>

namespace damo {

// Thread-safe.
class IndexMemory {
 public:
  explicit IndexMemory(int num_shards);
  ~IndexMemory();  // everything has been released
  IndexMemory(const IndexMemory&) = delete;
  IndexMemory& operator=(const IndexMemory&) = delete;

  // A piece for shard `shard`, aligned to 64 bytes, of which `bytes` is a multiple, and not cleared. A shard
  // may have several, of different sizes. What no shard has taken takes no memory, but for the rest of a
  // page: of a large one if all pieces together fill one.
  char* Acquire(int shard, size_t bytes);
  void Release(int shard, size_t bytes) noexcept;

 private:
  // Pieces of one size, one for each shard.
  struct Region {
    size_t piece_bytes;
    size_t mapped_bytes;
    char* begin;
    int num_taken;
  };

  const int num_shards_;
  std::mutex mutex_;  // guards what follows
  std::vector<Region> regions_;
};

}  // namespace damo

#endif  // DAMO_CACHE_INDEX_MEMORY_H_
