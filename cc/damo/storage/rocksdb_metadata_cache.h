// SPDX-License-Identifier: Apache-2.0
//
// A block cache for a database whose rows have a cache of their own: it keeps indexes and filters, and lets
// the blocks with the rows go as soon as they have been read. A block would be kept for one row out of a
// dozen, and that row is in the row cache by then.
#ifndef DAMO_STORAGE_ROCKSDB_METADATA_CACHE_H_
#define DAMO_STORAGE_ROCKSDB_METADATA_CACHE_H_

#include <rocksdb/cache.h>

#include <cstddef>
#include <memory>

namespace damo {

// An LRU cache of `capacity` bytes. Its tables must set cache_index_and_filter_blocks_with_high_priority: by
// the lower priority blocks with rows are told. What is charged for memory outside the cache is kept like the
// rest. Thread-safe.
std::shared_ptr<rocksdb::Cache> NewMetadataCache(size_t capacity);

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_METADATA_CACHE_H_
