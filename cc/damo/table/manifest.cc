// SPDX-License-Identifier: Apache-2.0
#include "damo/table/manifest.h"

#include <cstdio>
#include <string>

#include "damo/admission/counting_filter.h"
#include "damo/base/endian.h"

namespace damo {
namespace {

// Names of the manifest's entries. On disk: never rename.
constexpr std::string_view kFormatName = "format";         // uint32
constexpr std::string_view kSeedName = "seed";             // uint64
constexpr std::string_view kRedoName = "redo";             // uint64; absent: 0
constexpr std::string_view kEventTimeName = "event_time";  // int64; absent: the clock is the system's
constexpr char kConfigPrefix[] = "config/";                // + three digits of the group: JSON
constexpr char kStatePrefix[] = "state/";        // + three digits of the group: int64 step, int64 num_rows
constexpr char kReleasedPrefix[] = "released/";  // + three digits of the group: uint8 1; absent: 0
constexpr char kFilterPrefix[] = "filter/";      // + three digits of the group, /, eight of the page: bytes

std::string GroupEntry(const char* prefix, int group) {
  char digits[8];
  std::snprintf(digits, sizeof(digits), "%03d", group);
  return std::string(prefix) + digits;
}

std::string FilterEntry(int group, int64_t page) {
  char digits[24];
  std::snprintf(digits, sizeof(digits), "/%08lld", static_cast<long long>(page));
  return GroupEntry(kFilterPrefix, group) + digits;
}

template <typename Integer>
std::string IntegerBytes(Integer value) {
  std::string bytes(sizeof(value), '\0');
  StoreLittleEndian(value, bytes.data());
  return bytes;
}

// The entry `name` as `num_integers` little-endian Integers; nullopt where absent.
template <typename Integer, size_t num_integers>
StatusOr<std::optional<std::array<Integer, num_integers>>> GetIntegers(const Storage& storage,
                                                                       std::string_view name) {
  DAMO_ASSIGN_OR_RETURN(const std::optional<std::string> bytes, storage.GetManifest(name));
  if (!bytes) return std::optional<std::array<Integer, num_integers>>();
  if (bytes->size() != sizeof(Integer) * num_integers) {
    return DataLoss("manifest entry '", name, "' has ", bytes->size(), " bytes, expected ",
                    sizeof(Integer) * num_integers);
  }
  std::array<Integer, num_integers> values;
  for (size_t i = 0; i < num_integers; ++i) {
    values[i] = LoadLittleEndian<Integer>(bytes->data() + i * sizeof(Integer));
  }
  return std::optional(values);
}

StatusOr<bool> HasManifest(const Storage& storage, std::string_view name) {
  DAMO_ASSIGN_OR_RETURN(const std::optional<std::string> value, storage.GetManifest(name));
  return value.has_value();
}

Status Create(Storage& storage, const Manifest& manifest) {
  const std::unique_ptr<StorageBatch> batch = storage.NewBatch();
  DAMO_RETURN_IF_ERROR(batch->PutManifest(kFormatName, IntegerBytes(kFormatVersion)));
  DAMO_RETURN_IF_ERROR(batch->PutManifest(kSeedName, IntegerBytes(manifest.seed)));
  if (manifest.event_millis) DAMO_RETURN_IF_ERROR(PutEventTime(*manifest.event_millis, *batch));
  return storage.Write(*batch);
}

// A store without format is new, and then has nothing else either.
Status CheckEmpty(const Storage& storage) {
  DAMO_ASSIGN_OR_RETURN(bool found, HasManifest(storage, kSeedName));
  for (int group = 0; group < kNumGroups && !found; ++group) {
    DAMO_ASSIGN_OR_RETURN(found, HasManifest(storage, GroupEntry(kConfigPrefix, group)));
  }
  if (!found) return Status();
  return DataLoss("manifest entry '", kFormatName, "' is missing");
}

Status LoadGroup(const Storage& storage, int group, Manifest* manifest) {
  const std::string name = GroupEntry(kConfigPrefix, group);
  DAMO_ASSIGN_OR_RETURN(const std::optional<std::string> json, storage.GetManifest(name));
  if (!json) return Status();
  const StatusOr<GroupConfig> config = GroupConfig::FromJson(group, *json);
  if (!config.ok()) return DataLoss("manifest entry '", name, "': ", config.status().message());
  manifest->configs.emplace(group, *config);

  DAMO_ASSIGN_OR_RETURN(manifest->states[group], GetGroupState(storage, group));
  DAMO_ASSIGN_OR_RETURN(const bool released, HasManifest(storage, GroupEntry(kReleasedPrefix, group)));
  if (released) manifest->released.insert(group);
  return Status();
}

Status LoadClock(const Storage& storage, std::optional<ClockKind> asked, Manifest* manifest) {
  DAMO_ASSIGN_OR_RETURN(const auto event_time, (GetIntegers<int64_t, 1>(storage, kEventTimeName)));
  if (event_time) {
    const int64_t millis = (*event_time)[0];
    if (millis < 0) {
      return DataLoss("manifest entry '", kEventTimeName, "' is ", millis, ", expected >= 0");
    }
    manifest->event_millis = millis;
  }
  if (!asked || *asked == manifest->clock()) return Status();
  return InvalidArgument("has clock '", ClockName(manifest->clock()), "', asked for '", ClockName(*asked),
                         "'");
}

}  // namespace

StatusOr<Manifest> LoadOrCreateManifest(Storage& storage, std::optional<uint64_t> seed, bool read_only,
                                        std::optional<ClockKind> clock) {
  DAMO_ASSIGN_OR_RETURN(const auto format, (GetIntegers<uint32_t, 1>(storage, kFormatName)));
  Manifest manifest;
  if (!format) {
    DAMO_RETURN_IF_ERROR(CheckEmpty(storage));
    manifest.seed = seed.value_or(0);
    if (clock == ClockKind::kEvent) manifest.event_millis = 0;
    if (!read_only) DAMO_RETURN_IF_ERROR(Create(storage, manifest));
    return manifest;
  }
  if ((*format)[0] != kFormatVersion) {
    return InvalidArgument("has format version ", (*format)[0], ", this release reads version ",
                           kFormatVersion);
  }
  DAMO_ASSIGN_OR_RETURN(const auto stored_seed, (GetIntegers<uint64_t, 1>(storage, kSeedName)));
  if (!stored_seed) return DataLoss("manifest entry '", kSeedName, "' is missing");
  manifest.seed = (*stored_seed)[0];
  if (seed && *seed != manifest.seed) {
    return InvalidArgument("has seed ", manifest.seed, ", asked for ", *seed);
  }
  DAMO_ASSIGN_OR_RETURN(const auto redo_lsn, (GetIntegers<uint64_t, 1>(storage, kRedoName)));
  if (redo_lsn) manifest.redo_lsn = (*redo_lsn)[0];
  DAMO_RETURN_IF_ERROR(LoadClock(storage, clock, &manifest));
  for (int group = 0; group < kNumGroups; ++group) {
    DAMO_RETURN_IF_ERROR(LoadGroup(storage, group, &manifest));
  }
  return manifest;
}

bool IsManifestEntry(std::string_view name) {
  const auto begins_with = [name](std::string_view prefix) {
    return name.substr(0, prefix.size()) == prefix;
  };
  return name == kFormatName || name == kSeedName || name == kRedoName || begins_with(kConfigPrefix) ||
         begins_with(kStatePrefix);
}

Status PutGroupConfig(const GroupConfig& config, ManifestWriter& writer) {
  return writer.PutManifest(GroupEntry(kConfigPrefix, config.group), config.ToJson());
}

Status PutGroupState(int group, const GroupState& state, ManifestWriter& writer) {
  return writer.PutManifest(GroupEntry(kStatePrefix, group),
                            IntegerBytes(state.step) + IntegerBytes(state.num_rows));
}

StatusOr<GroupState> GetGroupState(const Storage& storage, int group) {
  const std::string name = GroupEntry(kStatePrefix, group);
  DAMO_ASSIGN_OR_RETURN(const auto state, (GetIntegers<int64_t, 2>(storage, name)));
  if (!state) return DataLoss("manifest entry '", name, "' is missing");
  const auto [step, num_rows] = *state;
  if (step < 0 || num_rows < 0) {
    return DataLoss("manifest entry '", name, "' has step ", step, " and ", num_rows, " rows, expected >= 0");
  }
  return GroupState{step, num_rows};
}

Status PutReleased(int group, ManifestWriter& writer) {
  return writer.PutManifest(GroupEntry(kReleasedPrefix, group), IntegerBytes(uint8_t{1}));
}

Status PutEventTime(int64_t event_millis, ManifestWriter& writer) {
  return writer.PutManifest(kEventTimeName, IntegerBytes(event_millis));
}

StatusOr<std::optional<std::string>> GetFilterPage(const Storage& storage, int group, int64_t page) {
  const std::string name = FilterEntry(group, page);
  DAMO_ASSIGN_OR_RETURN(std::optional<std::string> bytes, storage.GetManifest(name));
  if (bytes && bytes->size() != CountingFilter::kPageBytes) {
    return DataLoss("manifest entry '", name, "' has ", bytes->size(), " bytes, expected ",
                    CountingFilter::kPageBytes);
  }
  return bytes;
}

Status PutFilterPage(int group, int64_t page, std::string_view bytes, ManifestWriter& writer) {
  return writer.PutManifest(FilterEntry(group, page), bytes);
}

Status PutRedoLsn(uint64_t redo_lsn, ManifestWriter& writer) {
  return writer.PutManifest(kRedoName, IntegerBytes(redo_lsn));
}

}  // namespace damo
