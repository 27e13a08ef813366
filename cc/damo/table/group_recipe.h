// SPDX-License-Identifier: Apache-2.0
//
// GroupRecipe: a GroupConfig brought to life: the objects its parameters name, and the layout of its rows.
#ifndef DAMO_TABLE_GROUP_RECIPE_H_
#define DAMO_TABLE_GROUP_RECIPE_H_

#include <memory>
#include <optional>

#include "damo/config/group_config.h"
#include "damo/initializer/initializer.h"
#include "damo/optimizer/optimizer.h"
#include "damo/row/row_codec.h"
#include "damo/schedule/schedule.h"

namespace damo {

// Immutable; thread-safe.
struct GroupRecipe {
  GroupConfig config;  // normalized: every parameter present
  std::unique_ptr<const Optimizer> optimizer;
  std::unique_ptr<const Initializer> initializer;
  std::unique_ptr<const Schedule> schedule;  // null: constant
  RowLayout layout;
  TimeToLive lifetime;  // of rows

  // The learning rate of the apply call that `global_step` calls came before.
  double LearningRate(int64_t global_step) const;
};

// The recipe of a group in a store whose rows live for `store_ttl_seconds` where the group says nothing else.
// Fails if any part of `config` is invalid, naming the part, the rule and the value.
StatusOr<std::shared_ptr<const GroupRecipe>> MakeGroupRecipe(const GroupConfig& config,
                                                             std::optional<int64_t> store_ttl_seconds);

}  // namespace damo

#endif  // DAMO_TABLE_GROUP_RECIPE_H_
