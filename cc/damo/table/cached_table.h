// SPDX-License-Identifier: Apache-2.0
//
// CachedTable: a table that works on rows in memory and lets WriteBack bring them to the storage. What has
// been applied survives through one record of the redo log per call. DirectTable is its oracle.
#ifndef DAMO_TABLE_CACHED_TABLE_H_
#define DAMO_TABLE_CACHED_TABLE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "damo/cache/row_cache.h"
#include "damo/config/store_options.h"
#include "damo/redo/apply_record.h"
#include "damo/redo/redo_log.h"
#include "damo/table/embedding_table.h"
#include "damo/table/full_filter_warning.h"
#include "damo/table/group_filter.h"
#include "damo/table/key_partition.h"
#include "damo/table/shard_update.h"
#include "damo/table/write_back.h"

namespace damo {

// An apply call goes through these steps; "log" is where it becomes a fact, and nothing after it can fail
// (but see ApplyInParts()):
//
//   gather   keys are deduplicated, gradients summed, slots found      (under the cache's exclusive lock)
//   load     missing rows are read from the storage                    (under no lock of the cache)
//   admit    with a min_count: new keys are counted, some given up     (under the exclusive lock)
//   log      one redo record is appended
//   update   the optimizer takes its steps, the filter its counts      (under the exclusive lock)
class CachedTable final : public EmbeddingTable, private WriteBackSource {
 public:
  // What the tables of a store share. Log and write-back are borrowed, and used only with the session's
  // leave.
  struct Shared {
    std::shared_ptr<CacheMemory> memory;
    RedoLog* log;           // null in a read-only store
    WriteBack* write_back;  // of a read-only store: works while it is being opened
    Durability durability;
    int64_t memory_budget = StoreOptions::kDefaultMemoryBudget;  // bounds the filters of the store
  };

  CachedTable(std::shared_ptr<StoreSession> session, const std::shared_ptr<const GroupRecipe>& recipe,
              const GroupState& state, const Shared& shared);

  WriteBackSource* source() { return this; }

  // Looks whether the storage has rows of the table. If it has none, keys that are not in the cache are not
  // looked for there until the cache has let a row go. Called before any other call.
  Status CheckWhetherEmpty(const Storage& storage);

  StatusOr<bool> TryChangeRecipe(std::shared_ptr<const GroupRecipe> recipe, const Storage& storage,
                                 const std::function<Status()>& save) override;
  TableMemory memory() const override;
  Status PrepareToApply(const Storage& storage) override;
  std::mutex& apply_mutex() override { return apply_mutex_; }

  // Brings one record of an earlier process, or its part that is not there yet, into the cache. Records come
  // in order, before any other call. After a failure the table is of no more use.
  Status Replay(Storage& storage, uint64_t lsn, const ApplyRecord& record, Executor& executor);
  // After the last record: DataLoss if a row lacks an update that no record held.
  Status FinishReplay() const;

 private:
  // ---- EmbeddingTable ----
  Status DoLookup(const Storage& storage, Span<const uint64_t> keys, const LookupOptions& options,
                  Executor& executor, Span<float> weights) const override;
  Status DoPrefetch(const Storage& storage, Span<const uint64_t> keys, std::optional<uint64_t> padding_key,
                    Executor& executor) const override;
  StatusOr<ApplyResult> DoApplyGradients(Storage& storage, Span<const uint64_t> keys,
                                         const GradientRows& gradients, const ApplyOptions& options,
                                         Executor& executor) override;
  Status FinishCallOf(Storage& storage, Span<const uint64_t> keys) const override;
  StatusOr<std::optional<std::string>> DoGetRow(const Storage& storage, uint64_t key) const override;
  StatusOr<int64_t> CountLiveRows(const Storage& storage, int64_t now_millis) const override;
  void Forget(const std::optional<std::vector<uint64_t>>& keys) override;
  void ForgetAll() override;

  // ---- WriteBackSource ----
  int source_group() const override { return group(); }
  size_t row_bytes() const override { return cache_->geometry().stride; }
  int64_t num_dirty_rows() const override { return cache_->Stats().num_dirty; }
  Status FinishCall(Storage& storage) override;
  Snapshot BeginFlush(uint8_t flush_number) override;
  Status CopyRows(Snapshot& snapshot, size_t num_rows, uint8_t flush_number,
                  const std::function<Status(uint64_t key, std::string_view row)>& visit) override;
  int64_t EndFlush(const Snapshot& snapshot, uint8_t flush_number, bool in_storage) override;
  StatusOr<std::optional<std::string_view>> HalfDoneRecord() const override;
  void SetHalfDoneLsn(uint64_t lsn) override;

  // The filter that a table with this recipe needs, null if it needs none: nobody applies gradients in a
  // read-only store. Requires apply_mutex_, as do the next two.
  StatusOr<std::shared_ptr<GroupFilter>> MakeFilter(const GroupRecipe& recipe, const Storage& storage) const;
  void SetFilter(std::shared_ptr<GroupFilter> filter);
  // Makes and sets it if it is not there yet.
  Status LoadFilter(const Storage& storage);
  Status FillSlot(const GroupRecipe& recipe, uint64_t key, std::optional<std::string_view> stored,
                  CachedRow* cached) const;
  void CopyStoredForm(const CachedRow& cached, size_t row_bytes, char* stored) const;

  // ---- lookup ----
  struct LookupCall;
  struct Missed;
  std::vector<int64_t> CopyHits(const LookupCall& call, int64_t begin, int64_t end) const;
  std::vector<int64_t> FindMissed(const LookupCall& call) const;
  void CopyAbsent(const CachedRow& cached, const LookupCall& call, float* weights) const;
  void CopyMissing(uint64_t key, const LookupCall& call, float* weights) const;
  Status ReadMissed(const Storage& storage, const LookupCall& call, std::vector<int64_t> positions,
                    bool absent, Executor& executor) const;
  Status TakeStoredRow(const LookupCall& call, const Missed& missed, int64_t i,
                       std::optional<std::string_view> stored) const;
  void AllocateSlots(const LookupCall& call, Missed& missed) const;
  void PublishSlots(const LookupCall& call, const Missed& missed, bool loaded) const;

  // ---- apply ----
  struct ApplyCall;
  struct RowToLoad;
  class Gathered;
  StatusOr<std::unique_lock<std::mutex>> LockToApply(Storage& storage);
  uint8_t group_byte() const { return static_cast<uint8_t>(group()); }
  StatusOr<bool> TryApply(Storage& storage, ApplyCall& call, Executor& executor);
  StatusOr<bool> Gather(ApplyCall& call, Executor& executor);
  void Abandon();
  // Keeps the buffers of an apply call for the next one, unless they are large beside the cache.
  void KeepBuffers();
  Status Load(const Storage& storage, const ApplyCall& call, Executor& executor);
  Status Admit(ApplyCall& call, Executor& executor);
  Status LoadRow(const RowToLoad& missing, std::optional<std::string_view> stored, const ApplyCall& call);
  Status Log(ApplyCall& call);
  void Update(ApplyCall& call, Executor& executor);
  Status AwaitDurable(Storage& storage, uint64_t lsn);

  // ---- apply in parts ----
  struct LoggedCall;
  StatusOr<ApplyResult> ApplyInParts(Storage& storage, Span<const uint64_t> keys,
                                     const GradientRows& gradients, const ApplyOptions& options,
                                     Executor& executor);
  StatusOr<std::string> MakeRecord(const Storage& storage, Span<const uint64_t> keys,
                                   const GradientRows& gradients, const ApplyOptions& options,
                                   ApplyRecordHeader& header, ApplyResult* result);
  Status SetNextNumbers(const Storage& storage, Span<const uint64_t> keys, int64_t now_millis,
                        std::string& rows) const;
  std::string AdmitRecorded(const std::vector<CountedKey>& keys, std::string* rows, ApplyRecordHeader& header,
                            ApplyResult* result) const;
  void SetUnfinished(std::shared_ptr<LoggedCall> call);
  Status GoOn(Storage& storage, Executor& executor);
  Status FinishUnfinished(Storage& storage);
  Status ApplyLogged(Storage& storage, LoggedCall& call, Executor& executor);
  Status CountRecorded(const ApplyRecord& record);
  Status ApplyParts(Storage& storage, LoggedCall& call, Executor& executor);
  StatusOr<bool> ApplyPart(Storage& storage, LoggedCall& logged, uint64_t num_rows, Executor& executor);
  void SetRecorded(Span<const uint64_t> numbers);

  const Shared shared_;
  const std::unique_ptr<RowCache> cache_;  // its content changes in const calls, too

  std::mutex apply_mutex_;               // held through an apply call; guards what follows
  std::shared_ptr<GroupFilter> filter_;  // null: none, or not loaded; see LoadFilter()
  mutable std::mutex filter_mutex_;  // beside apply_mutex_, for those who set filter_ and those who only look
  KeyPartition partition_;
  std::vector<ShardUpdate> updates_;      // of each shard
  std::atomic<int64_t> buffer_bytes_{0};  // of these; anyone may look
  // The record of a call that is being applied in parts: until it is done its rows are not all in the cache.
  struct OpenRecord {
    uint64_t lsn;
    int64_t time_millis;
  };
  std::optional<OpenRecord> open_record_;
  // Its call, null: none; one that failed half-way stays until it is finished. Also guarded by
  // unfinished_mutex_, for readers.
  std::shared_ptr<LoggedCall> unfinished_;
  FullFilterWarning full_filter_warning_;
  std::set<uint64_t> replay_gaps_;  // keys whose rows lack an update, unless a later record begins them anew

  mutable std::mutex unfinished_mutex_;
  std::atomic<bool> stalled_{false};   // unfinished_ has failed half-way
  std::atomic<int64_t> flushed_step_;  // the global step as of the last flush
};

}  // namespace damo

#endif  // DAMO_TABLE_CACHED_TABLE_H_
