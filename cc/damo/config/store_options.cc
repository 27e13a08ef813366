// SPDX-License-Identifier: Apache-2.0
#include "damo/config/store_options.h"

#include <limits>

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

Status StoreOptions::Validate() const {
  // Row times are milliseconds in int64.
  constexpr int64_t kMaxTtlSeconds = std::numeric_limits<int64_t>::max() / 1000;
  if (ttl_seconds && (*ttl_seconds <= 0 || *ttl_seconds > kMaxTtlSeconds)) {
    return InvalidArgument("ttl_seconds must be > 0 and <= ", kMaxTtlSeconds,
                           ". Received: ttl_seconds=", *ttl_seconds);
  }
  if (memory_budget && *memory_budget < kMinMemoryBudget) {
    return InvalidArgument("memory_budget must be >= ", kMinMemoryBudget,
                           " bytes. Received: memory_budget=", *memory_budget);
  }
  return Status();
}

}  // namespace damo
