// SPDX-License-Identifier: Apache-2.0
//
// What both kinds of apply calls of a CachedTable work with: those that fit into the cache, and the parts of
// those that do not. For these two files only.
#ifndef DAMO_TABLE_CACHED_APPLY_H_
#define DAMO_TABLE_CACHED_APPLY_H_

#include <cstdint>
#include <optional>

#include "damo/table/cached_table.h"

namespace damo {

struct CachedTable::ApplyCall {
  ApplyCall(Span<const uint64_t> its_keys, std::optional<uint64_t> its_padding_key,
            const GradientRows& its_gradients, const ShardUpdate::Context& its_context)
      : keys(its_keys), padding_key(its_padding_key), gradients(its_gradients), context(its_context) {}

  const Span<const uint64_t> keys;
  const std::optional<uint64_t> padding_key;
  const GradientRows gradients;
  const ShardUpdate::Context context;
  bool hard_pressed = false;        // for room in the cache
  bool missing_are_absent = false;  // in the storage, too
  uint64_t lsn = 0;                 // of its redo record
  ApplyResult result;
  int64_t num_newly_dirty = 0;

  int64_t min_shards(const RowCache& cache) const;
};

// Takes back what a call has gathered when it goes, unless the call has come to its update: also when an
// exception ends it.
class CachedTable::Gathered {
 public:
  explicit Gathered(CachedTable* table) : table_(table) {}
  ~Gathered() {
    if (table_ != nullptr) table_->Abandon();
  }
  Gathered(const Gathered&) = delete;
  Gathered& operator=(const Gathered&) = delete;
  void Keep() { table_ = nullptr; }

 private:
  CachedTable* table_;
};

}  // namespace damo

#endif  // DAMO_TABLE_CACHED_APPLY_H_
