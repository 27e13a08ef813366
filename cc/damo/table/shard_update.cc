// SPDX-License-Identifier: Apache-2.0
#include "damo/table/shard_update.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "damo/base/float_math.h"

namespace damo {
namespace {

// How many keys ahead memory is asked for: of the index first, then of the row it leads to and the gradient.
constexpr size_t kIndexAhead = 16;
constexpr size_t kRowAhead = 8;
constexpr size_t kRing = 8;  // keys whose row has been asked for; a power of two
static_assert(kRowAhead <= kRing);
// Rows ahead in the pass of the optimizer, which takes longer for each.
constexpr uint32_t kUpdateAhead = 4;
constexpr size_t kCacheLineBytes = 64;

// Asks for every cache line of a range, which may begin and end within one.
template <bool write>
void PrefetchRange(const void* range, size_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(range);
  for (uintptr_t line = begin / kCacheLineBytes * kCacheLineBytes; line < begin + bytes;
       line += kCacheLineBytes) {
    __builtin_prefetch(reinterpret_cast<const void*>(line), write ? 1 : 0);  // NOLINT: an address, no object
  }
}

// sum = or += gradient * scale. Sums lie at multiples of 16 bytes, between the other parts of a redo record:
// wider vectors would reach across two cache lines with each access. At the usual widths loops of 16 bytes,
// unrolled, are therefore faster than AddScaled(), and give the same bits.
template <bool first, size_t size>
void SumShort(const float* __restrict gradient, float scale, float* __restrict sum) {
  for (size_t j = 0; j < size; ++j) sum[j] = first ? gradient[j] * scale : sum[j] + gradient[j] * scale;
}

template <bool first>
void Sum(const float* gradient, float scale, float* sum, size_t dim) {
  switch (dim) {
    case 8:
      return SumShort<first, 8>(gradient, scale, sum);
    case 16:
      return SumShort<first, 16>(gradient, scale, sum);
    case 32:
      return SumShort<first, 32>(gradient, scale, sum);
    default:
      return first ? CopyScaled(gradient, scale, sum, dim) : AddScaled(gradient, scale, sum, dim);
  }
}

}  // namespace

uint64_t NextUpdateNumber(int64_t update_num, int64_t update_time, const TimeToLive& lifetime,
                          int64_t now_millis) {
  if (update_num == 0) return 1 | kAbsentRowFlag;
  if (lifetime.Expired(update_time, now_millis)) return 1;
  return static_cast<uint64_t>(update_num) + 1;
}

void ShardUpdate::Reset(size_t num_occurrences, size_t dim) {
  num_rows_ = 0;
  missing_.clear();
  counted_.clear();
  result_ = Result();
  const size_t part_bytes = ApplyRowBytes(dim);
  if (num_occurrences > part_capacity_ || part_bytes != part_bytes_) {
    part_capacity_ = 0;  // until there is memory for all three
    // Not cleared: what is not used is not touched.
    parts_.reset(new char[num_occurrences * part_bytes]);
    slots_.reset(new uint32_t[num_occurrences]);
    first_positions_.reset(new uint32_t[num_occurrences]);
    part_capacity_ = num_occurrences;
    part_bytes_ = part_bytes;
  }
}

bool ShardUpdate::Gather(RowShard& shard, uint8_t active_flush,
                         Span<const KeyPartition::Occurrence> occurrences, const GradientRows& gradients,
                         const Context& context) {
  const size_t dim = context.recipe.layout.dim();
  const size_t n = occurrences.size();
  Reset(n, dim);
  const auto gradient = [&](size_t i) { return gradients.row(occurrences[i].position); };
  std::array<uint32_t, kRing> candidates;  // where the keys under way probably are
  const auto ask_for_row = [&](size_t i) {
    const uint32_t slot = shard.Candidate(occurrences[i].tag);
    candidates[i % kRing] = slot;
    if (slot != RowShard::kNoSlot) __builtin_prefetch(shard.row(slot), /*rw=*/1);
    PrefetchRange</*write=*/false>(gradient(i), dim * sizeof(float));
  };
  for (size_t i = 0; i < std::min(n, kIndexAhead); ++i) shard.PrefetchIndex(occurrences[i].tag);
  for (size_t i = 0; i < std::min(n, kRowAhead); ++i) ask_for_row(i);
  for (size_t i = 0; i < n; ++i) {
    const uint32_t candidate = candidates[i % kRing];
    if (i + kRowAhead < n) ask_for_row(i + kRowAhead);
    if (i + kIndexAhead < n) shard.PrefetchIndex(occurrences[i + kIndexAhead].tag);
    const uint32_t num_before = num_rows_;
    const uint32_t row = Place(shard, active_flush, occurrences[i], candidate, context);
    if (row == kNoRow) return false;
    const float coefficient = gradients.coefficient(occurrences[i].position);
    if (num_rows_ > num_before) {
      Sum</*first=*/true>(gradient(i), coefficient, SumOf(row), dim);
    } else {
      Sum</*first=*/false>(gradient(i), coefficient, SumOf(row), dim);
    }
  }
  GiveUpNonFinite(shard, dim);
  shard.ReserveDirty(num_rows_);
  before_.resize((context.recipe.layout.row_bytes() - kRowHeaderBytes) / sizeof(float));
  return true;
}

// The place of a key among the distinct ones, a new one if it is met for the first time. `candidate` is where
// the key was likely to be some keys ago.
uint32_t ShardUpdate::Place(RowShard& shard, uint8_t active_flush, const KeyPartition::Occurrence& occurrence,
                            uint32_t candidate, const Context& context) {
  uint32_t slot = candidate;
  // Its row may have left for one that comes before it in this call; a free row's key is none.
  if (slot == RowShard::kNoSlot || shard.row(slot)->key != occurrence.key ||
      shard.row(slot)->state == SlotState::kFree) {
    slot = shard.Find(occurrence.key, occurrence.tag);
  }
  const bool found = slot != RowShard::kNoSlot;
  if (found && shard.row(slot)->mark != 0) return shard.row(slot)->mark - 1;
  if (!found) {
    slot = shard.Allocate(occurrence.key, active_flush);
    if (slot == RowShard::kNoSlot) return kNoRow;
    shard.AddToIndex(slot, occurrence.tag);
  }
  const uint32_t row = num_rows_++;
  CachedRow* const cached = shard.row(slot);
  cached->mark = row + 1;
  slots_[row] = slot;
  first_positions_[row] = occurrence.position;
  StoreLittleEndian(occurrence.key, Part(row));
  if (found) {
    SetNumber(row, NextUpdateNumber(cached->update_num, cached->update_time, context.recipe.lifetime,
                                    context.now_millis));
  } else {
    missing_.push_back(row);
  }
  return row;
}

void ShardUpdate::GiveUpNonFinite(RowShard& shard, size_t dim) {
  uint32_t num_kept = 0;
  while (num_kept < num_rows_ && AllFinite({SumOf(num_kept), dim})) ++num_kept;
  if (num_kept == num_rows_) return;
  const uint32_t num_before = num_rows_;
  KeepRows(shard, num_kept, [&](uint32_t i) { return AllFinite({SumOf(i), dim}); });
  result_.num_skipped += num_before - num_rows_;
}

// Gives up every row from the `num_kept`-th on that `keep` does not hold for.
template <typename Keep>
void ShardUpdate::KeepRows(RowShard& shard, uint32_t num_kept, const Keep& keep) {
  for (uint32_t i = num_kept; i < num_rows_; ++i) {
    CachedRow* const cached = shard.row(slots_[i]);
    if (keep(i)) {
      std::memmove(Part(num_kept), Part(i), part_bytes_);
      slots_[num_kept] = slots_[i];
      first_positions_[num_kept] = first_positions_[i];
      cached->mark = ++num_kept;
      continue;
    }
    cached->mark = 0;
    if (cached->state == SlotState::kLoading) shard.Free(slots_[i]);
  }
  num_rows_ = num_kept;
  missing_.clear();
  for (uint32_t i = 0; i < num_kept; ++i) {
    if (shard.row(slots_[i])->state == SlotState::kLoading) missing_.push_back(i);
  }
}

void ShardUpdate::SetLoaded(uint32_t i, int64_t update_num, int64_t update_time, const Context& context) {
  SetNumber(i, NextUpdateNumber(update_num, update_time, context.recipe.lifetime, context.now_millis));
}

void ShardUpdate::Admit(RowShard& shard, Span<const KeyPartition::Occurrence> occurrences,
                        const GroupFilter& filter, const Context& context) {
  for (uint32_t i = 0; i < num_rows_; ++i) {
    if (BeginsRow(Number(i))) counted_.push_back({key(i), 0});
  }
  if (counted_.empty()) return;
  std::vector<uint32_t> places(num_rows_, kNoRow);  // of each row in counted_
  for (uint32_t i = 0, place = 0; i < num_rows_; ++i) {
    if (BeginsRow(Number(i))) places[i] = place++;
  }
  for (const KeyPartition::Occurrence& occurrence : occurrences) {
    const uint32_t slot = shard.Find(occurrence.key, occurrence.tag);
    if (slot == RowShard::kNoSlot || shard.row(slot)->mark == 0) continue;  // its gradient was not finite
    const uint32_t place = places[shard.row(slot)->mark - 1];
    if (place != kNoRow) ++counted_[place].occurrences;
  }
  const uint32_t num_before = num_rows_;
  KeepRows(shard, 0, [&](uint32_t i) {
    if (places[i] == kNoRow) return true;
    const CountedKey& counted = counted_[places[i]];
    return filter.Count(counted.key) + counted.occurrences >= context.recipe.config.min_count;
  });
  result_.num_blocked = num_before - num_rows_;
}

void ShardUpdate::SetRecorded(RowShard& shard, Span<const uint64_t> numbers_by_position,
                              std::vector<uint64_t>* gaps, std::vector<uint64_t>* born) {
  for (uint32_t i = 0; i < num_rows_; ++i) {
    const uint64_t recorded = numbers_by_position[first_positions_[i]];
    const auto number = static_cast<int64_t>(recorded & ~kAbsentRowFlag);
    const int64_t standing = shard.row(slots_[i])->update_num;
    if (number == 1) {
      born->push_back(key(i));
      SetNumber(i, recorded);
    } else if (standing + 1 == number) {
      SetNumber(i, recorded);
    } else {
      if (standing + 1 < number) gaps->push_back(key(i));
      SetNumber(i, 0);
    }
  }
}

void ShardUpdate::Apply(RowShard& shard, const Context& context) {
  const size_t row_bytes = context.recipe.layout.row_bytes();
  const int64_t num_dirty_before = shard.num_dirty();
  for (uint32_t i = 0; i < num_rows_; ++i) {
    if (i + kUpdateAhead < num_rows_)
      PrefetchRange</*write=*/true>(shard.row(slots_[i + kUpdateAhead]), row_bytes);
    ApplyRow(shard, i, context);
  }
  result_.num_newly_dirty = shard.num_dirty() - num_dirty_before;
  num_rows_ = 0;  // nothing is left to take back, should the next call end before it comes to this shard
}

void ShardUpdate::ApplyRow(RowShard& shard, uint32_t i, const Context& context) {
  const RowLayout& layout = context.recipe.layout;
  CachedRow* const cached = shard.row(slots_[i]);
  cached->mark = 0;
  if (cached->state == SlotState::kLoading) shard.Publish(slots_[i]);
  const uint64_t recorded = Number(i);
  if (recorded == 0) return;
  const auto number = static_cast<int64_t>(recorded & ~kAbsentRowFlag);

  float* const floats = cached->floats();
  std::memcpy(before_.data(), floats, before_.size() * sizeof(float));
  const Span<float> weights(floats, layout.dim());
  const Span<float> slots(floats + layout.dim(), layout.slot_floats());
  if (number == 1 && cached->update_num != 0) {
    ++result_.num_expired;
    context.recipe.initializer->Fill(RowRandom(context.session.settings().seed, context.group, cached->key),
                                     weights);
    std::fill(slots.begin(), slots.end(), 0.0f);
  }
  context.recipe.optimizer->Update({context.learning_rate, number}, {SumOf(i), layout.dim()}, weights, slots);
  if (!AllFinite({floats, before_.size()})) {
    std::memcpy(floats, before_.data(), before_.size() * sizeof(float));
    ++result_.num_skipped;
    return;
  }
  cached->update_num = number;
  cached->update_time = context.now_millis;
  shard.SetDirty(slots_[i]);
  ++result_.num_updated;
  result_.num_inserted += (recorded & kAbsentRowFlag) != 0 ? 1 : 0;
}

void ShardUpdate::Abandon(RowShard& shard) {
  for (uint32_t i = 0; i < num_rows_; ++i) {
    CachedRow* const cached = shard.row(slots_[i]);
    cached->mark = 0;
    if (cached->state == SlotState::kLoading) shard.Free(slots_[i]);
  }
  num_rows_ = 0;
  missing_.clear();
}

}  // namespace damo
