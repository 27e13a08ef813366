// SPDX-License-Identifier: Apache-2.0
//
// Store: one open directory: its groups, each an EmbeddingTable, and its lifetime. Opened through
// StoreRegistry.
#ifndef DAMO_TABLE_STORE_H_
#define DAMO_TABLE_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "damo/base/clock.h"
#include "damo/base/status.h"
#include "damo/cache/cache_memory.h"
#include "damo/checkpoint/checkpoint_chain.h"
#include "damo/config/group_config.h"
#include "damo/config/store_options.h"
#include "damo/redo/log_file_system.h"
#include "damo/redo/redo_log.h"
#include "damo/storage/storage.h"
#include "damo/table/embedding_table.h"
#include "damo/table/recovery.h"
#include "damo/table/row_progress.h"
#include "damo/table/store_snapshot.h"
#include "damo/table/verification.h"
#include "damo/table/verifier.h"
#include "damo/table/write_back.h"

namespace damo {

// A group as Store::Stats() tells of it.
struct GroupStats {
  GroupConfig config;
  // Rows that a lookup would find if num_rows_exact; else at most so many: it counts expired rows as well,
  // even if compactions have dropped them.
  int64_t num_rows = 0;
  bool num_rows_exact = false;
  int64_t row_bytes = 0;  // bytes of one row: key and value
  int64_t step = 0;
  TableCounters counters;
  TableMemory memory;
  double filter_fill = 0;  // see CountingFilter::fill(); of one that is not in memory, as last flushed
};

struct StoreStats {
  StorageStats storage;
  int64_t cache_bytes = 0;         // of all row caches
  uint64_t redo_bytes = 0;         // of the redo log on disk
  int64_t num_flushes = 0;         // since opening
  std::vector<GroupStats> groups;  // by group number
};

// A change to the rows of one group by other ways than apply calls, as Store::EditGroup() lets it happen.
struct GroupEdit {
  Storage& storage;  // to be changed in one atomic batch, which holds the state as well
  // In: as it is. Out: as written.
  GroupState state;
  // Out: the keys whose rows changed; nullopt: those may be any.
  std::optional<std::vector<uint64_t>> keys;
};

// Thread-safe.
class Store {
 public:
  // Opens on `storage`, which lies in `directory` (a canonical path) and was opened as `options` say. `clock`
  // is borrowed and outlives the store, as do `log_files`, where the redo log lies; null: the
  // machine's. Fails if the manifest cannot be read or disagrees with `options`, and if the redo log of an
  // earlier process cannot be brought into the rows.
  static StatusOr<std::unique_ptr<Store>> Open(std::string directory, const StoreOptions& options,
                                               std::unique_ptr<Storage> storage, const Clock* clock,
                                               LogFileSystem* log_files = nullptr);

  const std::string& directory() const { return session_->settings().directory; }
  // How the store is open, defaults filled in (ttl_seconds stays nullopt if rows never expire).
  const StoreOptions& options() const { return options_; }
  // Fails unless calls that change the store may be made.
  Status CheckWritable() const { return session_->BeginWrite().status(); }
  // By the store's clock.
  int64_t NowMillis() const { return session_->clock().NowMillis(); }

  // Makes `config` the group's config and returns its table. A group asked for before since opening must be
  // asked for with an equal config. A group from an earlier opening keeps dim and kind of optimizer; its
  // other settings may change (contract C4). Failure names the group and both values.
  StatusOr<std::shared_ptr<EmbeddingTable>> AddGroup(const GroupConfig& config);

  // The table of a group that exists; else NotFound, listing those that do.
  StatusOr<std::shared_ptr<EmbeddingTable>> Table(int64_t group) const;

  // The groups that exist, in ascending order.
  StatusOr<std::vector<int>> Groups() const;

  // Rows of all groups; see EmbeddingTable::Size().
  StatusOr<int64_t> Size() const;
  // Reads no row, so that it takes as long for a large store as for a small one; unless `count_rows` asks for
  // Size() of each group as its number of rows.
  StatusOr<StoreStats> Stats(bool count_rows = false) const;

  // Returns when everything applied before survives power loss.
  Status Flush();

  // Tells a store with a clock of events of the time of one, milliseconds since the Unix epoch, UTC, at most
  // kMaxEventMillis; it is "now" from then on, unless a later one was told. It survives with the next apply
  // call, flush or closing, as those do. Fails if the clock is the system's.
  static constexpr int64_t kMaxEventMillis = 253402300799999;  // the end of the year 9999
  Status AdvanceClock(int64_t millis);

  // Writes the files of all groups anew: see Storage::Compact(). Rows that had expired when the store was
  // last flushed are gone then. `progress` is told the bytes written, of those that the files have at first.
  Status Compact(const ByteProgress& progress = nullptr);

  // Removes the rows that have expired, kExpirePartRows at a time at most, and returns how many those were;
  // rows that compactions have dropped before are not among them. Groups without a time to live are left
  // alone. Training goes on beside it. Where a tenth of a group's rows or more were removed, its files are
  // written anew. What was removed before a failure stays removed.
  //
  // `progress` (null: nobody asks) is called between parts of the work; a failure that it returns ends the
  // work and is returned.
  static constexpr int64_t kExpirePartRows = 32768;
  struct ExpireProgress {
    int64_t rows_scanned;
    int64_t rows_removed;
  };
  StatusOr<int64_t> Expire(const std::function<Status(const ExpireProgress&)>& progress = nullptr);

  // The store as of one moment between apply calls, which wait until it is taken: some milliseconds.
  StatusOr<std::unique_ptr<StoreSnapshot>> TakeSnapshot() const;

  // Looks for damage and changes nothing: every checksum of every file, whether each row can be one and is
  // finite, whether each page of an admission filter can be one, and whether groups and numbers of rows are
  // the manifest's; of a store that is a checkpoint, also
  // whether it is what its description says. Problems are found, not failures: after one it goes on. Training
  // goes on beside it. `progress` may be null.
  StatusOr<Verification> Verify(const VerifyProgress& progress = nullptr) const;

  // Calls `edit` while no apply call runs and the storage holds all there is, the redo log nothing;
  // afterwards the table goes on from what `edit` has written. So what it deletes or replaces stays so after
  // a crash. Lookups run beside it and see each row as before or after. If `edit` fails the table goes on as
  // it was, or, where the disk failed as the batch was recorded and all of that turns out to be there, from
  // that. Where nobody can find out, no more is written until the store is opened again.
  Status EditGroup(int64_t group, const std::function<Status(GroupEdit& edit)>& edit);
  // The same for several groups, in ascending order, in one atomic batch. `edits` are in their order.
  Status EditGroups(const std::vector<int64_t>& groups,
                    const std::function<Status(std::vector<GroupEdit>& edits)>& edit);

  // Writes the store as of one moment between apply calls into `directory`, which must not exist: aside, and
  // renamed when it is whole. Training goes on meanwhile but for some milliseconds. See
  // docs/checkpoint_format.md.
  //
  // `progress` is told the bytes that are in the directory, of those that will be.
  Status Checkpoint(const std::string& directory, const ByteProgress& progress = nullptr);

  // The same, but only what has changed since the checkpoint in `since`, full or itself a delta. Reads both
  // the store and that checkpoint from end to end.
  //
  // `progress` is told the rows that have been compared, of those of the store.
  Status CheckpointDelta(const std::string& directory, const std::string& since,
                         const RowProgress& progress = nullptr);

  // Makes the store what it was at a checkpoint, in one atomic step: rows, steps, settings of groups that
  // were not asked for since opening, and all else that the manifest holds. `chain` is one checkpoint, or a
  // full one and then deltas. A group that the checkpoint lacks has no rows afterwards. Everything is
  // validated before anything changes. Apply calls and flushes wait; lookups go on and see each row as before
  // or after.
  //
  // `progress` is told the rows that have been compared, of those of the checkpoint.
  Status Restore(const std::vector<std::string>& chain, const RowProgress& progress = nullptr);

  ~Store();
  // Waits for calls under way, flushes and closes. Later calls fail with FailedPrecondition; closing again is
  // OK. If the flush fails the redo log stays, for the next opening.
  Status Close();
  bool closed() const { return session_->closed(); }

 private:
  struct Group {
    std::shared_ptr<EmbeddingTable> table;
    // By AddGroup() since opening: the group, and what of its filter's size. Else that is as it stood, or a
    // default.
    bool asked_for = false;
    bool asked_capacity = false;
    bool asked_fpr = false;
    int64_t logged_steps = 0;  // see StoreSnapshot::Group
  };

  Store(const StoreOptions& options, std::shared_ptr<StoreSession> session);
  // Sets up what cached tables share, makes the tables of the manifest and brings the redo log into them.
  Status OpenTables(const Manifest& manifest, Storage& storage, LogFileSystem* log_files);
  Status Recover(const Manifest& manifest, const CachedTables& tables, Storage& storage,
                 LogFileSystem* log_files);
  // Puts direct tables in the place of the cached ones, which hold nothing that is not in the storage.
  void GoDirect();
  // A table of either kind. One that is cached goes into `cached`, too, for the caller to make known to
  // write_back_.
  StatusOr<std::shared_ptr<EmbeddingTable>> MakeTable(std::shared_ptr<const GroupRecipe> recipe,
                                                      const GroupState& state, const Storage& storage,
                                                      CachedTables* cached);
  StatusOr<std::shared_ptr<EmbeddingTable>> AddGroupLocked(Storage& storage, const GroupConfig& as_asked);
  // Fills in what is not asked for of a group's filter: as it stands, else by default.
  void CompleteFilter(GroupConfig* asked) const;
  // Fails unless the filters of all groups, with this one's, leave enough of the memory budget to rows.
  Status CheckFilterFitsAll(const GroupConfig& config) const;
  Status ChangeConfig(Storage& storage, EmbeddingTable& table,
                      const std::shared_ptr<const GroupRecipe>& recipe);
  // Writes a group's config; of a new group its state, too.
  static Status SaveConfig(Storage& storage, const GroupConfig& config, const GroupState* new_state);
  // Where no write-back does.
  Status SaveEventTime(Storage& storage) const;
  // Lets expired rows of a group go, whose settings stay as they are until the store is closed. `asked` is as
  // it was asked for.
  static Status SetAskedFor(Group& group, const GroupConfig& asked, const Storage& storage);
  static void NoteAskedFor(Group& group, const GroupConfig& asked);
  Status ExpireGroup(EmbeddingTable& table, const std::function<Status(const ExpireProgress&)>& report,
                     ExpireProgress* done);
  StatusOr<int64_t> RemoveExpired(EmbeddingTable& table, const std::vector<uint64_t>& keys);
  StatusOr<double> FilterFill(const GroupRecipe& recipe, const TableMemory& memory) const;
  std::vector<std::shared_ptr<EmbeddingTable>> Tables() const;
  Status EditTables(const std::vector<std::shared_ptr<EmbeddingTable>>& tables,
                    const std::function<Status(std::vector<GroupEdit>& edits)>& edit);
  // After an edit that failed; returns the failure to tell.
  Status TakeWhatIsThere(Storage& storage, const std::vector<std::shared_ptr<EmbeddingTable>>& tables,
                         const Status& failure);
  // Calls `then` while no apply call of `tables` runs, and the storage has all there is; in a read-only store
  // all that it will have.
  Status AtOneMoment(Storage& storage, const std::vector<std::shared_ptr<EmbeddingTable>>& tables,
                     const std::function<Status()>& then) const;

  Status WriteCheckpoint(Storage& storage, const std::string& directory, const ByteProgress& progress);
  Status WriteDelta(const std::string& directory, const std::string& since, const RowProgress& progress);
  // The table of a group, null where the store has none; and what it is to be after a restore.
  struct RestoredGroup {
    std::shared_ptr<EmbeddingTable> table;
    std::shared_ptr<const GroupRecipe> recipe;
    GroupState state;
    bool rows_released = false;  // see EmbeddingTable::set_rows_released()
  };
  struct RestoredGroups : std::map<int, RestoredGroup> {
    int64_t event_millis = 0;  // of a clock of events
  };
  using TableMap = std::map<int, std::shared_ptr<EmbeddingTable>>;
  Status RestoreFrom(Storage& storage, CheckpointChain& chain, const RowProgress& progress);
  // Tables of the groups that the store lacks; `cached` as in MakeTable().
  StatusOr<TableMap> MakeNewTables(const RestoredGroups& groups, const Storage& storage,
                                   CachedTables* cached);
  StatusOr<RestoredGroups> PlanRestore(CheckpointChain& chain) const;
  // What a group of the store is to be: `restored` is the checkpoint's recipe, null where it has none.
  StatusOr<std::shared_ptr<const GroupRecipe>> RestoredRecipe(
      const Group& has, std::shared_ptr<const GroupRecipe> restored) const;
  // Fails unless the filters that will be in memory leave enough of the memory budget to rows.
  Status CheckFiltersFit(const RestoredGroups& groups) const;
  Status ReplaceContent(Storage& storage, const CheckpointChain& chain, const RestoredGroups& groups,
                        const RowProgress& progress);
  Status WriteContent(Storage& storage, const CheckpointChain& chain, const RestoredGroups& groups,
                      const RowProgress& progress, SortedBatch& batch) const;

  const StoreOptions options_;
  const std::shared_ptr<StoreSession> session_;
  // What cached tables share. Null where there is none: all in a store without row cache, log and write-back
  // in a read-only one.
  std::shared_ptr<CacheMemory> memory_;
  std::unique_ptr<RedoLog> log_;
  std::unique_ptr<WriteBack> write_back_;
  // In a read-only store: brings what the log of the writer has, as it is replayed, to the storage on top of
  // the writer's (overlay_storage.h). Once the store is open there is nothing for it to do.
  std::unique_ptr<WriteBack> replay_write_back_;
  // In this order: leave to use the storage (session_), change_mutex_, mutex_, then what a flush takes.
  // Held where groups are added, through a restore, and where a moment of all groups is taken.
  mutable std::mutex change_mutex_;
  mutable std::mutex mutex_;         // guards groups_
  mutable std::mutex moment_mutex_;  // without write-back: held where one of its flushes would be
  std::map<int, Group> groups_;
};

}  // namespace damo

#endif  // DAMO_TABLE_STORE_H_
