// SPDX-License-Identifier: Apache-2.0
#include "damo/table/described_groups.h"

#include <string>

namespace damo {
namespace {

// Settings with every default in them.
StatusOr<std::string> FullSettings(const GroupConfig& config) {
  DAMO_ASSIGN_OR_RETURN(const auto recipe, MakeGroupRecipe(config, /*store_ttl_seconds=*/std::nullopt));
  return recipe->config.ToJson();
}

template <typename Value>
Status CheckSame(const char* what, const Value& described, const Value& has) {
  if (described == has) return Status();
  return DataLoss("the description has ", what, " ", described, ", the manifest ", has);
}

Status CheckDescribedGroup(const CheckpointDescription::Group& group, const Manifest& manifest) {
  const auto it = manifest.configs.find(group.config.group);
  if (it == manifest.configs.end()) return DataLoss("the description has it, the manifest does not");
  const GroupState& state = manifest.states.at(group.config.group);
  DAMO_RETURN_IF_ERROR(CheckSame("step", group.step, state.step));
  DAMO_RETURN_IF_ERROR(CheckSame("rows", group.num_rows, state.num_rows));
  DAMO_ASSIGN_OR_RETURN(const std::string described, FullSettings(group.config));
  DAMO_ASSIGN_OR_RETURN(const std::string has, FullSettings(it->second));
  return CheckSame("config", described, has);
}

}  // namespace

CheckpointDescription::Group DescribeGroup(const GroupRecipe& recipe, const GroupState& state) {
  return {recipe.config, state.step, state.num_rows};
}

Status CheckDescribedGroups(const CheckpointDescription& description, const Manifest& manifest) {
  DAMO_RETURN_IF_ERROR(CheckSame("seed", description.seed, manifest.seed));
  DAMO_RETURN_IF_ERROR(CheckSame("number of groups", description.groups.size(), manifest.configs.size()));
  for (const CheckpointDescription::Group& group : description.groups) {
    DAMO_RETURN_IF_ERROR(
        CheckDescribedGroup(group, manifest).WithContext(StrCat("group ", group.config.group)));
  }
  return Status();
}

}  // namespace damo
