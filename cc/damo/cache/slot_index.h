// SPDX-License-Identifier: Apache-2.0
//
// SlotIndex: where the rows of a shard are: from 32 bits of a key's hash, its tag, to a slot. Eight entries
// fill a cache line, and a tag is compared with all of them at once: how many came before the one that is
// looked for decides no branch, which a processor would have to guess.
#ifndef DAMO_CACHE_SLOT_INDEX_H_
#define DAMO_CACHE_SLOT_INDEX_H_

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <cstddef>
#include <cstdint>

#include "damo/cache/index_memory.h"

namespace damo {
namespace internal {

inline constexpr uint32_t kTagsPerLine = 8;

// Which of the tags of a line are `tag`, a bit each.
inline uint32_t EqualTagsPlain(const uint32_t* tags, uint32_t tag) {
  uint32_t equal = 0;
  for (uint32_t j = 0; j < kTagsPerLine; ++j) equal |= static_cast<uint32_t>(tags[j] == tag) << j;
  return equal;
}

// The same, of `tags` at a multiple of 16 bytes. Compilers do not find this in the loop, which takes 50
// instructions more for a lookup (make counted-work).
#ifdef __SSE2__
inline uint32_t EqualTags(const uint32_t* tags, uint32_t tag) {
  const __m128i wanted = _mm_set1_epi32(static_cast<int>(tag));
  const auto* const halves = reinterpret_cast<const __m128i*>(tags);
  const __m128 first = _mm_castsi128_ps(_mm_cmpeq_epi32(_mm_load_si128(halves), wanted));
  const __m128 second = _mm_castsi128_ps(_mm_cmpeq_epi32(_mm_load_si128(halves + 1), wanted));
  return static_cast<uint32_t>(_mm_movemask_ps(first) | _mm_movemask_ps(second) << 4);
}
#else
inline uint32_t EqualTags(const uint32_t* tags, uint32_t tag) { return EqualTagsPlain(tags, tag); }
#endif

}  // namespace internal

// Entries are in the line that their tag says, or, if that was full, in the next one that was not. Tags need
// not be unique: who searches says which of the slots it is. Thread-compatible.
class SlotIndex {
 public:
  static constexpr uint32_t kNoSlot = UINT32_MAX;
  // Not a tag: it marks entries that are free.
  static constexpr uint32_t kFreeTag = 0;

  // `memory` outlives the index, which is the `number`-th of those that share it.
  SlotIndex(IndexMemory* memory, int number);
  ~SlotIndex();
  SlotIndex(SlotIndex&& other) noexcept;
  SlotIndex& operator=(SlotIndex&&) = delete;

  // How many entries it may have before Grow(): three quarters of the places.
  size_t capacity() const { return num_lines() * kEntriesPerLine / 4 * 3; }
  int64_t memory_bytes() const { return static_cast<int64_t>(num_lines() * sizeof(Line)); }

  void Prefetch(uint32_t tag) const { __builtin_prefetch(&lines_[Home(tag)]); }
  // The slot of an entry with this tag, kNoSlot if there is none.
  uint32_t Candidate(uint32_t tag) const {
    return Find(tag, [](uint32_t /*slot*/) { return true; });
  }
  // The slot of the entry with this tag for which `is_it(slot)`, kNoSlot if there is none.
  template <typename IsIt>
  uint32_t Find(uint32_t tag, const IsIt& is_it) const {
    return Search(tag, is_it, [] {});
  }
  // How many lines Find() looks at: for who counts the engine's work.
  template <typename IsIt>
  size_t NumLinesToFind(uint32_t tag, const IsIt& is_it) const {
    size_t num_lines = 0;
    Search(tag, is_it, [&] { ++num_lines; });
    return num_lines;
  }

  // There must be fewer than capacity() entries.
  void Add(uint32_t tag, uint32_t slot);
  // False if there is no such entry.
  bool Remove(uint32_t tag, uint32_t slot);
  // Doubles the capacity.
  void Grow();

 private:
  static constexpr size_t kEntriesPerLine = internal::kTagsPerLine;
  struct alignas(64) Line {
    uint32_t tags[kEntriesPerLine];
    uint32_t slots[kEntriesPerLine];
  };
  static_assert(sizeof(Line) == 64, "one cache line");

  static uint32_t Equal(const Line& line, uint32_t tag) { return internal::EqualTags(line.tags, tag); }
  static bool IsFull(const Line& line) { return Equal(line, kFreeTag) == 0; }

  template <typename IsIt, typename OnLine>
  uint32_t Search(uint32_t tag, const IsIt& is_it, const OnLine& on_line) const {
    for (size_t i = Home(tag);; i = Next(i)) {
      on_line();
      const Line& line = lines_[i];
      for (uint32_t equal = Equal(line, tag); equal != 0; equal &= equal - 1) {
        const uint32_t slot = line.slots[__builtin_ctz(equal)];
        if (is_it(slot)) return slot;
      }
      if (!IsFull(line)) return kNoSlot;
    }
  }
  size_t num_lines() const { return size_t{line_mask_} + 1; }
  size_t Home(uint32_t tag) const { return tag & line_mask_; }
  size_t Next(size_t i) const { return (i + 1) & line_mask_; }
  // How far behind its home an entry is.
  size_t Distance(size_t line, size_t home) const { return (line - home) & line_mask_; }
  Line* AcquireLines(size_t num_lines);
  void FillGap(size_t line, size_t place);

  Line* lines_;         // null once they have been moved away
  uint32_t line_mask_;  // a power of two, less 1
  const int number_;
  IndexMemory* const memory_;
};

}  // namespace damo

#endif  // DAMO_CACHE_SLOT_INDEX_H_
