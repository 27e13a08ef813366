// SPDX-License-Identifier: Apache-2.0
//
// EmbeddingTable: the rows of one group: looked up, and updated by gradients.
//
// This is the direct path: each call reads its rows from the storage with sorted MultiGets, computes, and
// writes one batch. It keeps no rows in memory, so it is simple enough to be the oracle of any faster path.
#ifndef DAMO_TABLE_EMBEDDING_TABLE_H_
#define DAMO_TABLE_EMBEDDING_TABLE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "damo/base/executor.h"
#include "damo/base/span.h"
#include "damo/base/status.h"
#include "damo/table/group_recipe.h"
#include "damo/table/manifest.h"
#include "damo/table/store_session.h"

namespace damo {

class UniqueKeys;

// What a key without a row reads as.
enum class MissingRow {
  kInitial,  // "initial": the weights its first update will start from
  kZeros,    // "zeros"
};

struct LookupOptions {
  std::optional<uint64_t> padding_key;  // reads as zeros
  MissingRow missing = MissingRow::kInitial;
};

struct ApplyOptions {
  std::optional<uint64_t> padding_key;  // left out altogether
  float gradient_scale = 1.0f;          // every gradient is multiplied by this first; undoes loss scaling
};

// What one apply call did to its distinct keys.
struct ApplyResult {
  int64_t num_updated = 0;   // rows that took a step, new ones included
  int64_t num_inserted = 0;  // rows that did not exist before
  int64_t num_skipped = 0;   // rows left alone because their gradient or their next value was not finite
};

// One row, decoded.
struct Row {
  RowHeader header;
  std::vector<float> weights;  // dim
  std::vector<float> slots;    // one slot of dim floats after another, in Optimizer::slot_names() order
};

// Counts since the table was opened.
struct TableCounters {
  int64_t lookup_keys = 0;   // keys looked up, padding and repetitions excluded
  int64_t missing_keys = 0;  // of these, keys that had no row
  int64_t updated_rows = 0;
  int64_t inserted_rows = 0;
  int64_t skipped_rows = 0;  // see ApplyResult::num_skipped
  int64_t expired_rows = 0;  // rows found past their time to live
};

// Thread-safe. Apply calls of one table run one after another, lookups beside them; a lookup sees each apply
// call wholly or, if it runs at the same time, perhaps for some rows only.
class EmbeddingTable {
 public:
  EmbeddingTable(std::shared_ptr<StoreSession> session, std::shared_ptr<const GroupRecipe> recipe,
                 const GroupState& state);

  int group() const { return group_; }
  int64_t dim() const { return dim_; }
  std::shared_ptr<const GroupRecipe> recipe() const;
  const StoreSession& session() const { return *session_; }
  // Apply calls so far, in this process and before.
  int64_t step() const { return step_.load(); }
  TableCounters counters() const;

  // Writes the weights of keys[i] to weights[i * dim .. (i + 1) * dim). Changes nothing: no row is created,
  // counted or refreshed. InvalidArgument unless weights.size() == keys.size() * dim. On failure `weights` is
  // undefined.
  Status Lookup(Span<const uint64_t> keys, const LookupOptions& options, Executor& executor,
                Span<float> weights) const;

  // Takes one optimizer step on the row of each distinct key. Gradients of equal keys are summed in order of
  // occurrence; a row that does not exist starts from its initial value; a row is left alone and counted if
  // its summed gradient is not finite, or if the step would make a weight or slot so. All rows and the global
  // step become visible and durable at once, or on failure none. The global step grows by 1 even if no row
  // changed. Gradients are laid out as in Lookup().
  StatusOr<ApplyResult> ApplyGradients(Span<const uint64_t> keys, Span<const float> gradients,
                                       const ApplyOptions& options, Executor& executor);

  // The row of `key`, nullopt if it has none (an expired row is none).
  StatusOr<std::optional<Row>> GetRow(uint64_t key) const;

  // Rows that a lookup would find. Without a time to live this is a counter; with one, a scan of the group.
  StatusOr<int64_t> Size() const;

  // Puts a recipe in force whose rows have the same layout (CheckSameRows() holds).
  void SetRecipe(std::shared_ptr<const GroupRecipe> recipe);

 private:
  class RowBuffer;

  // "lookup in group 3 of store '/x'", before messages.
  std::string Context(const char* action) const;
  Status CheckSizes(Span<const uint64_t> keys, size_t num_floats, const char* name) const;
  // The header of a stored row, nullopt if it is expired.
  StatusOr<std::optional<RowHeader>> DecodeLiveRow(const GroupRecipe& recipe, uint64_t key,
                                                   std::string_view row, int64_t now_millis) const;
  void FillInitial(const GroupRecipe& recipe, uint64_t key, Span<float> weights) const;
  // What one call knows from its start to its end, however it is split.
  struct Moment {
    const GroupRecipe& recipe;
    int64_t now_millis;
    double learning_rate;  // of an apply call
  };
  Status LookupUnique(const UniqueKeys& unique, int64_t begin, int64_t end, const Storage& storage,
                      const LookupOptions& options, const Moment& moment, Span<float> weights) const;
  Status LoadRows(const UniqueKeys& unique, int64_t begin, int64_t end, const Storage& storage,
                  const Moment& moment, RowBuffer& rows) const;
  void UpdateRows(const UniqueKeys& unique, int64_t begin, int64_t end, Span<const float> gradients,
                  const ApplyOptions& options, const Moment& moment, RowBuffer& rows) const;
  // The learning rate of the next apply call. Fails if a schedule gives one that no step can be taken with.
  StatusOr<double> NextLearningRate(const GroupRecipe& recipe) const;
  Status WriteRows(const UniqueKeys& unique, const RowBuffer& rows, const ApplyResult& result,
                   Storage& storage);

  const std::shared_ptr<StoreSession> session_;
  const uint8_t group_;
  const int64_t dim_;

  mutable std::mutex recipe_mutex_;  // guards recipe_
  std::shared_ptr<const GroupRecipe> recipe_;

  std::mutex apply_mutex_;  // held through an apply call; guards writing of step_ and num_rows_
  std::atomic<int64_t> step_;
  std::atomic<int64_t> num_rows_;

  struct AtomicCounters {
    std::atomic<int64_t> lookup_keys{0};
    std::atomic<int64_t> missing_keys{0};
    std::atomic<int64_t> updated_rows{0};
    std::atomic<int64_t> inserted_rows{0};
    std::atomic<int64_t> skipped_rows{0};
    std::atomic<int64_t> expired_rows{0};
  };
  mutable AtomicCounters counters_;
};

}  // namespace damo

#endif  // DAMO_TABLE_EMBEDDING_TABLE_H_
