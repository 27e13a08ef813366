// SPDX-License-Identifier: Apache-2.0
#include "damo/cache/slot_index.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "damo/base/test_allocations.h"

namespace damo {
namespace {

constexpr uint32_t kPerLine = internal::kTagsPerLine;

class SlotIndexTest : public testing::Test {
 protected:
  // A tag whose home is line `home` of as many as there are at first, different for each `i`.
  uint32_t TagAt(uint32_t home, uint32_t i) const { return home + num_lines_ * (i + 1); }
  bool Has(uint32_t tag, uint32_t slot) const {
    return index_.Find(tag, [slot](uint32_t found) { return found == slot; }) == slot;
  }
  size_t NumLines(uint32_t tag, uint32_t slot) const {
    return index_.NumLinesToFind(tag, [slot](uint32_t found) { return found == slot; });
  }

  IndexMemory memory_{1};
  SlotIndex index_{&memory_, 0};
  const uint32_t num_lines_ = static_cast<uint32_t>(index_.memory_bytes()) / 64;
};

TEST(EqualTagsTest, AreWhatTheLoopSays) {
  std::mt19937 random(1);
  for (int i = 0; i < 10'000; ++i) {
    alignas(16) uint32_t tags[kPerLine];
    for (uint32_t& tag : tags) tag = random() % 3 == 0 ? UINT32_MAX - random() % 3 : random() % 3;
    for (const uint32_t tag : {0U, 1U, 2U, 3U, UINT32_MAX, UINT32_MAX - 1, UINT32_MAX - 2}) {
      ASSERT_EQ(internal::EqualTags(tags, tag), internal::EqualTagsPlain(tags, tag));
    }
  }
}

TEST_F(SlotIndexTest, FindsTheSlotOfATagOnly) {
  EXPECT_EQ(index_.Candidate(5), SlotIndex::kNoSlot);
  index_.Add(5, 70);
  index_.Add(6, 71);
  EXPECT_EQ(index_.Candidate(5), 70U);
  EXPECT_EQ(index_.Candidate(6), 71U);
  EXPECT_EQ(index_.Candidate(5 + num_lines_), SlotIndex::kNoSlot) << "of the same line";
  EXPECT_TRUE(index_.Remove(5, 70));
  EXPECT_FALSE(index_.Remove(5, 70));
  EXPECT_EQ(index_.Candidate(5), SlotIndex::kNoSlot);
  EXPECT_EQ(index_.Candidate(6), 71U);
}

TEST_F(SlotIndexTest, TellsEntriesOfOneTagApart) {
  for (uint32_t slot = 0; slot < 2 * kPerLine; ++slot) index_.Add(9, slot);
  for (uint32_t slot = 0; slot < 2 * kPerLine; ++slot) EXPECT_TRUE(Has(9, slot)) << slot;
  EXPECT_FALSE(Has(9, 2 * kPerLine));
  EXPECT_TRUE(index_.Remove(9, 3));
  EXPECT_FALSE(index_.Remove(9, 3));
  for (uint32_t slot = 0; slot < 2 * kPerLine; ++slot) EXPECT_EQ(Has(9, slot), slot != 3) << slot;
}

TEST_F(SlotIndexTest, AnEntryIsInItsLineOrTheNextThatHasRoom) {
  const uint32_t last = num_lines_ - 1;
  for (uint32_t i = 0; i < 2 * kPerLine + 1; ++i) index_.Add(TagAt(last, i), i);
  EXPECT_EQ(NumLines(TagAt(last, kPerLine - 1), kPerLine - 1), 1U);
  EXPECT_EQ(NumLines(TagAt(last, kPerLine), kPerLine), 2U) << "in the first line, behind the last one";
  EXPECT_EQ(NumLines(TagAt(last, 2 * kPerLine), 2 * kPerLine), 3U);
  EXPECT_EQ(NumLines(TagAt(last, 100), 100), 3U) << "up to a line that is not full";
}

// Each entry of a chain through three lines, and entries that are where they belong, removed first.
TEST_F(SlotIndexTest, AGapIsFilledByEntriesThatHavePassedIt) {
  const uint32_t home = num_lines_ - 2;
  for (uint32_t removed = 0; removed < 3 * kPerLine; ++removed) {
    IndexMemory memory(1);
    SlotIndex index(&memory, 0);
    std::vector<uint32_t> tags;
    for (uint32_t i = 0; i < 3 * kPerLine; ++i) {
      // Every third belongs into the line behind.
      tags.push_back(TagAt(i % 3 == 2 ? home + 1 : home, i));
      index.Add(tags[i], i);
    }
    ASSERT_TRUE(index.Remove(tags[removed], removed));
    for (uint32_t i = 0; i < 3 * kPerLine; ++i) {
      EXPECT_EQ(index.Candidate(tags[i]), i == removed ? SlotIndex::kNoSlot : i) << removed << " removed";
    }
  }
}

TEST_F(SlotIndexTest, GrowingLosesNothing) {
  constexpr uint32_t kNumEntries = 10'000;
  for (uint32_t i = 0; i < kNumEntries; ++i) {
    if (i == index_.capacity()) index_.Grow();
    index_.Add(i % 3000 + 1, i);
  }
  EXPECT_GE(index_.capacity(), kNumEntries);
  for (uint32_t i = 0; i < kNumEntries; ++i) ASSERT_TRUE(Has(i % 3000 + 1, i)) << i;
}

TEST_F(SlotIndexTest, AddingAndRemovingAllocatesNothing) {
  const FailingAllocation none(0);
  for (uint32_t i = 0; i < index_.capacity(); ++i) index_.Add(i + 1, i);
  for (uint32_t i = 0; i < index_.capacity(); ++i) index_.Remove(i + 1, i);
  EXPECT_FALSE(none.failed());
}

// Few tags and few homes, always nearly full: chains are long, and reach around the end.
TEST_F(SlotIndexTest, IsAMultimapWhateverHappens) {
  std::mt19937 random(20261127);
  std::multimap<uint32_t, uint32_t> entries;
  std::set<uint32_t> free_slots;
  for (uint32_t slot = 0; slot < index_.capacity(); ++slot) free_slots.insert(slot);
  for (int i = 0; i < 100'000; ++i) {
    const uint32_t tag = TagAt(random() % 3 + num_lines_ - 2, random() % 20);
    const auto entry = entries.find(tag);
    if (entry != entries.end() && random() % 2 == 0) {
      ASSERT_TRUE(index_.Remove(tag, entry->second));
      free_slots.insert(entry->second);
      entries.erase(entry);
    } else if (!free_slots.empty()) {
      const uint32_t slot = *free_slots.begin();
      free_slots.erase(free_slots.begin());
      index_.Add(tag, slot);
      entries.emplace(tag, slot);
    }
    ASSERT_EQ(index_.Candidate(tag) != SlotIndex::kNoSlot, entries.count(tag) > 0);
    if (i % 100 != 0) continue;
    for (const auto& [its_tag, slot] : entries) ASSERT_TRUE(Has(its_tag, slot)) << its_tag << ' ' << slot;
  }
}

}  // namespace
}  // namespace damo
