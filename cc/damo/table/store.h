// SPDX-License-Identifier: Apache-2.0
//
// Store: one open directory: its groups, each an EmbeddingTable, and its lifetime. Opened through
// StoreRegistry.
#ifndef DAMO_TABLE_STORE_H_
#define DAMO_TABLE_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "damo/base/clock.h"
#include "damo/base/status.h"
#include "damo/config/group_config.h"
#include "damo/config/store_options.h"
#include "damo/storage/storage.h"
#include "damo/table/embedding_table.h"

namespace damo {

// A group as Store::Stats() tells of it.
struct GroupStats {
  GroupConfig config;
  int64_t num_rows = 0;
  int64_t row_bytes = 0;  // bytes of one row: key and value
  int64_t step = 0;
  TableCounters counters;
};

struct StoreStats {
  StorageStats storage;
  std::vector<GroupStats> groups;  // by group number
};

// Thread-safe.
class Store {
 public:
  // Opens on `storage`, which lies in `directory` (a canonical path) and was opened as `options` say. `clock`
  // is borrowed and outlives the store. Fails if the manifest cannot be read or disagrees with `options`.
  static StatusOr<std::unique_ptr<Store>> Open(std::string directory, const StoreOptions& options,
                                               std::unique_ptr<Storage> storage, const Clock* clock);

  const std::string& directory() const { return session_->settings().directory; }
  // How the store is open, defaults filled in (ttl_seconds stays nullopt if rows never expire).
  const StoreOptions& options() const { return options_; }

  // Makes `config` the group's config and returns its table. A group asked for before since opening must be
  // asked for with an equal config. A group from an earlier opening keeps dim and kind of optimizer; its
  // other settings may change (contract C4). Failure names the group and both values.
  StatusOr<std::shared_ptr<EmbeddingTable>> AddGroup(const GroupConfig& config);

  // The table of a group that exists; else NotFound, listing those that do.
  StatusOr<std::shared_ptr<EmbeddingTable>> Table(int64_t group) const;

  // Rows of all groups; see EmbeddingTable::Size().
  StatusOr<int64_t> Size() const;
  StatusOr<StoreStats> Stats() const;

  // Returns when everything applied before survives power loss.
  Status Flush();

  // Waits for calls under way and closes. Later calls fail with FailedPrecondition; closing again is OK.
  Status Close() { return session_->Close(); }
  bool closed() const { return session_->closed(); }

 private:
  struct Group {
    std::shared_ptr<EmbeddingTable> table;
    bool asked_for = false;  // by AddGroup() since opening
  };

  Store(StoreOptions options, std::shared_ptr<StoreSession> session)
      : options_(options), session_(std::move(session)) {}
  Status LoadGroups(const Manifest& manifest);
  StatusOr<std::shared_ptr<EmbeddingTable>> AddGroupLocked(std::shared_ptr<const GroupRecipe> recipe);
  // Writes a group's config; of a new group its state, too.
  Status SaveConfig(const GroupConfig& config, const GroupState* new_state);
  std::vector<std::shared_ptr<EmbeddingTable>> Tables() const;

  const StoreOptions options_;
  const std::shared_ptr<StoreSession> session_;
  mutable std::mutex mutex_;  // guards groups_
  std::map<int, Group> groups_;
};

}  // namespace damo

#endif  // DAMO_TABLE_STORE_H_
