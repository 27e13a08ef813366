// SPDX-License-Identifier: Apache-2.0
//
// Apply calls of a CachedTable whose rows fit into the cache. Those that do not are in
// cached_apply_in_parts.cc.
#include "damo/table/cached_apply.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "damo/base/catch_exceptions.h"
#include "damo/base/float_environment.h"

namespace damo {
namespace {

// Keys per parallel block at least, and rows per block that reads from the storage: less is not worth a
// thread.
constexpr int64_t kMinKeysPerBlock = 1024;
constexpr int64_t kMinReadsPerBlock = 256;

}  // namespace

// Shards per parallel block.
int64_t CachedTable::ApplyCall::min_shards(const RowCache& cache) const {
  const int64_t keys_per_shard = std::max<int64_t>(1, static_cast<int64_t>(keys.size()) / cache.num_shards());
  return std::max<int64_t>(1, kMinKeysPerBlock / keys_per_shard);
}

// A row to be read: the i-th of its shard's update.
struct CachedTable::RowToLoad {
  uint64_t key;
  int shard;
  uint32_t i;
  CachedRow* cached;  // where it goes; stays where it is while it is loading, also when slabs come and go
};

StatusOr<ApplyResult> CachedTable::DoApplyGradients(Storage& storage, Span<const uint64_t> keys,
                                                    const GradientRows& gradients,
                                                    const ApplyOptions& options, Executor& executor) {
  // A batch that finds no room is tried again when all rows are clean, and then taken in parts.
  bool hard_pressed = false;
  bool log_failed = false;
  for (;;) {
    DAMO_RETURN_IF_ERROR(hard_pressed || log_failed ? shared_.write_back->FlushRows(storage)
                                                    : shared_.write_back->MakeRoom(storage));
    DAMO_ASSIGN_OR_RETURN(std::unique_lock<std::mutex> lock, LockToApply(storage));
    DAMO_RETURN_IF_ERROR(LoadFilter(storage));
    const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
    DAMO_ASSIGN_OR_RETURN(const double learning_rate, NextLearningRate(*recipe, options));
    ApplyCall call(keys, options.padding_key, gradients,
                   {*recipe, session(), group_byte(), NowMillis(), learning_rate});
    call.hard_pressed = hard_pressed;
    const StatusOr<bool> done = TryApply(storage, call, executor);
    KeepBuffers();
    if (!done.ok()) {
      // A sync that another call or a flush waited for may have failed meanwhile: flushing begins the log
      // anew.
      const bool by_log = done.status().code() == StatusCode::kIoError && shared_.write_back->LogHasFailed();
      if (log_failed || !by_log) return done.status();
      log_failed = true;
      continue;
    }
    if (!*done) {
      if (hard_pressed) break;
      hard_pressed = true;
      continue;
    }
    set_state({state().step + 1, state().num_rows + call.result.num_inserted});
    lock.unlock();
    shared_.write_back->NoteDirty(call.num_newly_dirty, row_bytes());
    DAMO_RETURN_IF_ERROR(AwaitDurable(storage, call.lsn));
    return call.result;
  }
  return ApplyInParts(storage, keys, gradients, options, executor);
}

// Locks apply_mutex_ at a moment when no call is half done.
StatusOr<std::unique_lock<std::mutex>> CachedTable::LockToApply(Storage& storage) {
  for (;;) {
    std::unique_lock<std::mutex> lock(apply_mutex_);
    DAMO_RETURN_IF_ERROR(session().CheckStillWriting());
    if (unfinished_ == nullptr) return StatusOr<std::unique_lock<std::mutex>>(std::move(lock));
    lock.unlock();  // the flush mutex comes first
    DAMO_RETURN_IF_ERROR(shared_.write_back->FinishCall(storage, this));
  }
}

// False, and nothing is done, if the rows of the call do not fit into the cache beside those that must stay.
// Requires apply_mutex_, as do the functions it calls.
StatusOr<bool> CachedTable::TryApply(Storage& storage, ApplyCall& call, Executor& executor) {
  partition_.Build(call.keys, call.padding_key, *cache_, executor);
  Gathered gathered(this);
  DAMO_ASSIGN_OR_RETURN(const bool fits, Gather(call, executor));
  if (!fits) return false;
  DAMO_RETURN_IF_ERROR(Load(storage, call, executor));
  if (filter_ != nullptr) DAMO_RETURN_IF_ERROR(Admit(call, executor));
  DAMO_RETURN_IF_ERROR(Log(call));
  gathered.Keep();
  Update(call, executor);
  return true;
}

// On failure, or if it returns false, what it has gathered is to be abandoned.
StatusOr<bool> CachedTable::Gather(ApplyCall& call, Executor& executor) {
  std::atomic<bool> fits{true};
  Status status;
  {
    const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
    if (call.hard_pressed) cache_->ReleaseFlushed();
    const auto gather = [&](int64_t begin, int64_t end) -> Status {
      const ScopedFloatEnvironment float_environment;
      for (auto i = static_cast<int>(begin); i < end; ++i) {
        const bool shard_fits = updates_[i].Gather(cache_->shard(i), cache_->active_flush(),
                                                   partition_.shard(i), call.gradients, call.context);
        if (!shard_fits) fits = false;
      }
      return Status();
    };
    status = ParallelForStatus(executor, cache_->num_shards(), call.min_shards(*cache_), gather);
    call.missing_are_absent = cache_->holds_all_rows();  // after what this call has evicted
  }
  DAMO_RETURN_IF_ERROR(status);
  return fits.load();
}

void CachedTable::Abandon() {
  const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
  for (int i = 0; i < cache_->num_shards(); ++i) updates_[i].Abandon(cache_->shard(i));
}

// They are in the share of the memory budget that PlanMemory() leaves free.
void CachedTable::KeepBuffers() {
  constexpr int64_t kShare = 16;  // of the cache's memory
  const auto count = [this] {
    int64_t bytes = partition_.memory_bytes();
    for (const ShardUpdate& update : updates_) bytes += update.memory_bytes();
    return bytes;
  };
  if (count() > shared_.memory->limit_bytes() / kShare) {
    partition_ = KeyPartition();
    for (ShardUpdate& update : updates_) update = ShardUpdate();
  }
  buffer_bytes_ = count();
}

// Reads the missing rows of all shards from the storage into their slots, in key order.
Status CachedTable::Load(const Storage& storage, const ApplyCall& call, Executor& executor) {
  std::vector<RowToLoad> missing;
  {
    const std::shared_lock<FairSharedMutex> lock(cache_->mutex());
    for (int shard = 0; shard < cache_->num_shards(); ++shard) {
      const ShardUpdate& update = updates_[shard];
      for (const uint32_t i : update.missing()) {
        missing.push_back({update.key(i), shard, i, cache_->shard(shard).row(update.slot(i))});
      }
    }
  }
  if (missing.empty()) return Status();
  const auto num_missing = static_cast<int64_t>(missing.size());
  if (call.missing_are_absent) {
    return ParallelForStatus(executor, num_missing, kMinReadsPerBlock,
                             [&](int64_t begin, int64_t end) -> Status {
                               for (int64_t i = begin; i < end; ++i)
                                 DAMO_RETURN_IF_ERROR(LoadRow(missing[i], std::nullopt, call));
                               return Status();
                             });
  }
  std::sort(missing.begin(), missing.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  std::vector<uint64_t> keys;
  keys.reserve(missing.size());
  for (const RowToLoad& row : missing) keys.push_back(row.key);
  const auto read = [&](int64_t begin, int64_t end) -> Status {
    const Span<const uint64_t> of_block = Span<const uint64_t>(keys).subspan(begin, end - begin);
    return storage.MultiGet(group_byte(), of_block, [&](size_t i, std::optional<std::string_view> stored) {
      return LoadRow(missing[begin + i], stored, call);
    });
  };
  return ParallelForStatus(executor, num_missing, kMinReadsPerBlock, read);
}

Status CachedTable::LoadRow(const RowToLoad& missing, std::optional<std::string_view> stored,
                            const ApplyCall& call) {
  CachedRow* const cached = missing.cached;
  DAMO_RETURN_IF_ERROR(FillSlot(call.context.recipe, missing.key, stored, cached));
  updates_[missing.shard].SetLoaded(missing.i, cached->update_num, cached->update_time, call.context);
  return Status();
}

// Gives up the keys that have not occurred often enough for a row. The filter itself counts when the call has
// become a fact.
Status CachedTable::Admit(ApplyCall& call, Executor& executor) {
  const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
  const auto admit = [&](int64_t begin, int64_t end) -> Status {
    for (auto i = static_cast<int>(begin); i < end; ++i) {
      updates_[i].Admit(cache_->shard(i), partition_.shard(i), *filter_, call.context);
    }
    return Status();
  };
  DAMO_RETURN_IF_ERROR(ParallelForStatus(executor, cache_->num_shards(), call.min_shards(*cache_), admit));
  for (const ShardUpdate& update : updates_) filter_->Reserve(update.counted());
  return Status();
}

// Makes the call a fact: what comes after cannot fail.
Status CachedTable::Log(ApplyCall& call) {
  if (shared_.durability == Durability::kCheckpoint) return Status();
  ApplyRecordHeader header;
  header.group = group_byte();
  header.dim = static_cast<uint32_t>(dim());
  header.step = state().step;
  header.time_millis = call.context.now_millis;
  header.learning_rate = call.context.learning_rate;
  std::vector<std::string_view> pieces(1);
  for (const ShardUpdate& update : updates_) {
    header.num_rows += static_cast<uint64_t>(update.num_rows());
    if (update.num_rows() > 0) pieces.push_back(update.record_rows());
  }
  std::string counted;
  for (const ShardUpdate& update : updates_) {
    for (const CountedKey& key : update.counted()) AppendCountedKey(key.key, key.occurrences, &counted);
    header.num_counted += static_cast<uint32_t>(update.counted().size());
  }
  if (!counted.empty()) pieces.emplace_back(counted);
  const auto bytes = EncodeApplyRecordHeader(header);
  pieces[0] = {bytes.data(), bytes.size()};
  DAMO_ASSIGN_OR_RETURN(call.lsn, shared_.log->Append(pieces));
  return Status();
}

// Requires that no apply mutex is held, nor the flush mutex.
Status CachedTable::AwaitDurable(Storage& storage, uint64_t lsn) {
  if (shared_.durability != Durability::kSync) return Status();
  Status synced = shared_.log->Sync(lsn + 1);
  if (synced.ok()) return synced;
  // What the log cannot keep, the rows can.
  return shared_.write_back->FlushRows(storage).WithContext(
      "the call is applied and must not be repeated, but may not survive loss of power");
}

// Allocates nothing: that could fail, and rows and log would disagree.
void CachedTable::Update(ApplyCall& call, Executor& executor) {
  {
    const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
    executor.ParallelFor(cache_->num_shards(), call.min_shards(*cache_), [&](int64_t begin, int64_t end) {
      const ScopedFloatEnvironment float_environment;
      for (auto i = static_cast<int>(begin); i < end; ++i) {
        updates_[i].Apply(cache_->shard(i), call.context);
      }
    });
  }
  for (const ShardUpdate& update : updates_) {
    if (!update.counted().empty()) {
      filter_->Add(update.counted());
      full_filter_warning_.Note(filter_->fill(), call.context.recipe.config, session());
    }
    const ShardUpdate::Result& result = update.result();
    call.result.num_updated += result.num_updated;
    call.result.num_inserted += result.num_inserted;
    call.result.num_skipped += result.num_skipped;
    call.result.num_blocked += result.num_blocked;
    call.num_newly_dirty += result.num_newly_dirty;
    atomic_counters().expired_rows += result.num_expired;
  }
}

}  // namespace damo
