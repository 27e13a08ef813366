// SPDX-License-Identifier: Apache-2.0
//
// GroupConfig: what a group of rows is: its width, how rows begin and how they are updated.
#ifndef DAMO_CONFIG_GROUP_CONFIG_H_
#define DAMO_CONFIG_GROUP_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "damo/base/status.h"
#include "damo/config/filter_options.h"
#include "damo/config/parameters.h"
#include "damo/config/time_to_live.h"

namespace damo {

inline constexpr int kNumGroups = 256;
// Bounds one row to a few MiB whatever the optimizer.
inline constexpr int64_t kMaxDim = 65536;

// Capacity of a group's filter where there is memory for it: it then takes 7.5 MB.
inline constexpr int64_t kDefaultFilterCapacity = int64_t{1} << 20;

struct GroupConfig {
  int group = 0;    // 0..255
  int64_t dim = 0;  // weights per row, 1..kMaxDim
  Parameters optimizer;
  Parameters initializer;
  std::optional<Parameters> schedule;  // nullopt: the optimizer's learning rate, constant
  // A key gets a row in the apply call with its min_count-th occurrence. 0: in the first. At most
  // kMaxFilterCount.
  int64_t min_count = 0;
  // The filter that counts occurrences. Of what is asked for, nullopt: as it stands, else a default. A group
  // that never had a min_count has none.
  std::optional<int64_t> filter_capacity;
  std::optional<double> filter_fpr;

  // Rows not updated for so many seconds read as missing; kNeverExpires: none does. nullopt: as the store
  // says.
  static constexpr int64_t kNeverExpires = 0;  // on disk: never renumber
  std::optional<int64_t> ttl_seconds;

  // How long rows live in a store whose own option is `store_ttl_seconds`.
  TimeToLive RowLifetime(std::optional<int64_t> store_ttl_seconds) const;

  // The group's filter, whether in use or not; nullopt if capacity or rate are not set.
  std::optional<FilterOptions> filter() const;

  // Checks all but the parameters, which are checked where they are read, by the factories.
  Status Validate() const;

  // Everything but the group number, as the manifest keeps it (docs/row_format.md).
  std::string ToJson() const;
  static StatusOr<GroupConfig> FromJson(int group, std::string_view json);
};

// Fails unless 0 <= group < kNumGroups.
Status ValidateGroup(int64_t group);

// OK if both describe the same group; else the first difference, as "has dim 16, asked for 8". Both
// normalized.
Status CheckSameConfig(const GroupConfig& has, const GroupConfig& asked);

// OK if rows written under `has` can go on under `asked`: dim and kind of optimizer agree (contract C4), and
// so do the filters, if both have one.
Status CheckSameRows(const GroupConfig& has, const GroupConfig& asked);

}  // namespace damo

#endif  // DAMO_CONFIG_GROUP_CONFIG_H_
