// SPDX-License-Identifier: Apache-2.0
#include "damo/config/group_config.h"

#include <nlohmann/json.hpp>

namespace damo {
namespace {

using nlohmann::json;

json ParametersToJson(const Parameters& parameters) { return json::parse(parameters.ToJson()); }

StatusOr<Parameters> ParametersMember(const json& object, const char* member) {
  const auto it = object.find(member);
  if (it == object.end()) return DataLoss("group config has no member '", member, "'");
  return Parameters::FromJson(it->dump());
}

std::string NameOf(const Parameters& parameters) {
  const StatusOr<std::string> name = parameters.Name("parameters");
  return name.ok() ? *name : std::string();
}

std::string TtlText(const std::optional<int64_t>& ttl_seconds) {
  if (!ttl_seconds) return "as the store's";
  return *ttl_seconds == GroupConfig::kNeverExpires ? "never" : std::to_string(*ttl_seconds);
}

Status CheckSameParameters(std::string_view kind, const Parameters& has, const Parameters& asked) {
  if (has == asked) return Status();
  return InvalidArgument("has ", kind, " ", has.ToJson(), ", asked for ", asked.ToJson());
}

}  // namespace

Status ValidateGroup(int64_t group) {
  if (group >= 0 && group < kNumGroups) return Status();
  return InvalidArgument("`group` must be in [0, ", kNumGroups, "). Received: group=", group);
}

Status GroupConfig::Validate() const {
  DAMO_RETURN_IF_ERROR(ValidateGroup(group));
  if (dim < 1 || dim > kMaxDim) {
    return InvalidArgument("`dim` must be in [1, ", kMaxDim, "]. Received: dim=", dim);
  }
  return ttl_seconds && *ttl_seconds != kNeverExpires ? ValidateTtlSeconds(*ttl_seconds) : Status();
}

TimeToLive GroupConfig::RowLifetime(std::optional<int64_t> store_ttl_seconds) const {
  if (!ttl_seconds) return TimeToLive(store_ttl_seconds);
  return *ttl_seconds == kNeverExpires ? TimeToLive() : TimeToLive(ttl_seconds);
}

std::string GroupConfig::ToJson() const {
  json object = {{"dim", dim},
                 {"optimizer", ParametersToJson(optimizer)},
                 {"initializer", ParametersToJson(initializer)}};
  if (schedule) object["schedule"] = ParametersToJson(*schedule);
  if (ttl_seconds) object["ttl_seconds"] = *ttl_seconds;
  return object.dump();
}

StatusOr<GroupConfig> GroupConfig::FromJson(int group, std::string_view text) {
  const json object = json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return DataLoss("group config is not a JSON object: ", text);
  const auto dim = object.find("dim");
  if (dim == object.end() || !dim->is_number_integer()) return DataLoss("group config has no integer 'dim'");
  GroupConfig config;
  config.group = group;
  config.dim = dim->get<int64_t>();
  DAMO_ASSIGN_OR_RETURN(config.optimizer, ParametersMember(object, "optimizer"));
  DAMO_ASSIGN_OR_RETURN(config.initializer, ParametersMember(object, "initializer"));
  if (object.contains("schedule")) {
    DAMO_ASSIGN_OR_RETURN(config.schedule, ParametersMember(object, "schedule"));
  }
  if (const auto ttl = object.find("ttl_seconds"); ttl != object.end()) {
    if (!ttl->is_number_integer()) return DataLoss("group config has a 'ttl_seconds' that is no integer");
    config.ttl_seconds = ttl->get<int64_t>();
  }
  DAMO_RETURN_IF_ERROR(config.Validate());
  return config;
}

Status CheckSameRows(const GroupConfig& has, const GroupConfig& asked) {
  if (has.dim != asked.dim) return InvalidArgument("has dim ", has.dim, ", asked for ", asked.dim);
  const std::string has_name = NameOf(has.optimizer);
  const std::string asked_name = NameOf(asked.optimizer);
  if (has_name == asked_name) return Status();
  return InvalidArgument("has optimizer '", has_name, "', asked for '", asked_name, "'");
}

Status CheckSameConfig(const GroupConfig& has, const GroupConfig& asked) {
  DAMO_RETURN_IF_ERROR(CheckSameRows(has, asked));
  DAMO_RETURN_IF_ERROR(CheckSameParameters("optimizer", has.optimizer, asked.optimizer));
  DAMO_RETURN_IF_ERROR(CheckSameParameters("initializer", has.initializer, asked.initializer));
  DAMO_RETURN_IF_ERROR(CheckSameParameters("schedule", has.schedule.value_or(Parameters("constant")),
                                           asked.schedule.value_or(Parameters("constant"))));
  if (has.ttl_seconds == asked.ttl_seconds) return Status();
  return InvalidArgument("has ttl_seconds ", TtlText(has.ttl_seconds), ", asked for ",
                         TtlText(asked.ttl_seconds));
}

}  // namespace damo
