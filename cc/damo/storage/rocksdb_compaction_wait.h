// SPDX-License-Identifier: Apache-2.0
//
// CompactionWait: back-pressure for sorted batches. RocksDB slows down writes while compactions lag behind,
// but not the ingestion of files, which would pile up in level 0 and be searched one by one by each read.
#ifndef DAMO_STORAGE_ROCKSDB_COMPACTION_WAIT_H_
#define DAMO_STORAGE_ROCKSDB_COMPACTION_WAIT_H_

#include <rocksdb/listener.h>

#include <condition_variable>
#include <mutex>

namespace damo {

// Thread-safe.
class CompactionWait final : public rocksdb::EventListener {
 public:
  void OnCompactionCompleted(rocksdb::DB* /*db*/, const rocksdb::CompactionJobInfo& /*job*/) override {
    Wake();
  }
  void OnBackgroundError(rocksdb::BackgroundErrorReason /*reason*/, rocksdb::Status* /*status*/) override {
    Wake();
  }

  // Returns once `done()` holds; asks at first, after each compaction and after each failure.
  template <typename Done>
  void Until(const Done& done) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, done);
  }

 private:
  void Wake() {
    const std::lock_guard<std::mutex> lock(mutex_);  // so that it falls not between a question and its wait
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_COMPACTION_WAIT_H_
