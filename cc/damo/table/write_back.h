// SPDX-License-Identifier: Apache-2.0
//
// WriteBack: brings rows that are newer in the caches than in the storage there: in the background, when they
// have become many, and on demand. One for each open store.
#ifndef DAMO_TABLE_WRITE_BACK_H_
#define DAMO_TABLE_WRITE_BACK_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "damo/base/status.h"
#include "damo/cache/row_shard.h"
#include "damo/redo/redo_log.h"
#include "damo/storage/storage.h"
#include "damo/table/group_filter.h"
#include "damo/table/manifest.h"
#include "damo/table/store_session.h"

namespace damo {

// A cached table as a flush sees it. The calls are made in this order, by one flush at a time.
class WriteBackSource {
 public:
  // What the rows of a table are as of the beginning of a flush. Rows that are copied later may be newer: the
  // redo log is replayed so that this does no harm.
  struct Snapshot {
    GroupState state;
    uint64_t redo_lsn = 0;                // every record of the table before it is in the rows
    std::shared_ptr<GroupFilter> filter;  // null: none
    std::vector<RowShard::DirtyRow> dirty_rows;
    size_t num_copied = 0;  // of dirty_rows, from the first on
    // Rows last updated then or earlier may be released (Storage::ReleaseRows()) once the snapshot is in the
    // storage; nullopt: none may. No record at or after redo_lsn goes on from one of them.
    std::optional<int64_t> release_time;
  };

  virtual ~WriteBackSource() = default;
  virtual int source_group() const = 0;
  // Finishes an apply call that is in the log and failed half-way, if there is one. Requires the flush mutex,
  // and takes apply_mutex(). On failure it can be tried again.
  virtual Status FinishCall(Storage& storage) = 0;
  virtual size_t row_bytes() const = 0;
  virtual int64_t num_dirty_rows() const = 0;
  // Apply calls wait while it is held.
  virtual std::mutex& apply_mutex() = 0;
  // Requires apply_mutex(). If it throws, nothing has begun.
  virtual Snapshot BeginFlush(uint8_t flush_number) = 0;
  // Copies the next rows of the snapshot, `num_rows` of them, each as it is now, in its stored form, and
  // calls `visit` with them.
  virtual Status CopyRows(Snapshot& snapshot, size_t num_rows, uint8_t flush_number,
                          const std::function<Status(uint64_t key, std::string_view row)>& visit) = 0;
  // The rows copied are in the storage, or are not: then they are dirty again. Returns how many of them apply
  // calls had made dirty since they were copied.
  virtual int64_t EndFlush(const Snapshot& snapshot, uint8_t flush_number, bool in_storage) = 0;

  // For a log that has failed; these two require apply_mutex(). The record of a call that is in the log and
  // has not come to its end, nullopt if there is none; the bytes stay until it has. Fails while the log is
  // being replayed: then it holds more than memory does.
  virtual StatusOr<std::optional<std::string_view>> HalfDoneRecord() const = 0;
  // That record is in the log as `lsn` now.
  virtual void SetHalfDoneLsn(uint64_t lsn) = 0;
};

// Thread-safe. Lock order: flush mutex, apply mutexes by group, locks of the caches.
class WriteBack {
 public:
  struct Options {
    int64_t cache_bytes = 0;  // limit of all row caches
    uint64_t redo_bytes = 0;  // the log is not to grow much beyond this
    // Without redo records a flush is all that survives: it then holds apply calls off, so that it is of one
    // moment.
    bool at_one_moment = false;
  };

  // `log` and `session` are borrowed and outlive it. Null: in a read-only store, where what is replayed goes
  // to a storage of its own, which takes rows only. There Flush() and FlushLocked() are the calls to be made.
  WriteBack(const Options& options, const StoreSession& session, RedoLog* log);
  // Stops the background thread. Flushes nothing.
  ~WriteBack();
  WriteBack(const WriteBack&) = delete;
  WriteBack& operator=(const WriteBack&) = delete;

  // `source` stays until this goes.
  void AddSource(WriteBackSource* source);
  // Starts flushing in the background.
  void Start();
  // Ends it; waits for a flush under way.
  void Stop();

  // Returns when all that was applied before is in the storage and survives power loss, calls that failed
  // half-way included: those are finished first. If one cannot be, everything else is flushed all the same.
  // The caller has leave to use `storage` and holds no apply mutex.
  //
  // A log that has failed is no obstacle, for this and every other flush: what it was to hold is in memory.
  // All of it is brought into the storage, at one moment, and the log begins anew (RedoLog::Renew()).
  Status Flush(Storage& storage);

  // As Flush(), but finishes no call: makes rows clean, so that there is room for others.
  Status FlushRows(Storage& storage);

  // See WriteBackSource::FinishCall(). The caller is as for Flush().
  Status FinishCall(Storage& storage, const WriteBackSource* source);

  // Brings everything into the storage, and calls `then` at that moment: until it returns no apply call runs
  // or is half done, no row is newer in memory than in the storage, and the log is empty. Most rows are
  // written before apply calls have to wait. The caller is as for Flush().
  Status FlushAndHold(Storage& storage, const std::function<Status()>& then);

  // Calls `then` while no flush and no apply call runs. It replaces what the storage has and has every table
  // begin anew: rows that are newer in memory are never written. `new_sources` become sources if it succeeds.
  Status Replace(const std::vector<WriteBackSource*>& new_sources, const std::function<Status()>& then);

  // For a call that must flush while it holds its own apply mutex: takes the flush mutex before that ...
  std::unique_lock<std::mutex> LockFlush() { return std::unique_lock<std::mutex>(flush_mutex_); }
  // ... and then flushes. `holder` is the table whose apply mutex is held.
  Status FlushLocked(Storage& storage, const WriteBackSource* holder) {
    return FlushLocked(storage, [holder](const WriteBackSource& source) { return &source == holder; });
  }

  // Back-pressure: called before an apply call takes its mutex. Flushes if dirty rows or log have outgrown
  // what the background keeps up with, or the log has failed, and fails if that fails.
  Status MakeRoom(Storage& storage);
  // Called after an apply call: notes rows that have become dirty, and wakes the background if it is time.
  void NoteDirty(int64_t num_rows, size_t row_bytes);

  // Until a flush has begun it anew.
  bool LogHasFailed() const { return log_ != nullptr && !log_->failure().ok(); }

  int64_t num_flushes() const { return num_flushes_; }

 private:
  struct Part {
    WriteBackSource* source;
    WriteBackSource::Snapshot snapshot;
  };
  // Whether the caller holds the apply mutex of a table.
  using IsHeld = std::function<bool(const WriteBackSource& source)>;
  enum class LogUse { kSync, kRenew };

  // These require flush_mutex_.
  void AddSourceLocked(WriteBackSource* source);
  std::vector<std::unique_lock<std::mutex>> LockApplies();
  int64_t CountDirtyBytes() const;
  bool Due() const;
  bool Overdue() const;
  void Serve();
  Status FinishCalls(Storage& storage);
  Status FlushLocked(Storage& storage, const IsHeld& is_held);
  Status TryFlush(Storage& storage, const IsHeld& is_held, LogUse log_use);
  Status BeginAndWrite(Storage& storage, const IsHeld& is_held, LogUse log_use, std::vector<Part>& parts);
  Status WriteRows(Part& part, SortedBatch& batch);
  Status PutStates(const std::vector<Part>& parts, SortedBatch& batch) const;
  Status Commit(SortedBatch& batch, const std::vector<Part>& parts);
  Status CommitAndRenewLog(SortedBatch& batch);

  const Options options_;
  const StoreSession& session_;
  RedoLog* const log_;

  std::mutex flush_mutex_;  // held through a flush; guards what follows
  std::vector<WriteBackSource*> sources_;
  uint8_t flush_number_ = 0;

  std::atomic<int64_t> dirty_bytes_{0};
  std::atomic<int64_t> num_flushes_{0};

  std::mutex wake_mutex_;  // guards stopping_
  std::condition_variable wake_;
  bool stopping_ = false;
  std::mutex thread_mutex_;  // guards thread_
  std::thread thread_;
};

}  // namespace damo

#endif  // DAMO_TABLE_WRITE_BACK_H_
