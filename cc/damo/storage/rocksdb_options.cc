// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_options.h"

#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/write_buffer_manager.h>

#include <algorithm>

#include "damo/storage/rocksdb_metadata_cache.h"
#include "damo/storage/rocksdb_unsynced_env.h"

namespace damo {
namespace {

// Two memtables: one is filled while the other is flushed.
constexpr int kMaxMemtables = 2;

// A quarter of the budget for the memtables together; no more than this each, for beyond it they mostly make
// recovery after a crash slower.
constexpr int64_t kMaxMemtableBytes = int64_t{256} << 20;

// RocksDB charges a memtable to the cache in steps of this size, and does so even where it finds nothing to
// evict because reads and compactions hold the blocks. One step for each memtable is kept out of the cache.
constexpr size_t kChargeStep = size_t{256} << 10;

size_t MemtableBytes(const RocksDbStorageOptions& options) {
  if (options.memtable_bytes > 0) return static_cast<size_t>(options.memtable_bytes);
  return static_cast<size_t>(std::min(options.memory_budget / 4 / kMaxMemtables, kMaxMemtableBytes));
}

// A compaction reads ten files or so from end to end at once, with a buffer for each that is outside the
// block cache: together a few percent of the budget.
size_t CompactionReadaheadBytes(const RocksDbStorageOptions& options) {
  constexpr int64_t kMaxBytes = int64_t{2} << 20;
  return static_cast<size_t>(std::min(options.memory_budget / 256, kMaxBytes));
}

rocksdb::BlockBasedTableOptions MakeTableOptions(const SharedParts& parts) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = parts.cache;
  // New ids are common in training: the filter answers for them without a read, on every level.
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  // Indexes and filters count against the budget. In small pieces, because in one piece per file those of a
  // table far larger than the budget would push each other out with every read. A piece of four blocks' size
  // costs little more time than one per file where all of them do fit.
  table.cache_index_and_filter_blocks = true;
  table.cache_index_and_filter_blocks_with_high_priority = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  table.pin_top_level_index_and_filter = true;
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = true;
  table.metadata_block_size = 4 * table.block_size;
  // Fixed, not the linked version's default, so that every RocksDB client since 6.29 reads the files.
  table.format_version = 5;
  table.checksum = rocksdb::kXXH3;
  return table;
}

// Nothing of what was acknowledged goes missing unnoticed, and nothing that is there is half of something.
void SetSafety(rocksdb::DBOptions* db) {
  // Both column families reach the files in one step. Without write-ahead log, what survives is then a prefix
  // of the writes; with it, no log is kept alive by the manifest's few bytes.
  db->atomic_flush = true;
  db->paranoid_checks = true;
  db->track_and_verify_wals_in_manifest = true;  // a log that went missing fails the open
  // The log of a process that died ends where it ends; what comes before is whole.
  db->wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  // After a failure in the background RocksDB would retry for ever and meanwhile, with some failures, go on
  // accepting writes; the storage refuses them.
  db->max_bgerror_resume_count = 0;
}

// Files beside the data, and threads that only print: bounded, off.
void SetBounds(rocksdb::DBOptions* db) {
  db->max_background_jobs = 2;  // one flush, one compaction: the machine is there for training
  db->max_manifest_file_size = uint64_t{16} << 20;
  db->max_log_file_size = size_t{4} << 20;
  db->keep_log_file_num = 4;
  db->stats_dump_period_sec = 0;
  db->stats_persist_period_sec = 0;
}

}  // namespace

rocksdb::Env* EnvOf(const RocksDbStorageOptions& options) {
  if (options.env_for_test != nullptr) return options.env_for_test;
  if (!options.temporary) return rocksdb::Env::Default();
  // Never goes: databases may be closed as late as at the end of the process.
  static rocksdb::Env* const unsynced = NewUnsyncedEnv(rocksdb::Env::Default()).release();
  return unsynced;
}

SharedParts MakeSharedParts(const RocksDbStorageOptions& options) {
  SharedParts parts;
  const size_t capacity = static_cast<size_t>(options.memory_budget) - kMaxMemtables * kChargeStep;
  parts.cache = options.cache_row_blocks ? rocksdb::NewLRUCache(capacity) : NewMetadataCache(capacity);
  parts.statistics = rocksdb::CreateDBStatistics();
  parts.statistics->set_stats_level(rocksdb::StatsLevel::kExceptHistogramOrTimers);  // counters only: cheap
  return parts;
}

rocksdb::DBOptions MakeDbOptions(const RocksDbStorageOptions& options, const SharedParts& parts) {
  rocksdb::DBOptions db;
  db.statistics = parts.statistics;
  // Memtables take their memory from the cache's, so that the sum of both stays within the budget.
  db.write_buffer_manager =
      std::make_shared<rocksdb::WriteBufferManager>(MemtableBytes(options) * kMaxMemtables, parts.cache);
  // A writer opens files as it needs them. A reader beside a writer must hold on to all it started from: the
  // writer deletes files that it has no more use for.
  db.max_open_files = options.read_only && options.beside_writer ? -1 : 512;
  db.compaction_readahead_size = CompactionReadaheadBytes(options);
  SetSafety(&db);
  SetBounds(&db);
  return db;
}

rocksdb::ColumnFamilyOptions MakeFamilyOptions(const RocksDbStorageOptions& options,
                                               const SharedParts& parts) {
  rocksdb::ColumnFamilyOptions family;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(MakeTableOptions(parts)));
  // Floats do not compress; and in a TensorFlow process the codecs called would be TensorFlow's.
  family.compression = rocksdb::kNoCompression;
  family.bottommost_compression = rocksdb::kNoCompression;
  // The manifest's memtable too, though little goes into it: all are flushed together, and a smaller one
  // would be full first and cut the rows' flushes short.
  family.write_buffer_size = MemtableBytes(options);
  family.max_write_buffer_number = kMaxMemtables;
  // Every key is read before it is written, and few of those read are in the memtables: a filter of a
  // fiftieth of their size spares most searches there.
  family.memtable_whole_key_filtering = true;
  family.memtable_prefix_bloom_size_ratio = 0.02;
  // Level 1 as large as what one compaction brings from level 0; RocksDB's default at least.
  family.max_bytes_for_level_base = std::max<uint64_t>(
      family.max_bytes_for_level_base, family.level0_file_num_compaction_trigger * family.write_buffer_size);
  family.level_compaction_dynamic_level_bytes = true;  // stale rows take about a tenth of the disk at most
  return family;
}

}  // namespace damo
