// SPDX-License-Identifier: Apache-2.0
#include "damo/table/write_back.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "damo/base/catch_exceptions.h"
#include "damo/base/idle_memory.h"

namespace damo {
namespace {

// Rows copied under one taking of a cache's lock: apply calls wait that long.
constexpr size_t kRowsPerCopy = 512;

// After a flush that failed the background waits before the next try. Apply calls flush for themselves when
// they need to, so nothing waits for this.
constexpr std::chrono::seconds kRetryDelay(1);

}  // namespace

WriteBack::WriteBack(const Options& options, const StoreSession& session, RedoLog* log)
    : options_(options), session_(session), log_(log) {}

WriteBack::~WriteBack() { Stop(); }

void WriteBack::AddSource(WriteBackSource* source) {
  const std::lock_guard<std::mutex> lock(flush_mutex_);
  AddSourceLocked(source);
}

void WriteBack::AddSourceLocked(WriteBackSource* source) {
  sources_.push_back(source);
  std::sort(sources_.begin(), sources_.end(), [](const WriteBackSource* a, const WriteBackSource* b) {
    return a->source_group() < b->source_group();
  });
}

void WriteBack::Start() {
  const std::lock_guard<std::mutex> lock(thread_mutex_);
  thread_ = std::thread([this] { Serve(); });
}

void WriteBack::Stop() {
  {
    const std::lock_guard<std::mutex> lock(wake_mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  const std::lock_guard<std::mutex> lock(thread_mutex_);
  if (thread_.joinable()) thread_.join();
}

// A third of the cache may be dirty before the background begins: rows that are updated again and again are
// then written once, and the rest leaves room while it works.
bool WriteBack::Due() const {
  return dirty_bytes_ > options_.cache_bytes / 3 || log_->bytes() > options_.redo_bytes || LogHasFailed();
}

bool WriteBack::Overdue() const {
  return dirty_bytes_ > options_.cache_bytes / 4 * 3 || log_->bytes() > 2 * options_.redo_bytes ||
         LogHasFailed();
}

void WriteBack::NoteDirty(int64_t num_rows, size_t row_bytes) {
  dirty_bytes_ += num_rows * static_cast<int64_t>(row_bytes);
  if (log_ != nullptr && Due()) wake_.notify_one();
}

Status WriteBack::MakeRoom(Storage& storage) {
  if (!Overdue()) return Status();
  const std::unique_lock<std::mutex> lock = LockFlush();
  return Overdue() ? FlushLocked(storage, nullptr) : Status();
}

// What the background thread does.
void WriteBack::Serve() {
  std::unique_lock<std::mutex> lock(wake_mutex_);
  while (!stopping_) {
    wake_.wait(lock, [this] { return stopping_ || Due(); });
    if (stopping_) return;
    lock.unlock();
    const Status status = CatchExceptions([this]() -> Status {
      DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_.BeginWrite());
      const std::unique_lock<std::mutex> flush_lock = LockFlush();
      return Due() ? FlushLocked(*storage, nullptr) : Status();
    });
    // As often as a third of the cache becomes dirty: rarely enough.
    ReleaseIdleMemory();
    lock.lock();
    // Whoever waits for room tries again and is told; nobody else is affected.
    if (!status.ok()) wake_.wait_for(lock, kRetryDelay, [this] { return stopping_; });
  }
}

Status WriteBack::Flush(Storage& storage) {
  const std::unique_lock<std::mutex> lock = LockFlush();
  Status finished = FinishCalls(storage);
  DAMO_RETURN_IF_ERROR(FlushLocked(storage, nullptr));
  return finished;
}

Status WriteBack::FlushRows(Storage& storage) {
  const std::unique_lock<std::mutex> lock = LockFlush();
  return FlushLocked(storage, nullptr);
}

Status WriteBack::FinishCall(Storage& storage, const WriteBackSource* source) {
  const std::unique_lock<std::mutex> lock = LockFlush();
  for (WriteBackSource* const own : sources_) {
    if (own == source) return own->FinishCall(storage);
  }
  return Status();
}

// Of all tables, whatever becomes of one. Returns the first failure.
Status WriteBack::FinishCalls(Storage& storage) {
  Status first_failure;
  for (WriteBackSource* const source : sources_) {
    Status status = source->FinishCall(storage);
    if (first_failure.ok()) first_failure = std::move(status);
  }
  return first_failure;
}

Status WriteBack::FlushAndHold(Storage& storage, const std::function<Status()>& then) {
  const std::unique_lock<std::mutex> lock = LockFlush();
  DAMO_RETURN_IF_ERROR(FinishCalls(storage));
  DAMO_RETURN_IF_ERROR(FlushLocked(storage, nullptr));
  // Calls that begin meanwhile cannot fail half-way: that takes the flush mutex.
  const std::vector<std::unique_lock<std::mutex>> apply_locks = LockApplies();
  DAMO_RETURN_IF_ERROR(FlushLocked(storage, [](const WriteBackSource& /*source*/) { return true; }));
  return then();
}

Status WriteBack::Replace(const std::vector<WriteBackSource*>& new_sources,
                          const std::function<Status()>& then) {
  const std::unique_lock<std::mutex> lock = LockFlush();
  sources_.reserve(sources_.size() + new_sources.size());  // what is replaced needs them
  const std::vector<std::unique_lock<std::mutex>> apply_locks = LockApplies();
  const int64_t dirty_bytes = CountDirtyBytes();
  DAMO_RETURN_IF_ERROR(then());
  for (WriteBackSource* const source : new_sources) AddSourceLocked(source);
  dirty_bytes_ -= dirty_bytes;  // not 0: a call may be about to note what it has changed
  return Status();
}

std::vector<std::unique_lock<std::mutex>> WriteBack::LockApplies() {
  std::vector<std::unique_lock<std::mutex>> locks;
  locks.reserve(sources_.size());
  for (WriteBackSource* const source : sources_) locks.emplace_back(source->apply_mutex());
  return locks;
}

int64_t WriteBack::CountDirtyBytes() const {
  int64_t dirty_bytes = 0;
  for (const WriteBackSource* const source : sources_) {
    dirty_bytes += source->num_dirty_rows() * static_cast<int64_t>(source->row_bytes());
  }
  return dirty_bytes;
}

Status WriteBack::FlushLocked(Storage& storage, const IsHeld& is_held) {
  DAMO_RETURN_IF_ERROR(session_.CheckStillWriting());
  if (!LogHasFailed()) {
    Status status = TryFlush(storage, is_held, LogUse::kSync);
    if (status.ok() || !LogHasFailed()) return status;
  }
  const Status failure = log_->failure();
  return TryFlush(storage, is_held, LogUse::kRenew)
      .WithContext(StrCat("do without the redo log, which has failed (", failure.message(), ")"));
}

Status WriteBack::TryFlush(Storage& storage, const IsHeld& is_held, LogUse log_use) {
  flush_number_ = flush_number_ == UINT8_MAX ? 1 : flush_number_ + 1;
  std::vector<Part> parts;
  parts.reserve(sources_.size());  // a part that has begun must not get lost for want of memory
  Status status = CatchExceptions([&] { return BeginAndWrite(storage, is_held, log_use, parts); });
  for (const Part& part : parts) {
    const int64_t num_dirty_again = part.source->EndFlush(part.snapshot, flush_number_, status.ok());
    // Counted when they became dirty. In a flush that failed those that did so twice have been counted twice.
    const int64_t num_settled =
        status.ok() ? static_cast<int64_t>(part.snapshot.dirty_rows.size()) : num_dirty_again;
    dirty_bytes_ -= num_settled * static_cast<int64_t>(part.source->row_bytes());
  }
  if (!status.ok()) return status;
  for (const Part& part : parts) {
    // Not before: until the flush is in the storage a crash brings back records that may need such rows.
    if (part.snapshot.release_time) {
      storage.ReleaseRows(static_cast<uint8_t>(part.source->source_group()), *part.snapshot.release_time);
    }
  }
  ++num_flushes_;
  return status;
}

Status WriteBack::BeginAndWrite(Storage& storage, const IsHeld& is_held, LogUse log_use,
                                std::vector<Part>& parts) {
  const bool at_one_moment = options_.at_one_moment || log_use == LogUse::kRenew;
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, storage.NewSortedBatch());
  std::vector<std::unique_lock<std::mutex>> apply_locks;
  for (WriteBackSource* const pointer : sources_) {
    WriteBackSource& source = *pointer;
    if (!is_held(source)) apply_locks.emplace_back(source.apply_mutex());
    parts.push_back({&source, source.BeginFlush(flush_number_)});
    // Unlike rows, counts do not tell what they hold already: they must be of the snapshot's very step.
    GroupFilter* const filter = parts.back().snapshot.filter.get();
    if (filter != nullptr) DAMO_RETURN_IF_ERROR(filter->PutChangedPages(*batch));
    if (!at_one_moment) apply_locks.clear();
  }
  if (log_ != nullptr) DAMO_RETURN_IF_ERROR(PutStates(parts, *batch));
  for (Part& part : parts) DAMO_RETURN_IF_ERROR(WriteRows(part, *batch));
  return log_use == LogUse::kRenew ? CommitAndRenewLog(*batch) : Commit(*batch, parts);
}

Status WriteBack::WriteRows(Part& part, SortedBatch& batch) {
  std::vector<RowShard::DirtyRow>& rows = part.snapshot.dirty_rows;
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  const auto group = static_cast<uint8_t>(part.source->source_group());
  while (part.snapshot.num_copied < rows.size()) {
    const size_t num_rows = std::min(kRowsPerCopy, rows.size() - part.snapshot.num_copied);
    DAMO_RETURN_IF_ERROR(part.source->CopyRows(
        part.snapshot, num_rows, flush_number_,
        [&](uint64_t key, std::string_view row) { return batch.PutRow(group, key, row); }));
  }
  return Status();
}

// All but the rows. At one moment with the parts if apply calls are held off.
Status WriteBack::PutStates(const std::vector<Part>& parts, SortedBatch& batch) const {
  if (session_.clock().is_event_clock()) {
    DAMO_RETURN_IF_ERROR(PutEventTime(session_.clock().NowMillis(), batch));
  }
  for (const Part& part : parts) {
    const int group = part.source->source_group();
    DAMO_RETURN_IF_ERROR(PutGroupState(group, part.snapshot.state, batch));
    if (part.snapshot.release_time) DAMO_RETURN_IF_ERROR(PutReleased(group, batch));
  }
  return Status();
}

Status WriteBack::Commit(SortedBatch& batch, const std::vector<Part>& parts) {
  if (log_ == nullptr) return batch.Commit();
  // What the rows hold must not be ahead of what the log holds, not even after loss of power.
  const uint64_t end = log_->next_lsn();
  uint64_t redo_lsn = end;
  for (const Part& part : parts) redo_lsn = std::min(redo_lsn, part.snapshot.redo_lsn);
  DAMO_RETURN_IF_ERROR(log_->Sync(end));
  DAMO_RETURN_IF_ERROR(PutRedoLsn(redo_lsn, batch));
  DAMO_RETURN_IF_ERROR(batch.Commit());
  return log_->Trim(redo_lsn);
}

// At one moment: rows and records of calls that are half done are then all there is, and what the log held
// before is not needed.
Status WriteBack::CommitAndRenewLog(SortedBatch& batch) {
  std::vector<std::string_view> records;
  std::vector<WriteBackSource*> their_sources;
  for (WriteBackSource* const source : sources_) {
    DAMO_ASSIGN_OR_RETURN(const std::optional<std::string_view> record, source->HalfDoneRecord());
    if (!record) continue;
    records.push_back(*record);
    their_sources.push_back(source);
  }
  uint64_t lsn = 0;
  DAMO_RETURN_IF_ERROR(log_->Renew(records, [&](uint64_t first_lsn) -> Status {
    lsn = first_lsn;
    DAMO_RETURN_IF_ERROR(PutRedoLsn(first_lsn, batch));
    return batch.Commit();
  }));
  for (WriteBackSource* const source : their_sources) source->SetHalfDoneLsn(lsn++);
  return Status();
}

}  // namespace damo
