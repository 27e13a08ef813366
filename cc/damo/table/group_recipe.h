// SPDX-License-Identifier: Apache-2.0
//
// GroupRecipe: a GroupConfig brought to life: the objects its parameters name, and the layout of its rows.
#ifndef DAMO_TABLE_GROUP_RECIPE_H_
#define DAMO_TABLE_GROUP_RECIPE_H_

#include <memory>

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

  // The learning rate of the apply call that `global_step` calls came before.
  double LearningRate(int64_t global_step) const;
};

// Fails if any part of `config` is invalid, naming the part, the rule and the value.
StatusOr<std::shared_ptr<const GroupRecipe>> MakeGroupRecipe(const GroupConfig& config);

}  // namespace damo

#endif  // DAMO_TABLE_GROUP_RECIPE_H_
