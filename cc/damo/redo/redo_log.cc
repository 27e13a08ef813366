// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/redo_log.h"

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>
#include <utility>
#include <vector>

#include "damo/base/catch_exceptions.h"
#include "damo/base/warning.h"
#include "damo/redo/boot_mark.h"
#include "damo/redo/log_file_system.h"
#include "damo/redo/redo_format.h"
#include "damo/redo/redo_reader.h"
#include "damo/redo/segment_writer.h"

namespace damo {
namespace {

// A segment, and how much of it survives loss of power.
struct Segment {
  Segment(LogFileSystem* file_system, const std::string& directory, uint64_t first_lsn)
      : writer(file_system, directory, first_lsn), synced_lsn(first_lsn) {}

  SegmentWriter writer;
  uint64_t synced_lsn;  // the records before this one do
};

// Locks are taken in the order of their declaration. Of the slow calls only writev(2), and what undoes it, is
// made under mutex_: the order of LSNs is the order of the bytes.
class SegmentedRedoLog final : public RedoLog {
 public:
  SegmentedRedoLog(const Options& options, uint64_t next_lsn, LogFileSystem* file_system)
      : directory_(options.directory),
        segment_bytes_(options.segment_bytes),
        file_system_(file_system),
        durable_lsn_(options.first_lsn),
        next_lsn_(next_lsn) {}

  // For the segments that stand; before all else.
  Status Adopt(const std::vector<SegmentExtent>& segments);

  StatusOr<uint64_t> Append(Span<const std::string_view> pieces) override;
  Status Sync(uint64_t lsn) override;
  Status Trim(uint64_t lsn) override;
  Status failure() const override;
  Status Renew(Span<const std::string_view> records,
               const std::function<Status(uint64_t first_lsn)>& commit) override;
  uint64_t next_lsn() const override { return next_lsn_.load(); }
  uint64_t bytes() const override { return bytes_.load(); }

 private:
  using SegmentPtr = std::shared_ptr<Segment>;

  // What must be synced for every record before `end_lsn` to be durable.
  struct Unsynced {
    uint64_t end_lsn;
    std::vector<std::pair<SegmentPtr, uint64_t>> segments;  // with its end LSN
    uint64_t names_made;
    bool names_unsynced;
  };

  // These five require mutex_.
  StatusOr<uint64_t> AppendFrame(Frame* frame);
  Status RepairCurrent();
  Status EnsureCurrent();
  Status UndoCurrent(const Status& cause);
  void DropCurrentIfEmpty();

  // Runs `sync`, after which all before `*end_lsn` is durable, while others wait.
  Status Lead(std::unique_lock<std::mutex>* sync_lock, const std::function<Status(uint64_t* end_lsn)>& sync);
  Status SyncAll(uint64_t* end_lsn);
  Status RenewAll(Span<const std::string_view> records,
                  const std::function<Status(uint64_t first_lsn)>& commit, uint64_t* end_lsn);
  StatusOr<uint64_t> GiveUpSegments();
  Unsynced FindUnsynced();
  void MarkSynced(const Unsynced& done);
  std::vector<SegmentPtr> EndSegmentsBefore(uint64_t lsn);
  Status CheckLsn(std::string_view action, uint64_t lsn) const;

  // Ends the log, and says so.
  Status Fail(const Status& cause);

  const std::string directory_;
  const uint64_t segment_bytes_;
  LogFileSystem* const file_system_;

  std::mutex trim_mutex_;         // one Trim() at a time
  bool deletions_synced_ = true;  // guarded by trim_mutex_

  std::mutex sync_mutex_;  // guards the next two; durable_lsn_ is written under it
  std::condition_variable synced_;
  bool syncing_ = false;               // a leader is at it
  std::atomic<uint64_t> durable_lsn_;  // every record before it survives loss of power

  std::mutex mutex_;                 // guards the next five; the atomics are written under it
  std::deque<SegmentPtr> segments_;  // those that stand, oldest first; none is empty between calls
  SegmentPtr current_;               // the last of them if it is appended to; else the next record begins one
  uint64_t names_made_ = 0;          // segments created or adopted so far
  uint64_t names_synced_ = 0;        // of these, those whose names survive loss of power
  std::atomic<uint64_t> next_lsn_;
  std::atomic<uint64_t> bytes_{0};

  std::atomic<bool> failed_{false};   // spares the mutex; written under it
  mutable std::mutex failure_mutex_;  // guards failure_
  Status failure_;
};

// Every state on the way is one that reads the same: later segments go before earlier ones. Deletions must be
// durable before a new segment can stand where a deleted one did; a cut need not be, as what is behind the
// last record does no harm once a segment with the next record follows.
Status SegmentedRedoLog::Adopt(const std::vector<SegmentExtent>& segments) {
  auto unused = segments.end();
  for (; unused != segments.begin() && (unused - 1)->end_lsn == (unused - 1)->first_lsn; --unused) {
    SegmentWriter writer(file_system_, directory_, (unused - 1)->first_lsn);
    DAMO_RETURN_IF_ERROR(writer.Remove());
  }
  if (unused != segments.end() && file_system_->SyncDirectory(directory_) != 0) {
    return LogFileError("sync directory", directory_);
  }
  for (auto extent = segments.begin(); extent != unused; ++extent) {
    segments_.push_back(std::make_shared<Segment>(file_system_, directory_, extent->first_lsn));
    DAMO_RETURN_IF_ERROR(segments_.back()->writer.Adopt(extent->end_lsn, extent->bytes));
    bytes_ += extent->bytes;
    ++names_made_;
  }
  return Status();
}

StatusOr<uint64_t> SegmentedRedoLog::Append(Span<const std::string_view> pieces) {
  Frame frame(pieces);
  std::lock_guard lock(mutex_);
  DAMO_RETURN_IF_ERROR(failure());
  return AppendFrame(&frame);
}

StatusOr<uint64_t> SegmentedRedoLog::AppendFrame(Frame* frame) {
  DAMO_RETURN_IF_ERROR(RepairCurrent());
  DAMO_RETURN_IF_ERROR(EnsureCurrent());
  const Status appended = current_->writer.Append(frame, durable_lsn_.load());
  if (!appended.ok()) return UndoCurrent(appended);
  bytes_ += frame->bytes();
  return next_lsn_++;
}

// Does what an exception has kept an earlier call from doing.
Status SegmentedRedoLog::RepairCurrent() {
  if (current_ == nullptr || !current_->writer.torn()) return Status();
  const Status undone = current_->writer.Undo();
  DropCurrentIfEmpty();
  return undone.ok() ? undone : Fail(undone);
}

Status SegmentedRedoLog::EnsureCurrent() {
  if (current_ != nullptr && current_->writer.bytes() < segment_bytes_) return Status();
  segments_.push_back(std::make_shared<Segment>(file_system_, directory_, next_lsn_.load()));
  current_ = segments_.back();
  const Status created = current_->writer.Create();
  if (!created.ok()) return UndoCurrent(created);
  bytes_ += current_->writer.bytes();
  ++names_made_;
  return Status();
}

Status SegmentedRedoLog::UndoCurrent(const Status& cause) {
  const Status undone = current_->writer.Undo();
  DropCurrentIfEmpty();
  if (undone.ok()) return cause;
  return Fail(cause.WithContext(undone.message()));
}

void SegmentedRedoLog::DropCurrentIfEmpty() {
  if (!current_->writer.empty()) return;
  bytes_ -= current_->writer.bytes();
  segments_.pop_back();
  current_ = nullptr;
}

// Leader and followers: who finds nobody at it syncs all there is, for everybody; who comes meanwhile waits,
// because the leader may have begun before his record was there, and looks again.
Status SegmentedRedoLog::Sync(uint64_t lsn) {
  DAMO_RETURN_IF_ERROR(CheckLsn("sync", lsn));
  std::unique_lock lock(sync_mutex_);
  while (true) {
    DAMO_RETURN_IF_ERROR(failure());
    if (lsn <= durable_lsn_) return Status();
    if (syncing_) {
      synced_.wait(lock);
    } else {
      DAMO_RETURN_IF_ERROR(Lead(&lock, [this](uint64_t* end_lsn) { return SyncAll(end_lsn); }));
    }
  }
}

// Requires sync_mutex_, and that nobody is at it; lets go of the mutex meanwhile.
Status SegmentedRedoLog::Lead(std::unique_lock<std::mutex>* sync_lock,
                              const std::function<Status(uint64_t* end_lsn)>& sync) {
  syncing_ = true;
  sync_lock->unlock();
  uint64_t end_lsn = 0;
  Status status = CatchExceptions([&] { return sync(&end_lsn); });  // followers wait for the end
  sync_lock->lock();
  syncing_ = false;
  if (status.ok()) durable_lsn_ = end_lsn;
  synced_.notify_all();
  return status;
}

Status SegmentedRedoLog::SyncAll(uint64_t* end_lsn) {
  const Unsynced unsynced = FindUnsynced();
  for (const auto& [segment, segment_end] : unsynced.segments) {
    const Status status = segment->writer.Sync();
    if (!status.ok()) return Fail(status);
  }
  if (unsynced.names_unsynced && file_system_->SyncDirectory(directory_) != 0) {
    return Fail(LogFileError("sync directory", directory_));
  }
  MarkSynced(unsynced);
  *end_lsn = unsynced.end_lsn;
  return Status();
}

SegmentedRedoLog::Unsynced SegmentedRedoLog::FindUnsynced() {
  std::lock_guard lock(mutex_);
  Unsynced unsynced{next_lsn_.load(), {}, names_made_, names_made_ > names_synced_};
  for (const SegmentPtr& segment : segments_) {
    const uint64_t end_lsn = segment->writer.end_lsn();
    if (segment->synced_lsn < end_lsn) unsynced.segments.emplace_back(segment, end_lsn);
  }
  return unsynced;
}

void SegmentedRedoLog::MarkSynced(const Unsynced& done) {
  std::lock_guard lock(mutex_);
  for (const auto& [segment, end_lsn] : done.segments) segment->synced_lsn = end_lsn;
  names_synced_ = done.names_made;
}

// Oldest first, so that what is left after a crash has no gap.
Status SegmentedRedoLog::Trim(uint64_t lsn) {
  DAMO_RETURN_IF_ERROR(CheckLsn("trim", lsn));
  std::lock_guard trim_lock(trim_mutex_);
  for (const SegmentPtr& segment : EndSegmentsBefore(lsn)) {
    DAMO_RETURN_IF_ERROR(segment->writer.Remove());
    deletions_synced_ = false;
    std::lock_guard lock(mutex_);
    bytes_ -= segment->writer.bytes();
    segments_.pop_front();  // that one: only Trim() takes from the front
  }
  if (deletions_synced_) return Status();
  if (file_system_->SyncDirectory(directory_) != 0) return LogFileError("sync directory", directory_);
  deletions_synced_ = true;
  return Status();
}

// Segments all of whose records are before `lsn`. They are no longer appended to.
std::vector<SegmentedRedoLog::SegmentPtr> SegmentedRedoLog::EndSegmentsBefore(uint64_t lsn) {
  std::lock_guard lock(mutex_);
  std::vector<SegmentPtr> ended;
  for (const SegmentPtr& segment : segments_) {
    if (segment->writer.end_lsn() > lsn) break;
    ended.push_back(segment);
    if (segment == current_) current_ = nullptr;
  }
  return ended;
}

// As a leader: nobody syncs what is being given up.
Status SegmentedRedoLog::Renew(Span<const std::string_view> records,
                               const std::function<Status(uint64_t first_lsn)>& commit) {
  std::unique_lock lock(sync_mutex_);
  synced_.wait(lock, [this] { return !syncing_; });
  return Lead(&lock, [&](uint64_t* end_lsn) { return RenewAll(records, commit, end_lsn); });
}

Status SegmentedRedoLog::RenewAll(Span<const std::string_view> records,
                                  const std::function<Status(uint64_t first_lsn)>& commit,
                                  uint64_t* end_lsn) {
  DAMO_ASSIGN_OR_RETURN(const uint64_t first_lsn, GiveUpSegments());
  for (const std::string_view record : records) {
    Frame frame(Span<const std::string_view>(&record, 1));
    std::lock_guard lock(mutex_);
    DAMO_RETURN_IF_ERROR(AppendFrame(&frame).status());
  }
  if (!records.empty()) DAMO_RETURN_IF_ERROR(SyncAll(end_lsn));
  DAMO_RETURN_IF_ERROR(commit(first_lsn));
  // Before records follow: behind a segment of which something is missing they would be taken for lost.
  DAMO_RETURN_IF_ERROR(Trim(first_lsn));
  *end_lsn = next_lsn_;
  std::lock_guard lock(failure_mutex_);
  failure_ = Status();
  failed_ = false;
  return Status();
}

// Nobody appends to those that stand any more, or syncs them. Returns the LSN that follows.
StatusOr<uint64_t> SegmentedRedoLog::GiveUpSegments() {
  std::lock_guard lock(mutex_);
  if (current_ != nullptr) DropCurrentIfEmpty();
  current_ = nullptr;
  for (const SegmentPtr& segment : segments_) segment->synced_lsn = segment->writer.end_lsn();
  // There may be one without a record, which could not be deleted.
  SegmentWriter next(file_system_, directory_, next_lsn_.load());
  DAMO_RETURN_IF_ERROR(next.Remove());
  return next_lsn_.load();
}

Status SegmentedRedoLog::CheckLsn(std::string_view action, uint64_t lsn) const {
  const uint64_t next_lsn = next_lsn_.load();
  if (lsn <= next_lsn) return Status();
  return InvalidArgument(action, " redo log '", directory_, "' before LSN ", lsn, ": its next record is ",
                         next_lsn);
}

Status SegmentedRedoLog::Fail(const Status& cause) {
  std::lock_guard lock(failure_mutex_);
  if (failed_) return cause;
  failure_ = cause.WithContext(StrCat("redo log '", directory_, "' takes no more records"));
  failed_ = true;
  return failure_;
}

Status SegmentedRedoLog::failure() const {
  if (!failed_) return Status();
  std::lock_guard lock(failure_mutex_);
  return failure_;
}

// What is given up could not be replayed: what came before it is missing.
void WarnOfGivenUp(const std::string& directory, const RedoExtent& extent) {
  const RedoGivenUp& given_up = extent.given_up;
  Warn(StrCat("redo log '", directory, "': the machine has restarted since it was written, and record ",
              extent.end_lsn, " did not reach the disk (", given_up.place, "): this and what follows it, ",
              given_up.num_bytes, " bytes in ", given_up.num_segments,
              given_up.num_segments == 1 ? " segment" : " segments",
              ", are lost. Apply calls that are lost so had been acknowledged, but not synced: only "
              "durability \"sync\" survives loss of power (docs/redo_format.md)"));
}

// The directory that holds the name of `directory`.
std::string ParentOf(const std::string& directory) {
  const std::filesystem::path path(directory);
  const std::filesystem::path parent =
      path.has_filename() ? path.parent_path() : path.parent_path().parent_path();
  return parent.empty() ? "." : parent.string();
}

}  // namespace

StatusOr<std::unique_ptr<RedoLog>> OpenRedoLog(const RedoLog::Options& options) {
  LogFileSystem* const file_system =
      options.file_system != nullptr ? options.file_system : LogFileSystem::Posix();
  const std::string& directory = options.directory;
  if (file_system->MakeDirectory(directory) != 0) return LogFileError("create directory", directory);
  if (file_system->SyncDirectory(ParentOf(directory)) != 0) {
    return LogFileError("sync directory", ParentOf(directory));
  }
  const std::string boot_id = file_system->BootId();
  const auto read_only = [](uint64_t, std::string_view) { return Status(); };
  DAMO_ASSIGN_OR_RETURN(const RedoExtent extent,
                        ScanRedoLog(file_system, directory, options.first_lsn,
                                    MayHaveLostPower(directory, boot_id), read_only));
  if (extent.given_up.num_segments > 0) WarnOfGivenUp(directory, extent);
  auto log = std::make_unique<SegmentedRedoLog>(options, extent.end_lsn, file_system);
  DAMO_RETURN_IF_ERROR(log->Adopt(extent.segments));
  DAMO_RETURN_IF_ERROR(MarkBoot(file_system, directory, boot_id));
  return std::unique_ptr<RedoLog>(std::move(log));
}

}  // namespace damo
