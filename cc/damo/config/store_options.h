// SPDX-License-Identifier: Apache-2.0
//
// StoreOptions: how a store is opened.
#ifndef DAMO_CONFIG_STORE_OPTIONS_H_
#define DAMO_CONFIG_STORE_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "damo/base/status.h"

namespace damo {

// What a finished apply call survives (contract C6). In every mode the store holds, after a crash, exactly
// the effects of the first k calls for some k.
enum class Durability {
  kWal,         // "wal": k includes every call that returned, whatever happens to the process
  kSync,        // "sync": the same for loss of power; each call waits for the disk
  kCheckpoint,  // "checkpoint": k includes at least the calls before the last flush; fastest
};

std::string_view DurabilityName(Durability durability);
StatusOr<Durability> ParseDurability(std::string_view name);

// What "now" is, for the rows of a store.
enum class ClockKind {
  kSystem,  // "system": the machine's wall clock
  kEvent,   // "event": the latest time that Store::AdvanceClock() was told of
};

std::string_view ClockName(ClockKind clock);
StatusOr<ClockKind> ParseClock(std::string_view name);

// Where a member is optional, nullopt makes no demand: a store that stands keeps its value, one that is
// already open in this process is shared whatever its value, and a new one takes the default.
struct StoreOptions {
  // Rows not updated for this long read as missing, in groups that say nothing else. Must be > 0. Default:
  // they never expire. It is of this opening: the next one may ask for another, or for none.
  std::optional<int64_t> ttl_seconds;

  // Bytes of memory for row cache, block cache and memtables together, however large the table grows; indexes
  // and filters live inside it too. More memory, fewer disk reads. At least kMinMemoryBudget. Default:
  // kDefaultMemoryBudget.
  std::optional<int64_t> memory_budget;

  // Default: kWal.
  std::optional<Durability> durability;

  // Opens without taking the directory's lock, beside a writer in another process; all writes fail. It shows
  // the state at opening; what the writer's redo log has of that is kept in a temporary directory
  // (storage/temporary_directory.h). Default: false.
  std::optional<bool> read_only;

  // Seed of the initial values of all rows. Fixed when the store is created. Default: 0.
  std::optional<uint64_t> seed;

  // By which rows are dated and expire. Fixed when the store is created. Default: kSystem.
  std::optional<ClockKind> clock;

  // Whether rows are kept in memory between calls. Without, each call reads and writes the storage: slow, and
  // simple enough to be what the engine is compared with. Default: true.
  std::optional<bool> row_cache;

  // Whether a directory that is absent or empty becomes a new store; else opening it fails with NotFound.
  bool create_if_missing = true;

  static constexpr int64_t kMinMemoryBudget = int64_t{4} << 20;
  static constexpr int64_t kDefaultMemoryBudget = int64_t{1} << 30;

  Status Validate() const;
};

// How a memory budget is shared out.
struct MemoryPlan {
  int64_t storage_bytes;   // block cache, indexes, filters, memtables
  int64_t overlay_bytes;   // of these, in a read-only store: for what it finds in the redo log
  int64_t cache_bytes;     // row caches
  uint64_t redo_bytes;     // on disk: a redo log that has grown to this is flushed
  uint64_t segment_bytes;  // of one file of the redo log: recovery holds one at a time in memory
};

// Requires memory_budget >= StoreOptions::kMinMemoryBudget.
MemoryPlan PlanMemory(int64_t memory_budget);

}  // namespace damo

#endif  // DAMO_CONFIG_STORE_OPTIONS_H_
