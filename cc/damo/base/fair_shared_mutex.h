// SPDX-License-Identifier: Apache-2.0
//
// FairSharedMutex: a std::shared_mutex that lets a writer in although readers overlap without a gap. The
// system's lock prefers readers, so that a store that is read all the time would never train.
#ifndef DAMO_BASE_FAIR_SHARED_MUTEX_H_
#define DAMO_BASE_FAIR_SHARED_MUTEX_H_

#include <mutex>
#include <shared_mutex>

namespace damo {

// For std::unique_lock and std::shared_lock. Not recursive, not even for readers.
class FairSharedMutex {
 public:
  void lock() {
    // Readers that come now wait at the gate until this writer has what it waits for.
    const std::lock_guard<std::mutex> gate(gate_);
    mutex_.lock();
  }
  bool try_lock() {
    const std::unique_lock<std::mutex> gate(gate_, std::try_to_lock);
    return gate.owns_lock() && mutex_.try_lock();
  }
  void unlock() { mutex_.unlock(); }

  void lock_shared() {
    const std::lock_guard<std::mutex> gate(gate_);
    mutex_.lock_shared();
  }
  void unlock_shared() { mutex_.unlock_shared(); }

 private:
  std::mutex gate_;  // held while waiting for mutex_, not while holding it
  std::shared_mutex mutex_;
};

}  // namespace damo

#endif  // DAMO_BASE_FAIR_SHARED_MUTEX_H_
