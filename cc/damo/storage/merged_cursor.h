// SPDX-License-Identifier: Apache-2.0
//
// MergedCursor: the rows that a full checkpoint and its deltas are together; and DiffRows, which finds what
// has changed between two such things.
#ifndef DAMO_STORAGE_MERGED_CURSOR_H_
#define DAMO_STORAGE_MERGED_CURSOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "damo/base/status.h"
#include "damo/storage/storage.h"

namespace damo {

// What a delta has in the place of a row that its base has and it has not: no row is empty.
inline constexpr std::string_view kDeletedRow;

class MergedCursor final : public RowCursor {
 public:
  // Of several rows with one key the first cursor's counts; one that is kDeletedRow there is left out.
  explicit MergedCursor(std::vector<std::unique_ptr<RowCursor>> newest_first);

  bool Next() override;
  uint64_t key() const override { return current_->rows->key(); }
  std::string_view row() const override { return current_->rows->row(); }
  Status status() const override;

 private:
  struct Source {
    std::unique_ptr<RowCursor> rows;
    bool at_row = false;
  };

  // Moves to the first row of the smallest key. False at the end.
  bool FindSmallest();

  std::vector<Source> sources_;
  Source* current_ = nullptr;  // whose row it is
  bool failed_ = false;
};

// Called with each key whose row differs, in order: its new row, nullopt where it has none any more.
using DiffVisitor = std::function<Status(uint64_t key, std::optional<std::string_view> row)>;

// Visits what must be done to `before` to make it `after`. Rows are the same if their bytes are.
Status DiffRows(RowCursor& before, RowCursor& after, const DiffVisitor& visit);

}  // namespace damo

#endif  // DAMO_STORAGE_MERGED_CURSOR_H_
