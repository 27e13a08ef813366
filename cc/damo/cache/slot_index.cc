// SPDX-License-Identifier: Apache-2.0
#include "damo/cache/slot_index.h"

#include <cassert>
#include <memory>
#include <utility>

namespace damo {
namespace {

constexpr uint32_t kMinLines = 8;

}  // namespace

SlotIndex::SlotIndex(IndexMemory* memory, int number)
    : line_mask_(kMinLines - 1), number_(number), memory_(memory) {
  lines_ = AcquireLines(kMinLines);
}

SlotIndex::SlotIndex(SlotIndex&& other) noexcept
    : lines_(std::exchange(other.lines_, nullptr)),
      line_mask_(other.line_mask_),
      number_(other.number_),
      memory_(other.memory_) {}

SlotIndex::~SlotIndex() {
  if (lines_ != nullptr) memory_->Release(number_, num_lines() * sizeof(Line));
}

SlotIndex::Line* SlotIndex::AcquireLines(size_t num_lines) {
  auto* const lines = reinterpret_cast<Line*>(memory_->Acquire(number_, num_lines * sizeof(Line)));
  std::uninitialized_fill_n(lines, num_lines, Line{});
  return lines;
}

void SlotIndex::Add(uint32_t tag, uint32_t slot) {
  assert(tag != kFreeTag);
  size_t i = Home(tag);
  while (IsFull(lines_[i])) i = Next(i);
  Line& line = lines_[i];
  const int place = __builtin_ctz(Equal(line, kFreeTag));
  line.tags[place] = tag;
  line.slots[place] = slot;
}

bool SlotIndex::Remove(uint32_t tag, uint32_t slot) {
  for (size_t i = Home(tag);; i = Next(i)) {
    for (uint32_t equal = Equal(lines_[i], tag); equal != 0; equal &= equal - 1) {
      const int place = __builtin_ctz(equal);
      if (lines_[i].slots[place] != slot) continue;
      FillGap(i, static_cast<size_t>(place));
      return true;
    }
    if (IsFull(lines_[i])) continue;
    return false;
  }
}

// Frees a place. If the line was full until now entries may have passed it by: one comes back, and so on with
// the place that it leaves, so that no search ends too early.
void SlotIndex::FillGap(size_t line, size_t place) {
  bool was_full = IsFull(lines_[line]);
  lines_[line].tags[place] = kFreeTag;
  for (size_t i = Next(line); was_full; i = Next(i)) {
    was_full = IsFull(lines_[i]);
    for (size_t j = 0; j < kEntriesPerLine; ++j) {
      const uint32_t tag = lines_[i].tags[j];
      // Of an entry whose home lies behind the gap: it has not passed it by.
      if (tag == kFreeTag || Distance(i, Home(tag)) < Distance(i, line)) continue;
      lines_[line].tags[place] = tag;
      lines_[line].slots[place] = lines_[i].slots[j];
      lines_[i].tags[j] = kFreeTag;
      line = i;
      place = j;
      break;
    }
  }
}

void SlotIndex::Grow() {
  const size_t num_old = num_lines();
  const Line* const old = std::exchange(lines_, AcquireLines(2 * num_old));
  line_mask_ = static_cast<uint32_t>(2 * num_old - 1);
  for (const Line* line = old; line != old + num_old; ++line) {
    for (size_t j = 0; j < kEntriesPerLine; ++j) {
      if (line->tags[j] != kFreeTag) Add(line->tags[j], line->slots[j]);
    }
  }
  memory_->Release(number_, num_old * sizeof(Line));
}

}  // namespace damo
