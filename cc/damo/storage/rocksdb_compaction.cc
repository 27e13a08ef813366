// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_compaction.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <vector>

#include "damo/base/catch_exceptions.h"
#include "damo/storage/rocksdb_status.h"

namespace damo {
namespace {

// Between two calls of `progress`: often enough for who watches, or has pressed Ctrl-C.
constexpr std::chrono::milliseconds kReportInterval(100);

uint64_t FileBytes(const RocksDbDatabase& database, uint8_t group) {
  std::vector<rocksdb::LiveFileMetaData> files;
  database->GetLiveFilesMetaData(&files);
  uint64_t num_bytes = 0;
  for (const rocksdb::LiveFileMetaData& file : files) {
    if (file.column_family_name != rocksdb::kDefaultColumnFamilyName) continue;
    const auto first = static_cast<uint8_t>(file.smallestkey[0]);
    const auto last = static_cast<uint8_t>(file.largestkey[0]);
    if (first <= group && group <= last) num_bytes += file.size;
  }
  return num_bytes;
}

rocksdb::Status CompactGroup(const RocksDbDatabase& database, uint8_t group, std::atomic<bool>* canceled) {
  const char first = static_cast<char>(group);
  const char limit = static_cast<char>(group + 1);
  const rocksdb::Slice first_slice(&first, 1);
  const rocksdb::Slice limit_slice(&limit, 1);
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;  // flushes bring files meanwhile, which others may compact
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  options.canceled = canceled;
  return database->CompactRange(options, database.rows(), &first_slice,
                                group < UINT8_MAX ? &limit_slice : nullptr);
}

Status CompactEach(const RocksDbDatabase& database, Span<const uint8_t> groups, std::atomic<bool>* canceled) {
  for (const uint8_t group : groups) {
    DAMO_RETURN_IF_ERROR(ToStatus(CompactGroup(database, group, canceled), "group ", int{group}));
  }
  return Status();
}

}  // namespace

Status CompactGroups(const RocksDbDatabase& database, Span<const uint8_t> groups,
                     const ByteProgress& progress) {
  std::atomic<bool> canceled{false};
  if (!progress) return CompactEach(database, groups, &canceled);
  return CatchExceptions([&]() -> Status {
    uint64_t num_total = 0;
    for (const uint8_t group : groups) num_total += FileBytes(database, group);
    const uint64_t before = database.num_compacted_bytes();
    // RocksDB compacts from one level to the next: some of it is written more than once.
    const auto report = [&] {
      return progress(std::min(database.num_compacted_bytes() - before, num_total), num_total);
    };
    std::future<Status> compaction =
        std::async(std::launch::async, [&] { return CompactEach(database, groups, &canceled); });
    Status reported;
    while (compaction.wait_for(kReportInterval) != std::future_status::ready) {
      if (reported.ok()) reported = CatchExceptions(report);
      canceled = !reported.ok();
    }
    const Status compacted = compaction.get();
    if (!reported.ok()) return reported;
    DAMO_RETURN_IF_ERROR(compacted);
    return progress(num_total, num_total);
  });
}

}  // namespace damo
