// SPDX-License-Identifier: Apache-2.0
//
// Lookups of a CachedTable: rows in memory are copied at once; those that are not are read from the storage,
// each once, in key order, and kept if training asked for them.
#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "damo/base/catch_exceptions.h"
#include "damo/base/float_environment.h"
#include "damo/table/cached_table.h"
#include "damo/table/unique_keys.h"

namespace damo {
namespace {

// Keys per parallel block at least: less is not worth a thread.
constexpr int64_t kMinKeysPerBlock = 2048;
constexpr int64_t kMinReadsPerBlock = 256;

// How many keys ahead memory is asked for: of the index first, then of the row it leads to.
constexpr size_t kIndexAhead = 24;
constexpr size_t kRowAhead = 12;
constexpr size_t kRing = 32;  // keys under way; a power of two
static_assert(kIndexAhead < kRing);
constexpr size_t kCacheLineBytes = 64;

// Sizes known when compiled become a few vector moves in place of a call.
void CopyFloats(const float* from, size_t n, float* to) {
  switch (n) {
    case 8:
      std::memcpy(to, from, 8 * sizeof(float));
      return;
    case 16:
      std::memcpy(to, from, 16 * sizeof(float));
      return;
    case 32:
      std::memcpy(to, from, 32 * sizeof(float));
      return;
    default:
      std::memcpy(to, from, n * sizeof(float));
  }
}

// Finds the rows of keys in a pipeline: while the row of one is used, memory has been asked for those of the
// next dozen, and for the index entries of two dozen.
class RowPipeline {
 public:
  // `row_bytes` of each row will be used. All are borrowed.
  RowPipeline(const RowCache& cache, Span<const uint64_t> keys, size_t row_bytes)
      : cache_(cache), keys_(keys.data()), num_keys_(keys.size()), row_bytes_(row_bytes) {
    for (size_t i = 0; i < std::min(num_keys_, kIndexAhead); ++i) AskForIndex(i);
    for (size_t i = 0; i < std::min(num_keys_, kRowAhead); ++i) AskForRow(i);
  }

  // The row of the i-th key, loading or ready; null if there is none. To be called with one after the other.
  CachedRow* Next(size_t i) {
    CachedRow* row = rows_[i % kRing];
    if (row != nullptr && row->key != keys_[i]) row = Find(keys_[i], hashes_[i % kRing]);
    if (i + kRowAhead < num_keys_) AskForRow(i + kRowAhead);
    if (i + kIndexAhead < num_keys_) AskForIndex(i + kIndexAhead);
    return row;
  }

 private:
  void AskForIndex(size_t i) {
    const uint64_t hash = HashKey(keys_[i]);
    hashes_[i % kRing] = hash;
    cache_.ShardFor(hash).PrefetchIndex(TagOf(hash));
  }
  void AskForRow(size_t i) {
    const uint64_t hash = hashes_[i % kRing];
    const RowShard& shard = cache_.ShardFor(hash);
    const uint32_t slot = shard.Candidate(TagOf(hash));
    CachedRow* const row = slot == RowShard::kNoSlot ? nullptr : shard.row(slot);
    rows_[i % kRing] = row;
    for (size_t offset = 0; row != nullptr && offset < row_bytes_; offset += kCacheLineBytes) {
      __builtin_prefetch(reinterpret_cast<const char*>(row) + offset);
    }
  }
  // For the key whose tag is another's, too. So rare that it is to take no registers from the others.
  [[gnu::noinline]] CachedRow* Find(uint64_t key, uint64_t hash) const {
    const RowShard& shard = cache_.ShardFor(hash);
    const uint32_t slot = shard.Find(key, TagOf(hash));
    return slot == RowShard::kNoSlot ? nullptr : shard.row(slot);
  }

  const RowCache& cache_;
  const uint64_t* const keys_;
  const size_t num_keys_;
  const size_t row_bytes_;
  std::array<uint64_t, kRing> hashes_;
  std::array<CachedRow*, kRing> rows_;  // where a key probably is
};

}  // namespace

struct CachedTable::LookupCall {
  Span<const uint64_t> keys;
  LookupOptions options;
  Moment moment;
  bool keep;            // rows that are read are to stay in memory
  Span<float> weights;  // empty: only brings rows into memory

  float* output(int64_t position, int64_t dim) const {
    return weights.empty() ? nullptr : weights.data() + position * dim;
  }
};

// The keys that were not in memory, and slots for them as far as there are any.
struct CachedTable::Missed {
  std::vector<int64_t> positions;  // in the call's keys
  UniqueKeys unique;               // its occurrences are indices into positions
  std::vector<uint32_t> slots;     // of each distinct key; kNoSlot: it is not kept. Empty: none is
  std::vector<CachedRow*> rows;    // of each slot: beside the lock only these are safe to follow
  uint64_t read = 0;               // RowCache::BeginRead(), if there are slots
  bool absent;                     // none has a row

  Missed(const LookupCall& call, std::vector<int64_t> its_positions, bool are_absent)
      : positions(std::move(its_positions)),
        unique(KeysAt(call, positions), std::nullopt),
        absent(are_absent) {}

  static std::vector<uint64_t> KeysAt(const LookupCall& call, const std::vector<int64_t>& positions) {
    std::vector<uint64_t> keys;
    keys.reserve(positions.size());
    for (const int64_t position : positions) keys.push_back(call.keys[position]);
    return keys;
  }
};

Status CachedTable::DoLookup(const Storage& storage, Span<const uint64_t> keys, const LookupOptions& options,
                             Executor& executor, Span<float> weights) const {
  const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
  const bool keep = options.training || session().settings().read_only;
  const LookupCall call{
      keys, OptionsFor(*recipe, options), {*recipe, NowMillis(), /*learning_rate=*/0}, keep, weights};
  std::mutex mutex;  // guards missed
  std::vector<int64_t> missed;
  bool absent = false;  // what is missed is not in the storage either
  {
    const std::shared_lock<FairSharedMutex> lock(cache_->mutex());
    absent = cache_->holds_all_rows();
    const auto copy = [&](int64_t begin, int64_t end) -> Status {
      const std::vector<int64_t> of_block = CopyHits(call, begin, end);
      const std::lock_guard<std::mutex> missed_lock(mutex);
      missed.insert(missed.end(), of_block.begin(), of_block.end());
      return Status();
    };
    DAMO_RETURN_IF_ERROR(
        ParallelForStatus(executor, static_cast<int64_t>(keys.size()), kMinKeysPerBlock, copy));
  }
  return ReadMissed(storage, call, std::move(missed), absent, executor);
}

// Looks for the keys in the calling thread alone: that is little work, and other threads have better to do.
Status CachedTable::DoPrefetch(const Storage& storage, Span<const uint64_t> keys,
                               std::optional<uint64_t> padding_key, Executor& executor) const {
  const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
  LookupOptions options;
  options.padding_key = padding_key;
  const LookupCall call{keys, options, {*recipe, NowMillis(), /*learning_rate=*/0}, /*keep=*/true, {}};
  std::vector<int64_t> missed;
  bool absent = false;  // what is missed is not in the storage either
  {
    const std::shared_lock<FairSharedMutex> lock(cache_->mutex());
    absent = cache_->holds_all_rows();
    missed = FindMissed(call);
  }
  return ReadMissed(storage, call, std::move(missed), absent, executor);
}

// Copies what is in memory; returns the positions of what is not.
std::vector<int64_t> CachedTable::CopyHits(const LookupCall& call, int64_t begin, int64_t end) const {
  const auto n = static_cast<size_t>(end - begin);
  const auto width = static_cast<size_t>(dim());
  const uint64_t* const keys = call.keys.data() + begin;
  float* const weights = call.output(begin, dim());
  const bool has_padding = call.options.padding_key.has_value();
  const uint64_t padding_key = call.options.padding_key.value_or(0);
  const TimeToLive lifetime = call.moment.recipe.lifetime;
  RowPipeline rows(*cache_, {keys, n}, kRowHeaderBytes + sizeof(float) * width);
  std::vector<int64_t> missed;
  int64_t num_padding = 0;
  for (size_t i = 0; i < n; ++i) {
    CachedRow* const row = rows.Next(i);
    float* const to = weights + i * width;
    if (has_padding && keys[i] == padding_key) {
      ++num_padding;
      std::fill_n(to, width, 0.0f);
    } else if (row == nullptr || row->state != SlotState::kReady) {
      missed.push_back(begin + static_cast<int64_t>(i));
    } else {
      if (call.keep) row->SetReferenced();
      if (row->update_num != 0 && !lifetime.Expired(row->update_time, call.moment.now_millis)) {
        CopyFloats(row->floats(), width, to);
      } else {
        CopyAbsent(*row, call, to);
      }
    }
  }
  atomic_counters().lookup_keys += static_cast<int64_t>(n) - num_padding;
  atomic_counters().cache_misses += static_cast<int64_t>(missed.size());
  return missed;
}

// The positions of keys that are not in memory. Looks at the index alone, for rows themselves cost a miss of
// the processor's caches each. So a key that has the tag of another one passes for a row in memory: one in
// some hundred thousand, and whoever looks it up reads it.
std::vector<int64_t> CachedTable::FindMissed(const LookupCall& call) const {
  const size_t n = call.keys.size();
  std::array<uint64_t, kRing> hashes;
  const auto ask_for_index = [&](size_t i) {
    const uint64_t hash = HashKey(call.keys[i]);
    hashes[i % kRing] = hash;
    cache_->ShardFor(hash).PrefetchIndex(TagOf(hash));
  };
  for (size_t i = 0; i < std::min(n, kIndexAhead); ++i) ask_for_index(i);
  std::vector<int64_t> missed;
  for (size_t i = 0; i < n; ++i) {
    const uint64_t hash = hashes[i % kRing];
    const bool found = cache_->ShardFor(hash).Candidate(TagOf(hash)) != RowShard::kNoSlot;
    if (!found && call.keys[i] != call.options.padding_key) missed.push_back(static_cast<int64_t>(i));
    if (i + kIndexAhead < n) ask_for_index(i + kIndexAhead);
  }
  return missed;
}

// Of a row in memory that has expired, or that the storage does not have.
void CachedTable::CopyAbsent(const CachedRow& cached, const LookupCall& call, float* weights) const {
  const bool expired = cached.update_num != 0;
  atomic_counters().missing_keys += 1;
  atomic_counters().expired_rows += expired ? 1 : 0;
  if (!expired && call.options.missing == MissingRow::kInitial) {
    CopyFloats(cached.floats(), static_cast<size_t>(dim()), weights);  // its initial values
  } else {
    CopyMissing(cached.key, call, weights);
  }
}

void CachedTable::CopyMissing(uint64_t key, const LookupCall& call, float* weights) const {
  if (call.options.missing == MissingRow::kInitial) {
    const ScopedFloatEnvironment float_environment;
    FillInitial(call.moment.recipe, key, {weights, static_cast<size_t>(dim())});
  } else {
    std::fill_n(weights, dim(), 0.0f);
  }
}

Status CachedTable::ReadMissed(const Storage& storage, const LookupCall& call, std::vector<int64_t> positions,
                               bool absent, Executor& executor) const {
  if (positions.empty()) return Status();
  Missed missed(call, std::move(positions), absent);
  if (call.keep) AllocateSlots(call, missed);
  const auto read = [&](int64_t begin, int64_t end) -> Status {
    for (int64_t i = begin; missed.absent && i < end; ++i) {
      DAMO_RETURN_IF_ERROR(TakeStoredRow(call, missed, i, std::nullopt));
    }
    if (missed.absent) return Status();
    const Span<const uint64_t> keys = missed.unique.keys().subspan(begin, end - begin);
    return storage.MultiGet(group_byte(), keys, [&](size_t i, std::optional<std::string_view> stored) {
      return TakeStoredRow(call, missed, begin + static_cast<int64_t>(i), stored);
    });
  };
  Status status = CatchExceptions(
      [&] { return ParallelForStatus(executor, missed.unique.size(), kMinReadsPerBlock, read); });
  if (!missed.slots.empty()) PublishSlots(call, missed, status.ok());
  return status;
}

// Copies the row of the i-th distinct key to where it is wanted, and to its slot if it has one.
Status CachedTable::TakeStoredRow(const LookupCall& call, const Missed& missed, int64_t i,
                                  std::optional<std::string_view> stored) const {
  const uint64_t key = missed.unique.keys()[i];
  std::optional<RowHeader> live;
  if (stored) {
    DAMO_ASSIGN_OR_RETURN(live, DecodeLiveRow(call.moment.recipe, key, *stored, call.moment.now_millis));
  }
  const CachedRow* kept = nullptr;
  if (!missed.slots.empty() && missed.slots[i] != RowShard::kNoSlot) {
    DAMO_RETURN_IF_ERROR(FillSlot(call.moment.recipe, key, stored, missed.rows[i]));
    kept = missed.rows[i];
  }
  if (call.weights.empty()) return Status();

  const Span<const int64_t> occurrences = missed.unique.Occurrences(i);
  if (!live) atomic_counters().missing_keys += static_cast<int64_t>(occurrences.size());
  float* const first = call.output(missed.positions[occurrences[0]], dim());
  if (live) {
    std::memcpy(first, stored->data() + kRowHeaderBytes, sizeof(float) * dim());
  } else if (kept != nullptr && !stored && call.options.missing == MissingRow::kInitial) {
    CopyFloats(kept->floats(), dim(), first);  // the initial values are there already
  } else {
    CopyMissing(key, call, first);
  }
  for (size_t k = 1; k < occurrences.size(); ++k) {
    std::memcpy(call.output(missed.positions[occurrences[k]], dim()), first, sizeof(float) * dim());
  }
  return Status();
}

// Takes slots for keys that still have none. They come into the index when they are filled, so that nobody
// waits for them. Under a recipe that is no longer in force nothing is kept: initial values are not its own.
void CachedTable::AllocateSlots(const LookupCall& call, Missed& missed) const {
  missed.slots.reserve(missed.unique.size());
  missed.rows.reserve(missed.unique.size());
  const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
  if (recipe().get() != &call.moment.recipe) return;
  missed.read = cache_->BeginRead();
  const auto allocate = [&]() -> Status {
    std::vector<bool> is_full(cache_->num_shards());  // where one key has found no room no other one will
    for (const uint64_t key : missed.unique.keys()) {
      const uint64_t hash = HashKey(key);
      const int number = cache_->ShardOf(hash);
      RowShard& shard = cache_->shard(number);
      uint32_t slot = RowShard::kNoSlot;
      if (!is_full[number] && shard.Find(key, TagOf(hash)) == RowShard::kNoSlot) {
        slot = shard.AllocateToRead(key, cache_->active_flush());
        is_full[number] = slot == RowShard::kNoSlot;
      }
      missed.slots.push_back(slot);
      missed.rows.push_back(slot == RowShard::kNoSlot ? nullptr : shard.row(slot));
    }
    return Status();
  };
  // Where the system has no memory for the cache, rows are not kept.
  CatchExceptions(allocate).IgnoreError();
  missed.slots.resize(missed.unique.size(), RowShard::kNoSlot);
  missed.rows.resize(missed.unique.size(), nullptr);
  // Rows may have come into the storage since they were missed, and been evicted by what has just made room.
  missed.absent = missed.absent && cache_->holds_all_rows();
}

// Makes rows that were read visible to others, unless the cache has them by now: an apply call may have
// updated such a row after it was read here.
void CachedTable::PublishSlots(const LookupCall& call, const Missed& missed, bool loaded) const {
  const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
  const bool current = cache_->EndRead(missed.read) && loaded;
  const bool ahead = call.weights.empty();
  for (size_t i = 0; i < missed.slots.size(); ++i) {
    if (missed.slots[i] == RowShard::kNoSlot) continue;
    const uint64_t key = missed.unique.keys()[i];
    const uint64_t hash = HashKey(key);
    RowShard& shard = cache_->ShardFor(hash);
    if (current && shard.Find(key, TagOf(hash)) == RowShard::kNoSlot) {
      shard.AddToIndex(missed.slots[i], TagOf(hash));
      shard.Publish(missed.slots[i]);
      if (ahead) shard.row(missed.slots[i])->SetReferenced();  // it is yet to be used
    } else {
      shard.Free(missed.slots[i]);
    }
  }
}

}  // namespace damo
