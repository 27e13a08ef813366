// SPDX-License-Identifier: Apache-2.0
//
// EmbeddingTable: the rows of one group: looked up, and updated by gradients. CachedTable is the engine;
// DirectTable, which keeps no rows in memory, is its oracle. Both give the same bits.
#ifndef DAMO_TABLE_EMBEDDING_TABLE_H_
#define DAMO_TABLE_EMBEDDING_TABLE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/call_times.h"
#include "damo/base/executor.h"
#include "damo/base/span.h"
#include "damo/base/status.h"
#include "damo/combiner/bag.h"
#include "damo/table/gradient_rows.h"
#include "damo/table/group_recipe.h"
#include "damo/table/manifest.h"
#include "damo/table/store_session.h"

namespace damo {

// What a key without a row reads as.
enum class MissingRow {
  kInitial,  // "initial": the weights its first update will start from
  kZeros,    // "zeros"
};

struct LookupOptions {
  std::optional<uint64_t> padding_key;  // reads as zeros
  MissingRow missing = MissingRow::kInitial;
  // Whether an apply call for the keys is to follow. Then rows may be brought into memory, and others pushed
  // out; without, a lookup changes nothing at all (contract C8).
  bool training = false;
};

struct ApplyOptions {
  std::optional<uint64_t> padding_key;  // left out altogether
  float gradient_scale = 1.0f;          // every gradient is multiplied by this first; undoes loss scaling
  std::optional<double> learning_rate;  // of this call, see CheckLearningRate(); nullopt: the group's own
};

// InvalidArgument unless a step can be taken with this learning rate: >= 0, and finite in float32.
Status CheckLearningRate(double learning_rate);

// InvalidArgument unless one apply call can have so many keys: fewer than 2^32, for positions are counted in
// 32 bits.
Status CheckNumKeys(uint64_t num_keys);

// What one apply call did to its distinct keys.
struct ApplyResult {
  int64_t num_updated = 0;   // rows that took a step, new ones included
  int64_t num_inserted = 0;  // rows that did not exist before
  int64_t num_skipped = 0;   // rows left alone because their gradient or their next value was not finite
  int64_t num_blocked = 0;   // keys without row that have not occurred min_count times yet
};

// One row, decoded.
struct Row {
  RowHeader header;
  std::vector<float> weights;  // dim
  std::vector<float> slots;    // one slot of dim floats after another, in Optimizer::slot_names() order
};

// Counts since the table was opened.
struct TableCounters {
  int64_t lookup_keys = 0;   // keys looked up, repetitions included, padding excluded
  int64_t cache_misses = 0;  // of these, keys whose row was not in memory
  int64_t missing_keys = 0;  // of lookup_keys, keys that had no row
  int64_t updated_rows = 0;
  int64_t inserted_rows = 0;
  int64_t skipped_rows = 0;  // see ApplyResult::num_skipped
  int64_t blocked_keys = 0;  // see ApplyResult::num_blocked
  int64_t expired_rows = 0;  // times that a row was found past its time to live
  // Calls that look rows up, for the gradient of weights, too, and calls that apply gradients, failed ones
  // included; and their time together, waiting included.
  int64_t lookup_calls = 0;
  int64_t lookup_nanos = 0;
  int64_t apply_calls = 0;
  int64_t apply_nanos = 0;
};

// What a table holds in memory.
struct TableMemory {
  int64_t num_rows = 0;      // of them some may be initial values of keys that have no row
  int64_t num_dirty = 0;     // rows newer than in the storage
  int64_t num_evicted = 0;   // rows that made room for others since the table was opened
  int64_t buffer_bytes = 0;  // that apply calls keep for the next one
  int64_t filter_bytes = 0;
  std::optional<double> filter_fill;  // see CountingFilter::fill(); nullopt: no filter is in memory
};

// Thread-safe. Apply calls of one table run one after another, lookups beside them; a lookup sees each apply
// call wholly or, if it runs at the same time, perhaps for some rows only.
//
// The public calls ask the session for leave, check their arguments and put the table's name before messages;
// the Do... ones of the two kinds of table do the work.
class EmbeddingTable {
 public:
  EmbeddingTable(std::shared_ptr<StoreSession> session, std::shared_ptr<const GroupRecipe> recipe,
                 const GroupState& state);
  virtual ~EmbeddingTable() = default;
  EmbeddingTable(const EmbeddingTable&) = delete;
  EmbeddingTable& operator=(const EmbeddingTable&) = delete;

  int group() const { return group_; }
  int64_t dim() const { return dim_; }
  std::shared_ptr<const GroupRecipe> recipe() const;
  const StoreSession& session() const { return *session_; }
  // Apply calls so far, in this process and before.
  int64_t step() const { return step_.load(); }
  // Rows stored, expired ones included; fewer if rows_released().
  int64_t num_rows() const { return num_rows_.load(); }
  // Whether expired rows have been released (Storage::ReleaseRows()), by this process or before: compactions
  // drop them and nobody counts.
  bool rows_released() const { return rows_released_.load(); }
  // Whether Size() is num_rows(): no row has expired, nor can one.
  bool num_rows_is_size() const { return recipe()->lifetime.is_forever() && !rows_released(); }
  TableCounters counters() const;

  // Writes the weights of keys[i] to weights[i * dim .. (i + 1) * dim). No row is created, counted or
  // refreshed. In a group with a min_count a key without row reads as zeros, whatever `options` say.
  // InvalidArgument unless weights.size() == keys.size() * dim. On failure `weights` is undefined.
  Status Lookup(Span<const uint64_t> keys, const LookupOptions& options, Executor& executor,
                Span<float> weights) const;

  // Brings the rows of `keys` into memory, as far as there is room, so that a later Lookup() or
  // ApplyGradients() finds them there. Changes no result.
  Status Prefetch(Span<const uint64_t> keys, std::optional<uint64_t> padding_key, Executor& executor) const;

  // Takes one optimizer step on the row of each distinct key. Gradients of equal keys are summed in order of
  // occurrence; a row that does not exist starts from its initial value; a row is left alone and counted if
  // its summed gradient is not finite, or if the step would make a weight or slot so. In a group with a
  // min_count, a key without row (an expired one is none) whose summed gradient is finite gets one only if
  // its occurrences so far, those of this call included, are as many; else its gradient is dropped. All rows
  // and the global step become visible and durable at once, or on failure none. The global step grows by 1
  // even if no row changed. Gradients are laid out as in Lookup(). InvalidArgument if CheckLearningRate()
  // refuses options.learning_rate, FailedPrecondition if the schedule's is such a one. InvalidArgument if
  // CheckNumKeys() refuses the keys.
  //
  // There are two failures after which the call stands and must not be repeated; their messages say so:
  // "the call is in the redo log": it has more rows than fit into memory, and the storage failed when some of
  //   them had been updated. The next apply call, the next flush, or a read of a key whose row the call has
  //   not come to yet, finishes it first, and fails if that still cannot be done; reads of other keys are as
  //   ever. It counts in step() and Size() when it is finished. Should the process end before, opening the
  //   store finishes it.
  // "the call is applied": with durability "sync", neither log nor storage could be written. It may not
  //   survive loss of power, nor the end of the process, until a later call or a flush succeeds.
  StatusOr<ApplyResult> ApplyGradients(Span<const uint64_t> keys, Span<const float> gradients,
                                       const ApplyOptions& options, Executor& executor);

  // ---- bags of keys: cc/damo/combiner/bag.h says what becomes of their rows. Here there never is an array
  // of one row, or of one gradient, per key. InvalidArgument if CheckBags() refuses the bags ----

  // As Lookup(), but writes what the rows of bag b combine to, to combined[b * dim .. (b + 1) * dim).
  // InvalidArgument unless combined.size() == bags.size() * dim.
  Status LookupCombined(Span<const uint64_t> keys, const Bags& bags, const LookupOptions& options,
                        Executor& executor, Span<float> combined) const;

  // As ApplyGradients(), but `gradients` are those of the bags, laid out as in LookupCombined(). Each key's
  // is that of its bag, times options.gradient_scale * GradientFactor(), that product rounded first.
  StatusOr<ApplyResult> ApplyCombinedGradients(Span<const uint64_t> keys, const Bags& bags,
                                               Span<const float> gradients, const ApplyOptions& options,
                                               Executor& executor);

  // Writes the gradient of each key's weight, given those of the bags, to weights_gradient, which must be as
  // long as keys. Rows are read as by Lookup(), as they are now.
  Status ComputeWeightsGradient(Span<const uint64_t> keys, const Bags& bags, Span<const float> gradients,
                                const LookupOptions& options, Executor& executor,
                                Span<float> weights_gradient) const;

  // The row of `key`, nullopt if it has none (an expired row is none).
  StatusOr<std::optional<Row>> GetRow(uint64_t key) const;

  // Rows that a lookup would find: num_rows() if num_rows_is_size(), else a scan of the group.
  StatusOr<int64_t> Size() const;

  // Puts a recipe in force whose rows have the same layout (CheckSameRows() holds), after `save` has brought
  // its config into the manifest of `storage`, the session's. False, and nothing is done, while updates of
  // the recipe before exist outside the storage: flush the store and try again.
  virtual StatusOr<bool> TryChangeRecipe(std::shared_ptr<const GroupRecipe> recipe, const Storage& storage,
                                         const std::function<Status()>& save) = 0;

  virtual TableMemory memory() const { return {}; }

  // Brings into memory what apply calls need besides rows. They do so themselves where this was not called;
  // called before, it is who opens the store that learns of a memory budget which is too small.
  virtual Status PrepareToApply(const Storage& /*storage*/) { return Status(); }

  // ---- for the store, where rows change by other ways than apply calls ----

  // Apply calls wait while it is held.
  virtual std::mutex& apply_mutex() = 0;
  // Takes `state` as the table's, and forgets what memory holds of `keys`, of all keys where nullopt: the
  // storage has something else by now. Requires apply_mutex(), and that no row is newer in memory.
  void TakeFromStorage(const GroupState& state, const std::optional<std::vector<uint64_t>>& keys) {
    set_state(state);
    Forget(keys);
  }
  // Takes the content of the storage as a new beginning, whatever the table had before: all in memory is
  // void, also rows newer than in the storage. `recipe` has rows of the same layout. Requires apply_mutex(),
  // and that no flush runs.
  void BeginAnew(std::shared_ptr<const GroupRecipe> recipe, const GroupState& state) {
    SetRecipe(std::move(recipe));
    set_state(state);
    ForgetAll();
  }
  GroupState state() const { return {step_, num_rows_}; }

  // Says whether the state counts rows that are gone, as the manifest has it.
  void set_rows_released(bool released) { rows_released_ = released; }
  // A table releases expired rows while it may. At first it may not: its recipe must change no more, for rows
  // that have expired under one must not come to life under the next. Allowed, it may be held again, and as
  // often allowed.
  void AllowRelease() { --release_holds_; }
  void HoldRelease() { ++release_holds_; }
  // Releases the rows of `storage` that are expired. For tables that write rows as they are updated; others
  // release them with each flush. Takes apply_mutex().
  Status ReleaseExpired(Storage& storage);

 protected:
  // What one call knows from its start to its end, however it is split.
  struct Moment {
    const GroupRecipe& recipe;
    int64_t now_millis;
    double learning_rate;  // of an apply call
  };

  struct AtomicCounters {
    std::atomic<int64_t> lookup_keys{0};
    std::atomic<int64_t> cache_misses{0};
    std::atomic<int64_t> missing_keys{0};
    std::atomic<int64_t> expired_rows{0};
  };

  virtual Status DoLookup(const Storage& storage, Span<const uint64_t> keys, const LookupOptions& options,
                          Executor& executor, Span<float> weights) const = 0;
  virtual Status DoPrefetch(const Storage& /*storage*/, Span<const uint64_t> /*keys*/,
                            std::optional<uint64_t> /*padding_key*/, Executor& /*executor*/) const {
    return Status();
  }
  virtual StatusOr<ApplyResult> DoApplyGradients(Storage& storage, Span<const uint64_t> keys,
                                                 const GradientRows& gradients, const ApplyOptions& options,
                                                 Executor& executor) = 0;
  // Finishes an apply call that failed half-way, if it has yet to come to the row of one of `keys`. May wait
  // for other calls: not for parallel blocks.
  virtual Status FinishCallOf(Storage& /*storage*/, Span<const uint64_t> /*keys*/) const { return Status(); }
  // The stored form of the row of `key`, expired or not; nullopt if it has none.
  virtual StatusOr<std::optional<std::string>> DoGetRow(const Storage& storage, uint64_t key) const = 0;
  // Rows that are not expired at `now_millis`, which some may be.
  virtual StatusOr<int64_t> CountLiveRows(const Storage& storage, int64_t now_millis) const = 0;

  // The row of `key` as the storage has it, nullopt if it has none.
  StatusOr<std::optional<std::string>> ReadStoredRow(const Storage& storage, uint64_t key) const;
  // The header of a stored row, nullopt if it is expired.
  StatusOr<std::optional<RowHeader>> DecodeLiveRow(const GroupRecipe& recipe, uint64_t key,
                                                   std::string_view row, int64_t now_millis) const;
  void FillInitial(const GroupRecipe& recipe, uint64_t key, Span<float> weights) const;
  int64_t NowMillis() const { return session_->clock().NowMillis(); }
  // Brings a clock of events to the time of a call that is replayed.
  void NoteEventTime(int64_t millis) {
    if (session_->clock().is_event_clock()) session_->clock().AdvanceTo(millis);
  }
  // The update time up to which rows may be released at `now_millis`; nullopt: none may.
  std::optional<int64_t> ReleaseTime(int64_t now_millis) const;
  // The learning rate of the next apply call: the one asked for, else the group's. Fails if no step can be
  // taken with it.
  StatusOr<double> NextLearningRate(const GroupRecipe& recipe, const ApplyOptions& options) const;
  // See TakeFromStorage().
  virtual void Forget(const std::optional<std::vector<uint64_t>>& keys) = 0;
  // Forgets all that memory holds of the table; see BeginAnew().
  virtual void ForgetAll() = 0;
  // What a lookup in a group of this recipe goes by: without a row an admission filter lets nothing through.
  static LookupOptions OptionsFor(const GroupRecipe& recipe, LookupOptions options) {
    if (recipe.config.min_count > 0) options.missing = MissingRow::kZeros;
    return options;
  }
  // Requires that no other call writes it.
  void set_state(const GroupState& state) {
    step_ = state.step;
    num_rows_ = state.num_rows;
  }
  void SetRecipe(std::shared_ptr<const GroupRecipe> recipe);
  AtomicCounters& atomic_counters() const { return counters_; }
  // Counts what an apply call has done, if it was not the one that returned it.
  void CountResult(const ApplyResult& result);

 private:
  // "lookup in group 3 of store '/x'", before messages.
  std::string Context(const char* action) const;
  Status CheckSizes(Span<const uint64_t> keys, size_t num_floats, const char* name) const;
  Status CheckGradients(Span<const uint64_t> keys, size_t num_floats) const;
  Status CheckBagSizes(Span<const uint64_t> keys, const Bags& bags, size_t num_floats,
                       const char* name) const;
  // Before the rows of `keys` are read: sees to it that no apply call is half done there. `action` is for the
  // message.
  Status PrepareToRead(Span<const uint64_t> keys, const char* action) const;
  // Lookup() after PrepareToRead(), not timed: one call of several pieces is one call.
  Status LookupRows(Span<const uint64_t> keys, const LookupOptions& options, Executor& executor,
                    Span<float> weights) const;
  StatusOr<ApplyResult> ApplyRows(Span<const uint64_t> keys, const Status& checked,
                                  Span<const float> gradients, const GradientRows::Source* sources,
                                  const ApplyOptions& options, Executor& executor);
  template <typename Visit>
  Status VisitRows(Span<const uint64_t> keys, int64_t begin, int64_t end, const LookupOptions& options,
                   const Visit& visit) const;

  const std::shared_ptr<StoreSession> session_;
  const uint8_t group_;
  const int64_t dim_;

  mutable std::mutex recipe_mutex_;  // guards recipe_
  std::shared_ptr<const GroupRecipe> recipe_;

  std::atomic<int64_t> step_;
  std::atomic<int64_t> num_rows_;
  std::atomic<int> release_holds_{1};
  std::atomic<bool> rows_released_{false};
  mutable AtomicCounters counters_;
  mutable CallTimes lookup_times_;
  CallTimes apply_times_;
  std::atomic<int64_t> updated_rows_{0};
  std::atomic<int64_t> inserted_rows_{0};
  std::atomic<int64_t> skipped_rows_{0};
  std::atomic<int64_t> blocked_keys_{0};
};

// While it stands its table releases no expired row.
class ReleaseHold {
 public:
  explicit ReleaseHold(std::shared_ptr<EmbeddingTable> table) : table_(std::move(table)) {
    table_->HoldRelease();
  }
  ~ReleaseHold() { table_->AllowRelease(); }
  ReleaseHold(const ReleaseHold&) = delete;
  ReleaseHold& operator=(const ReleaseHold&) = delete;

 private:
  const std::shared_ptr<EmbeddingTable> table_;
};

}  // namespace damo

#endif  // DAMO_TABLE_EMBEDDING_TABLE_H_
