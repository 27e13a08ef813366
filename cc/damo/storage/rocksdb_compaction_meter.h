// SPDX-License-Identifier: Apache-2.0
//
// CompactionMeter: how much compactions have written.
#ifndef DAMO_STORAGE_ROCKSDB_COMPACTION_METER_H_
#define DAMO_STORAGE_ROCKSDB_COMPACTION_METER_H_

#include <rocksdb/db.h>
#include <rocksdb/listener.h>

#include <atomic>
#include <cstdint>

namespace damo {

// Thread-safe.
class CompactionMeter final : public rocksdb::EventListener {
 public:
  void OnTableFileCreated(const rocksdb::TableFileCreationInfo& file) override {
    if (file.reason != rocksdb::TableFileCreationReason::kCompaction) return;
    if (file.cf_name == rocksdb::kDefaultColumnFamilyName) num_bytes_ += file.file_size;
  }

  // Of files of rows.
  uint64_t num_bytes() const { return num_bytes_; }

 private:
  std::atomic<uint64_t> num_bytes_{0};
};

}  // namespace damo

#endif  // DAMO_STORAGE_ROCKSDB_COMPACTION_METER_H_
