// SPDX-License-Identifier: Apache-2.0
//
// StoreSnapshot: a whole store as of one moment between apply calls: settings, steps and rows. Made by
// Store::TakeSnapshot(). Training goes on beside it.
#ifndef DAMO_TABLE_STORE_SNAPSHOT_H_
#define DAMO_TABLE_STORE_SNAPSHOT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "damo/base/status.h"
#include "damo/storage/storage.h"
#include "damo/table/embedding_table.h"
#include "damo/table/store_session.h"

namespace damo {

// Thread-safe. Keeps the store from closing, and space on disk in use: it lives as long as one call of the
// engine.
class StoreSnapshot {
 public:
  struct Group {
    std::shared_ptr<const GroupRecipe> recipe;
    GroupState state;
    // Apply calls of which the manifest of stored() does not know yet; only in a read-only store.
    int64_t logged_steps = 0;
    bool rows_released = false;  // state.num_rows may count rows that compactions have dropped
    std::shared_ptr<ReleaseHold>
        hold;  // so that no row goes that was not expired when the snapshot was taken
  };
  using Groups = std::map<int, Group>;

  StoreSnapshot(StoreSession::Use use, int64_t now_millis, std::unique_ptr<StorageSnapshot> rows,
                Groups groups)
      : use_(std::move(use)), now_millis_(now_millis), rows_(std::move(rows)), groups_(std::move(groups)) {}

  const Groups& groups() const { return groups_; }
  // The moment, by the store's clock: rows are as old as they were then, however long it takes to read them.
  int64_t now_millis() const { return now_millis_; }

  // Visits every row of a group in its stored form, in key order; those that were expired when the snapshot
  // was taken, too, unless a compaction has dropped them. A group that does not exist has no rows.
  Status Scan(int group, const ScanVisitor& visit) const;

  // The storage as of that moment: all rows, and the manifest; that of a read-only store is as its writer
  // last flushed it.
  const StorageSnapshot& stored() const { return *rows_; }

 private:
  const StoreSession::Use use_;  // goes last: the storage must be open when the snapshot of it goes
  const int64_t now_millis_;
  const std::unique_ptr<StorageSnapshot> rows_;
  const Groups groups_;
};

}  // namespace damo

#endif  // DAMO_TABLE_STORE_SNAPSHOT_H_
