// SPDX-License-Identifier: Apache-2.0
//
// Manifest: what a store knows about itself, kept beside the rows: format version, seed, and each group's
// config and state. Byte by byte in docs/row_format.md.
#ifndef DAMO_TABLE_MANIFEST_H_
#define DAMO_TABLE_MANIFEST_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "damo/config/group_config.h"
#include "damo/config/store_options.h"
#include "damo/storage/storage.h"

namespace damo {

// The version this code writes, and the newest it reads. On disk: never renumber.
inline constexpr uint32_t kFormatVersion = 1;

// What changes with each apply call; written in the same batch as the rows that the calls updated.
struct GroupState {
  int64_t step = 0;      // the table's global step: apply calls so far
  int64_t num_rows = 0;  // rows stored, expired ones included
};

struct Manifest {
  uint64_t seed = 0;
  std::map<int, GroupConfig> configs;
  std::map<int, GroupState> states;
  // Groups of which rows have been released (Storage::ReleaseRows()): their states may count rows that are
  // gone.
  std::set<int> released;
  uint64_t redo_lsn = 0;  // every redo record before it is in the rows
  // The time of a clock of events, milliseconds since the Unix epoch; nullopt: the store's clock is the
  // system's.
  std::optional<int64_t> event_millis;

  ClockKind clock() const { return event_millis ? ClockKind::kEvent : ClockKind::kSystem; }
};

// The manifest of `storage`. One that has none is new: it gets one, with `seed` or else 0, and `clock` or
// else the system's. Fails if the store's seed or clock is another than asked for, and if its format is not
// kFormatVersion.
StatusOr<Manifest> LoadOrCreateManifest(Storage& storage, std::optional<uint64_t> seed, bool read_only,
                                        std::optional<ClockKind> clock = std::nullopt);

// Whether an entry of the manifest is one of those that make up a Manifest. Others belong to parts of the
// store that keep things of their own there.
bool IsManifestEntry(std::string_view name);

Status PutGroupConfig(const GroupConfig& config, ManifestWriter& writer);
Status PutGroupState(int group, const GroupState& state, ManifestWriter& writer);
// DataLoss if there is none, or what is there cannot be one.
StatusOr<GroupState> GetGroupState(const Storage& storage, int group);
Status PutReleased(int group, ManifestWriter& writer);
// A page of a group's filter (docs/row_format.md); nullopt: all 0. DataLoss if it has another size.
StatusOr<std::optional<std::string>> GetFilterPage(const Storage& storage, int group, int64_t page);
Status PutFilterPage(int group, int64_t page, std::string_view bytes, ManifestWriter& writer);
Status PutRedoLsn(uint64_t redo_lsn, ManifestWriter& writer);
Status PutEventTime(int64_t event_millis, ManifestWriter& writer);

}  // namespace damo

#endif  // DAMO_TABLE_MANIFEST_H_
