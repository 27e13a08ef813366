// SPDX-License-Identifier: Apache-2.0
#include "damo/config/store_options.h"

#include <algorithm>

#include "damo/config/time_to_live.h"

namespace damo {

std::string_view DurabilityName(Durability durability) {
  switch (durability) {
    case Durability::kWal:
      return "wal";
    case Durability::kSync:
      return "sync";
    case Durability::kCheckpoint:
      return "checkpoint";
  }
  return "unknown";
}

StatusOr<Durability> ParseDurability(std::string_view name) {
  for (const Durability durability : {Durability::kWal, Durability::kSync, Durability::kCheckpoint}) {
    if (DurabilityName(durability) == name) return durability;
  }
  return InvalidArgument("unknown durability '", name, "'; known: 'wal', 'sync', 'checkpoint'");
}

std::string_view ClockName(ClockKind clock) { return clock == ClockKind::kEvent ? "event" : "system"; }

StatusOr<ClockKind> ParseClock(std::string_view name) {
  for (const ClockKind clock : {ClockKind::kSystem, ClockKind::kEvent}) {
    if (ClockName(clock) == name) return clock;
  }
  return InvalidArgument("unknown clock '", name, "'; known: 'system', 'event'");
}

Status StoreOptions::Validate() const {
  if (ttl_seconds) DAMO_RETURN_IF_ERROR(ValidateTtlSeconds(*ttl_seconds));
  if (memory_budget && *memory_budget < kMinMemoryBudget) {
    return InvalidArgument("memory_budget must be >= ", kMinMemoryBudget,
                           " bytes. Received: memory_budget=", *memory_budget);
  }
  return Status();
}

MemoryPlan PlanMemory(int64_t memory_budget) {
  // The storage keeps indexes and filters only, about one byte for each hundred of rows on disk: its share is
  // enough for a table twenty times as large as the budget. Three sixteenths, in large budgets one, stay free
  // for what is counted nowhere: lists of dirty rows, files being written, buffers of compactions, what
  // malloc keeps.
  constexpr int64_t kMinStorageBytes = int64_t{2} << 20;
  constexpr int64_t kFreeBytes = int64_t{64} << 20;
  const int64_t free_bytes = std::max(memory_budget / 16, std::min(memory_budget / 16 * 3, kFreeBytes));
  const int64_t storage_bytes = std::max(kMinStorageBytes, memory_budget / 16 * 3);
  const int64_t cache_bytes = memory_budget - storage_bytes - free_bytes;
  // A row that is updated many times is written to the storage once for each time that the log is full. A
  // longer log costs time when a crash is recovered from, and disk space.
  constexpr int64_t kMinRedoBytes = int64_t{64} << 20;
  constexpr int64_t kMaxRedoBytes = int64_t{1} << 30;
  constexpr int64_t kMinSegmentBytes = int64_t{1} << 20;
  constexpr int64_t kMaxSegmentBytes = int64_t{64} << 20;
  constexpr int64_t kMinOverlayBytes = int64_t{1} << 20;
  return {storage_bytes, std::max(kMinOverlayBytes, storage_bytes / 4), cache_bytes,
          static_cast<uint64_t>(std::clamp(memory_budget, kMinRedoBytes, kMaxRedoBytes)),
          static_cast<uint64_t>(std::clamp(memory_budget / 16, kMinSegmentBytes, kMaxSegmentBytes))};
}

}  // namespace damo
