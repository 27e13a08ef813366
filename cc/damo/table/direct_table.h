// SPDX-License-Identifier: Apache-2.0
//
// DirectTable: a table that keeps no rows in memory. Each call reads its rows from the storage with sorted
// MultiGets, computes, and writes one batch. Simple enough to be the oracle of CachedTable.
#ifndef DAMO_TABLE_DIRECT_TABLE_H_
#define DAMO_TABLE_DIRECT_TABLE_H_

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "damo/table/embedding_table.h"
#include "damo/table/full_filter_warning.h"
#include "damo/table/group_filter.h"

namespace damo {

class UniqueKeys;

// As durable as the storage was opened to be.
class DirectTable final : public EmbeddingTable {
 public:
  using EmbeddingTable::EmbeddingTable;

  StatusOr<bool> TryChangeRecipe(std::shared_ptr<const GroupRecipe> recipe, const Storage& storage,
                                 const std::function<Status()>& save) override;
  std::mutex& apply_mutex() override { return apply_mutex_; }

 private:
  class RowBuffer;

  Status DoLookup(const Storage& storage, Span<const uint64_t> keys, const LookupOptions& options,
                  Executor& executor, Span<float> weights) const override;
  StatusOr<ApplyResult> DoApplyGradients(Storage& storage, Span<const uint64_t> keys,
                                         const GradientRows& gradients, const ApplyOptions& options,
                                         Executor& executor) override;
  StatusOr<std::optional<std::string>> DoGetRow(const Storage& storage, uint64_t key) const override;
  StatusOr<int64_t> CountLiveRows(const Storage& storage, int64_t now_millis) const override;
  void Forget(const std::optional<std::vector<uint64_t>>& /*keys*/) override {}  // has no memory
  void ForgetAll() override {}

  Status LookupUnique(const UniqueKeys& unique, int64_t begin, int64_t end, const Storage& storage,
                      const LookupOptions& options, const Moment& moment, Span<float> weights) const;
  Status LoadRows(const UniqueKeys& unique, int64_t begin, int64_t end, const Storage& storage,
                  const Moment& moment, RowBuffer& rows) const;
  // A filter that has what the storage counts of the keys without row; null if the group has no min_count.
  StatusOr<std::unique_ptr<GroupFilter>> LoadFilter(const UniqueKeys& unique, const GroupRecipe& recipe,
                                                    const Storage& storage, RowBuffer& rows) const;
  void UpdateRows(const UniqueKeys& unique, int64_t begin, int64_t end, const GradientRows& gradients,
                  const Moment& moment, const GroupFilter* filter, RowBuffer& rows) const;
  Status WriteRows(const UniqueKeys& unique, const RowBuffer& rows, const ApplyResult& result,
                   GroupFilter* filter, Storage& storage);
  void NoteFill(const CountingFilter& counts, const GroupConfig& config);

  std::mutex apply_mutex_;  // held through an apply call; guards what follows
  FullFilterWarning full_filter_warning_;
  int64_t sampled_pages_ = 0;  // of the filter, since its fill was last noted
  int64_t sampled_set_ = 0;    // counters of these pages that were not 0
};

}  // namespace damo

#endif  // DAMO_TABLE_DIRECT_TABLE_H_
