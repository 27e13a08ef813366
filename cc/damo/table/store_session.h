// SPDX-License-Identifier: Apache-2.0
//
// StoreSession: the time between opening and closing a storage. Store and its tables share one, so that a
// table handle that outlives its store gets a clear error, and no call ever meets a storage that is being
// closed.
#ifndef DAMO_TABLE_STORE_SESSION_H_
#define DAMO_TABLE_STORE_SESSION_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>

#include "damo/base/clock.h"
#include "damo/base/status.h"
#include "damo/storage/storage.h"
#include "damo/table/store_clock.h"

namespace damo {

// Thread-safe.
class StoreSession {
 public:
  struct Settings {
    std::string directory;  // canonical
    bool read_only = false;
    uint64_t seed = 0;
    const Clock* clock = Clock::System();  // borrowed; outlives the session. Null: a clock of events
    int64_t event_millis = 0;              // where that stands
  };

  // Permission to use the storage; it stays open as long as this lives. Short-lived: one call of the engine.
  class Use {
   public:
    Use(std::shared_lock<std::shared_mutex> lock, Storage* storage)
        : lock_(std::move(lock)), storage_(storage) {}
    Storage* operator->() const { return storage_; }
    Storage& operator*() const { return *storage_; }

   private:
    std::shared_lock<std::shared_mutex> lock_;
    Storage* storage_;
  };

  StoreSession(Settings settings, std::unique_ptr<Storage> storage);
  // Closes if still open. In a forked child the storage is abandoned instead: its threads do not exist there.
  ~StoreSession();
  StoreSession(const StoreSession&) = delete;
  StoreSession& operator=(const StoreSession&) = delete;

  const Settings& settings() const { return settings_; }
  StoreClock& clock() { return clock_; }
  const StoreClock& clock() const { return clock_; }

  // Fails if the session is closed, or belongs to the process that this one was forked from.
  StatusOr<Use> BeginRead() const;
  // As BeginRead(); fails also where CheckMayWrite() does.
  StatusOr<Use> BeginWrite() const;
  // Fails if the store was opened read-only, or StopWriting() was called.
  Status CheckMayWrite() const;

  // Lets nothing be written any more, in this session, for the reason given. For when it is not known what
  // the storage will hold when it is opened again: what was written on would be on top of the wrong state.
  void StopWriting(const Status& reason);
  // OK, or the reason. Calls that had leave before look again when it is their turn to write.
  Status CheckStillWriting() const;

  // Refuses new calls, waits for those under way, calls `finish` and then closes the storage, whatever
  // `finish` returned; returns the first failure. Closing again is OK, and calls nothing. In a forked child:
  // fails.
  Status Close(const std::function<Status(Storage&)>& finish = nullptr);

  // In a forked child, where nothing can be done with it: true.
  bool closed() const;
  // Fails in a process that inherited the session through fork. Takes no lock.
  Status CheckProcess() const;
  // Whether this process opened the session, rather than inherited it through fork.
  bool owned_by_this_process() const;

 private:
  const Settings settings_;
  StoreClock clock_;
  const pid_t pid_;
  // Set before Close() waits for mutex_: calls that overlap without a gap would keep it waiting for ever.
  std::atomic<bool> closing_{false};
  std::atomic<bool> stopped_{false};  // spares writers the mutex
  mutable std::mutex stop_mutex_;     // guards stop_reason_
  Status stop_reason_;
  mutable std::shared_mutex mutex_;   // shared by calls under way, exclusive for closing; guards storage_
  std::unique_ptr<Storage> storage_;  // null when closed
};

}  // namespace damo

#endif  // DAMO_TABLE_STORE_SESSION_H_
