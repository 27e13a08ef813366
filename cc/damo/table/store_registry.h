// SPDX-License-Identifier: Apache-2.0
//
// StoreRegistry: at most one open Store per directory in this process, shared by whoever asks for it:
// TensorFlow ops, the damo module, any number of layers (contract C11).
#ifndef DAMO_TABLE_STORE_REGISTRY_H_
#define DAMO_TABLE_STORE_REGISTRY_H_

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "damo/base/status.h"
#include "damo/config/store_options.h"
#include "damo/table/store.h"

namespace damo {

// Device and inode.
using DirectoryIdentity = std::pair<uint64_t, uint64_t>;

// Thread-safe.
class StoreRegistry {
 public:
  // The registry of this process; never destroyed.
  static StoreRegistry& Global();

  // The store in `directory`, opened if it is not open. One that is open is shared if it satisfies every
  // option set in `options`; else fails, naming option and both values. It closes when the last pointer to it
  // goes or at Close(), whichever is first. Paths that lead to one directory are one store. Fails in a
  // process forked from one that had opened stores: RocksDB's threads were not forked with it.
  StatusOr<std::shared_ptr<Store>> Open(const std::string& directory, const StoreOptions& options);

  // The store in `directory` if it is open in this process; else NotFound.
  StatusOr<std::shared_ptr<Store>> Find(const std::string& directory);

  // Closes every open store; for the end of the process. Returns the first failure. Stores inherited through
  // fork are left alone.
  Status CloseAll();

 private:
  struct Entry {
    Store* store = nullptr;  // identity of the store that `pointer` points to, also when it is expiring
    std::weak_ptr<Store> pointer;
    std::optional<DirectoryIdentity> identity;  // when it was opened
  };

  // Fails if a process that this one was forked from has opened stores.
  Status CheckProcess(const std::string& path) const;
  // Sets `store` to the open store at `path`, to null if there is none. Waits while one is being closed by
  // its last owner. `store` must outlive `lock`: letting go of a last reference under the lock would deadlock
  // in Retire().
  void FindLocked(const std::string& path, std::unique_lock<std::mutex>& lock, std::shared_ptr<Store>* store);
  // Takes in the last reference to a store: closes and deletes it.
  void Retire(Store* store);

  std::atomic<pid_t> pid_{0};  // the process that opened stores; 0: none yet
  std::mutex mutex_;           // guards entries_
  std::condition_variable entry_gone_;
  std::map<std::string, Entry> entries_;  // by canonical path
};

}  // namespace damo

#endif  // DAMO_TABLE_STORE_REGISTRY_H_
