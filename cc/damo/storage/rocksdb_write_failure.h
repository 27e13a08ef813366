// SPDX-License-Identifier: Apache-2.0
//
// WriteFailure: the first failure of a database to write one of its files.
#ifndef DAMO_STORAGE_ROCKSDB_WRITE_FAILURE_H_
#define DAMO_STORAGE_ROCKSDB_WRITE_FAILURE_H_

#include <rocksdb/listener.h>

#include <atomic>
#include <mutex>

namespace damo {

// Keeps the first failure to write a file: of a log, or by RocksDB's own threads of a table. RocksDB goes on
// after some of them; here each one ends all writing of this database, so that no write is acknowledged by
// one that has stopped saving. Thread-safe.
class WriteFailure final : public rocksdb::EventListener {
 public:
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* status) override {
    using Reason = rocksdb::BackgroundErrorReason;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (first_.ok()) first_ = *status;
    // A flush or compaction that could not write its table has not named it anywhere.
    if (reason != Reason::kFlush && reason != Reason::kFlushNoWAL && reason != Reason::kCompaction) {
      files_may_be_named_.store(true, std::memory_order_release);
    }
    failed_.store(true, std::memory_order_release);
  }

  // RocksDB would try again by itself, from a thread of its own, once a full disk has room.
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason /*reason*/, rocksdb::Status /*error*/,
                            bool* auto_recovery) override {
    *auto_recovery = false;
  }

  // OK while there was none.
  rocksdb::Status first() const {
    if (!failed_.load(std::memory_order_acquire)) return rocksdb::Status::OK();
    const std::lock_guard<std::mutex> lock(mutex_);
    return first_;
  }

  // Whether the database's record on disk may, or may not, name files that the database believes it does not.
  bool files_may_be_named() const { return files_may_be_named_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> failed_{false};  // spares writers the mutex
  std::atomic<bool> files_may_be_named_{false};
  mutable std::mutex mutex_;  // guards first_
  rocksdb::Status first_;
};

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_WRITE_FAILURE_H_
