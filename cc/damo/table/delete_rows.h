// SPDX-License-Identifier: Apache-2.0
//
// DeleteRows: takes rows out of a store for good.
#ifndef DAMO_TABLE_DELETE_ROWS_H_
#define DAMO_TABLE_DELETE_ROWS_H_

#include <cstdint>

#include "damo/base/span.h"
#include "damo/base/status.h"
#include "damo/table/store.h"

namespace damo {

// Deletes the rows of `keys`, which come in any order; a key without a row is passed over. Afterwards each
// key reads as one that never had a row, and stays so after loss of power, whatever the store's durability.
// Returns how many of them had a row that a lookup would have found.
//
// Works in parts of some 100,000 keys, between which apply calls get their turn. Each part is atomic: after a
// failure or a crash those before it are deleted, those after it are not, and the call can be repeated.
StatusOr<int64_t> DeleteRows(Store& store, int64_t group, Span<const uint64_t> keys);

}  // namespace damo

#endif  // DAMO_TABLE_DELETE_ROWS_H_
