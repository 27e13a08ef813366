// SPDX-License-Identifier: Apache-2.0
//
// GroupFilter: the admission filter of one group: a CountingFilter, the pages of it that stand in the
// manifest, and those that have changed since. Why it is exact: docs/decisions/0017-admission.md.
#ifndef DAMO_TABLE_GROUP_FILTER_H_
#define DAMO_TABLE_GROUP_FILTER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "damo/admission/counting_filter.h"
#include "damo/base/span.h"
#include "damo/base/status.h"
#include "damo/cache/cache_memory.h"
#include "damo/config/group_config.h"
#include "damo/storage/storage.h"

namespace damo {

// A key without row, and how often it has occurred in one apply call.
struct CountedKey {
  uint64_t key;
  uint32_t occurrences;
};

// The filters of a store may take half of what its memory budget has for rows. InvalidArgument with all
// numbers if that of `config`, which has one, does not fit beside `other_bytes` of others.
Status CheckFilterFits(const GroupConfig& config, int64_t other_bytes, int64_t memory_budget);

// See CountingFilter::fill(), of a filter that is in a manifest only. Reads all of it.
StatusOr<double> StoredFilterFill(const Storage& storage, int group, const FilterOptions& options);

// Thread-compatible: of one table, whose apply mutex guards it, except as said.
class GroupFilter {
 public:
  // A filter of no counts. Nothing is charged for it if `memory` is null.
  GroupFilter(int group, const FilterOptions& options, std::shared_ptr<CacheMemory> memory);
  ~GroupFilter();
  GroupFilter(const GroupFilter&) = delete;
  GroupFilter& operator=(const GroupFilter&) = delete;

  // Replaces pages by what the manifest has of them: all pages, or those of `keys` only. DataLoss if a page
  // has another size.
  Status Load(const Storage& storage);
  Status LoadPagesOf(Span<const uint64_t> keys, const Storage& storage);

  const CountingFilter& counts() const { return counts_; }
  int64_t Count(uint64_t key) const { return counts_.Count(key); }
  // Sees to it that Add() of these keys allocates nothing.
  void Reserve(Span<const CountedKey> keys);
  void Add(Span<const CountedKey> keys);

  // Writes the pages that have changed since the last call.
  Status PutChangedPages(ManifestWriter& writer);
  // Says what became of them. If they are not in the storage, they have changed still. Needs no mutex.
  void EndWrite(bool in_storage);

  // As of the last Add() or Load(). Need no mutex.
  int64_t memory_bytes() const { return memory_bytes_; }
  double fill() const { return fill_; }

 private:
  Status LoadPage(int64_t page, const Storage& storage);
  void NoteFigures();

  const int group_;
  const std::shared_ptr<CacheMemory> memory_;
  CountingFilter counts_;
  std::atomic<int64_t> memory_bytes_{0};
  std::atomic<double> fill_{0};

  std::mutex mutex_;  // guards what follows
  std::vector<bool> is_changed_;
  std::vector<int64_t> changed_;  // pages; has room for all
  std::vector<int64_t> written_;  // pages that are on their way to the storage; has room for all
};

}  // namespace damo

#endif  // DAMO_TABLE_GROUP_FILTER_H_
