// SPDX-License-Identifier: Apache-2.0
#include "damo/table/group_recipe.h"

#include "damo/initializer/initializer_factory.h"
#include "damo/optimizer/optimizer_factory.h"
#include "damo/schedule/schedule_factory.h"

namespace damo {

double GroupRecipe::LearningRate(int64_t global_step) const {
  const double base = optimizer->learning_rate();
  return schedule ? schedule->LearningRate(base, global_step) : base;
}

StatusOr<std::shared_ptr<const GroupRecipe>> MakeGroupRecipe(const GroupConfig& config,
                                                             std::optional<int64_t> store_ttl_seconds) {
  DAMO_RETURN_IF_ERROR(config.Validate());
  DAMO_ASSIGN_OR_RETURN(std::unique_ptr<const Optimizer> optimizer, MakeOptimizer(config.optimizer));
  DAMO_ASSIGN_OR_RETURN(std::unique_ptr<const Initializer> initializer, MakeInitializer(config.initializer));
  std::unique_ptr<const Schedule> schedule;
  if (config.schedule) {
    DAMO_ASSIGN_OR_RETURN(schedule, MakeSchedule(*config.schedule));
  }

  GroupConfig normalized = config;
  normalized.optimizer = optimizer->parameters();
  normalized.initializer = initializer->parameters();
  if (schedule) normalized.schedule = schedule->parameters();
  if (config.min_count > 0) {
    normalized.filter_capacity = config.filter_capacity.value_or(kDefaultFilterCapacity);
    normalized.filter_fpr = config.filter_fpr.value_or(FilterOptions().fpr);
  }
  const RowLayout layout(config.dim, static_cast<int64_t>(optimizer->slot_names().size()));
  return std::shared_ptr<const GroupRecipe>(new GroupRecipe{std::move(normalized), std::move(optimizer),
                                                            std::move(initializer), std::move(schedule),
                                                            layout, config.RowLifetime(store_ttl_seconds)});
}

}  // namespace damo
