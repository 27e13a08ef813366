// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/merged_cursor.h"

#include <utility>

namespace damo {

MergedCursor::MergedCursor(std::vector<std::unique_ptr<RowCursor>> newest_first) {
  sources_.reserve(newest_first.size());
  for (std::unique_ptr<RowCursor>& rows : newest_first) {
    sources_.push_back({std::move(rows), /*at_row=*/false});
    sources_.back().at_row = sources_.back().rows->Next();
    failed_ |= !sources_.back().at_row && !sources_.back().rows->status().ok();
  }
}

bool MergedCursor::Next() {
  do {
    if (current_ != nullptr) {
      const uint64_t done = current_->rows->key();
      for (Source& source : sources_) {
        if (!source.at_row || source.rows->key() != done) continue;
        source.at_row = source.rows->Next();
        failed_ |= !source.at_row && !source.rows->status().ok();
      }
    }
    if (!FindSmallest()) return false;
  } while (current_->rows->row() == kDeletedRow);
  return true;
}

bool MergedCursor::FindSmallest() {
  current_ = nullptr;
  if (failed_) return false;
  for (Source& source : sources_) {
    if (!source.at_row) continue;
    if (current_ == nullptr || source.rows->key() < current_->rows->key()) current_ = &source;
  }
  return current_ != nullptr;
}

Status MergedCursor::status() const {
  for (const Source& source : sources_) {
    if (!source.at_row) DAMO_RETURN_IF_ERROR(source.rows->status());
  }
  return Status();
}

Status DiffRows(RowCursor& before, RowCursor& after, const DiffVisitor& visit) {
  bool has_before = before.Next();
  bool has_after = after.Next();
  while (has_before || has_after) {
    if (has_before && (!has_after || before.key() < after.key())) {
      // Only if `after` has come to its end, not if it has failed, does it lack the key.
      if (!has_after) DAMO_RETURN_IF_ERROR(after.status());
      DAMO_RETURN_IF_ERROR(visit(before.key(), std::nullopt));
      has_before = before.Next();
      continue;
    }
    const bool in_both = has_before && before.key() == after.key();
    if (!in_both || before.row() != after.row()) DAMO_RETURN_IF_ERROR(visit(after.key(), after.row()));
    has_after = after.Next();
    if (in_both) has_before = before.Next();
  }
  DAMO_RETURN_IF_ERROR(before.status());
  return after.status();
}

}  // namespace damo
