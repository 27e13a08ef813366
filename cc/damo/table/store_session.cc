// SPDX-License-Identifier: Apache-2.0
#include "damo/table/store_session.h"

#include <unistd.h>

namespace damo {

StoreSession::StoreSession(Settings settings, std::unique_ptr<Storage> storage)
    : settings_(std::move(settings)),
      clock_(settings_.clock, settings_.event_millis),
      pid_(getpid()),
      storage_(std::move(storage)) {}

StoreSession::~StoreSession() {
  if (!owned_by_this_process()) {
    (void)storage_.release();  // leaked on purpose: closing would wait for threads of the parent
    return;
  }
  Close().IgnoreError();  // nobody is left to tell; whoever must know calls Close() first
}

bool StoreSession::owned_by_this_process() const { return getpid() == pid_; }

Status StoreSession::CheckProcess() const {
  if (owned_by_this_process()) return Status();
  return FailedPrecondition("store '", settings_.directory, "' was opened by process ", pid_,
                            " and cannot be used in its forked child ", getpid(),
                            "; open it in a process started afresh (multiprocessing start method 'spawn')");
}

StatusOr<StoreSession::Use> StoreSession::BeginRead() const {
  DAMO_RETURN_IF_ERROR(CheckProcess());  // before the lock: in a forked child it may be held for ever
  const auto closed = [this] { return FailedPrecondition("store '", settings_.directory, "' is closed"); };
  if (closing_) return closed();
  std::shared_lock<std::shared_mutex> lock(mutex_);
  if (storage_ == nullptr) return closed();
  return Use(std::move(lock), storage_.get());
}

StatusOr<StoreSession::Use> StoreSession::BeginWrite() const {
  DAMO_ASSIGN_OR_RETURN(Use use, BeginRead());
  DAMO_RETURN_IF_ERROR(CheckMayWrite());
  return use;
}

Status StoreSession::CheckMayWrite() const {
  if (!settings_.read_only) return CheckStillWriting();
  return FailedPrecondition("store '", settings_.directory, "' was opened read-only");
}

void StoreSession::StopWriting(const Status& reason) {
  const std::lock_guard<std::mutex> lock(stop_mutex_);
  if (stop_reason_.ok()) stop_reason_ = reason;
  stopped_ = true;
}

Status StoreSession::CheckStillWriting() const {
  if (!stopped_) return Status();
  const std::lock_guard<std::mutex> lock(stop_mutex_);
  return stop_reason_;
}

Status StoreSession::Close(const std::function<Status(Storage&)>& finish) {
  DAMO_RETURN_IF_ERROR(CheckProcess());
  closing_ = true;
  // I/O under the lock on purpose: whoever waits for it waits to be told that the store is closed.
  const std::unique_lock<std::shared_mutex> lock(mutex_);
  if (storage_ == nullptr) return Status();
  const Status finished = finish ? finish(*storage_) : Status();
  const Status closed = storage_->Close();
  storage_.reset();
  const Status& status = finished.ok() ? closed : finished;
  return status.WithContext(StrCat("close store '", settings_.directory, "'"));
}

bool StoreSession::closed() const {
  if (!owned_by_this_process()) return true;
  const std::shared_lock<std::shared_mutex> lock(mutex_);
  return storage_ == nullptr;
}

}  // namespace damo
