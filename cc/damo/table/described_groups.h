// SPDX-License-Identifier: Apache-2.0
//
// What the description of a checkpoint says of the groups in it, and whether its manifest says the same.
#ifndef DAMO_TABLE_DESCRIBED_GROUPS_H_
#define DAMO_TABLE_DESCRIBED_GROUPS_H_

#include "damo/base/status.h"
#include "damo/checkpoint/description.h"
#include "damo/table/group_recipe.h"
#include "damo/table/manifest.h"

namespace damo {

CheckpointDescription::Group DescribeGroup(const GroupRecipe& recipe, const GroupState& state);

// DataLoss, with both values, unless seed, groups, settings, steps and numbers of rows are the manifest's.
// Settings are the same if they mean the same: what one of them leaves out may be there as a default.
Status CheckDescribedGroups(const CheckpointDescription& description, const Manifest& manifest);

}  // namespace damo

#endif  // DAMO_TABLE_DESCRIBED_GROUPS_H_
