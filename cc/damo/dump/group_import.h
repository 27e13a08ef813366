// SPDX-License-Identifier: Apache-2.0
//
// GroupImport: rows for one group that come from a program, in parts.
#ifndef DAMO_DUMP_GROUP_IMPORT_H_
#define DAMO_DUMP_GROUP_IMPORT_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "damo/base/span.h"
#include "damo/base/status.h"
#include "damo/dump/import_rows.h"
#include "damo/dump/row_sorter.h"
#include "damo/table/store.h"

namespace damo {

// What rows have besides weights, for as many rows.
struct RowStates {
  Span<const float> slots;           // [n * dim * number of slots], in the order of the stored form
  Span<const int64_t> update_nums;   // each in [1, 2^62)
  Span<const int64_t> update_times;  // milliseconds since the Unix epoch, >= 0
};

// Thread-compatible. Memory use does not depend on the number of rows: they wait on disk. The store has none
// of them before Commit().
class GroupImport {
 public:
  // Fails if the group does not exist, or the store cannot be written.
  static StatusOr<std::unique_ptr<GroupImport>> Begin(std::shared_ptr<Store> store, int64_t group);

  // Adds rows in any order; weights[i * dim .. (i + 1) * dim) are those of keys[i]. Without `states` rows are
  // FreshRow()s. InvalidArgument, and the import is of no further use, if sizes do not agree, a float is not
  // finite or a number is out of its range.
  Status Add(Span<const uint64_t> keys, Span<const float> weights, const std::optional<RowStates>& states);

  // Puts all rows into the store, as ImportRows() does. Called once. Returns their number.
  StatusOr<int64_t> Commit(ImportMode mode);

 private:
  GroupImport(std::shared_ptr<Store> store, std::shared_ptr<EmbeddingTable> table);
  Status CheckSizes(Span<const uint64_t> keys, Span<const float> weights,
                    const std::optional<RowStates>& states) const;
  Status AddRow(uint64_t key, Span<const float> weights, const RowStates& states, size_t i);

  const std::shared_ptr<Store> store_;
  const std::shared_ptr<EmbeddingTable> table_;
  const RowLayout layout_;
  FreshRow fresh_;
  std::string row_;
  RowSorter sorter_;
  bool usable_ = true;  // nothing has failed, and nothing is committed
};

}  // namespace damo

#endif  // DAMO_DUMP_GROUP_IMPORT_H_
