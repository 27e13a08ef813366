// SPDX-License-Identifier: Apache-2.0
//
// KeyPartition: the keys of one call sorted by the shard they belong to, each with its position in the call.
// Within a shard they stay in order of occurrence.
#ifndef DAMO_TABLE_KEY_PARTITION_H_
#define DAMO_TABLE_KEY_PARTITION_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "damo/base/executor.h"
#include "damo/base/span.h"
#include "damo/cache/row_cache.h"

namespace damo {

// Reusable: keeps its memory from call to call. Thread-compatible.
class KeyPartition {
 public:
  struct Occurrence {
    uint64_t key;
    uint32_t tag;  // TagOf() its hash
    uint32_t position;
  };

  // Replaces what was there by `keys`, fewer than 2^32 (see CheckNumKeys()), `padding_key` left out. A
  // counting sort: keys are counted, then placed.
  void Build(Span<const uint64_t> keys, std::optional<uint64_t> padding_key, const RowCache& cache,
             Executor& executor);

  Span<const Occurrence> shard(int i) const {
    return Span<const Occurrence>(occurrences_).subspan(starts_[i], starts_[i + 1] - starts_[i]);
  }

  int64_t memory_bytes() const {
    return static_cast<int64_t>(occurrences_.capacity() * sizeof(Occurrence) +
                                (starts_.capacity() + counts_.capacity()) * sizeof(size_t));
  }

 private:
  std::vector<Occurrence> occurrences_;
  std::vector<size_t> starts_;  // of each shard in occurrences_, and the end
  std::vector<size_t> counts_;  // range by range, shard by shard: first counts, then where to put the next
};

}  // namespace damo

#endif  // DAMO_TABLE_KEY_PARTITION_H_
