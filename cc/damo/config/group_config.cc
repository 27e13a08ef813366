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

// The size of a filter cannot change: its counters do not say which keys they count.
Status CheckSameFilter(const GroupConfig& has, const GroupConfig& asked) {
  if (has.filter_capacity && asked.filter_capacity && *has.filter_capacity != *asked.filter_capacity) {
    return InvalidArgument("has filter_capacity ", *has.filter_capacity, ", asked for ",
                           *asked.filter_capacity);
  }
  if (has.filter_fpr && asked.filter_fpr && *has.filter_fpr != *asked.filter_fpr) {
    return InvalidArgument("has filter_fpr ", *has.filter_fpr, ", asked for ", *asked.filter_fpr);
  }
  return Status();
}

// The members "min_count" and "filter", which configs from before they existed do not have.
Status ReadFilter(const json& object, GroupConfig* config) {
  const auto min_count = object.find("min_count");
  if (min_count != object.end()) {
    if (!min_count->is_number_integer()) return DataLoss("group config has 'min_count' that is no integer");
    config->min_count = min_count->get<int64_t>();
  }
  const auto filter = object.find("filter");
  if (filter == object.end()) return Status();
  if (!filter->is_object() || !filter->contains("capacity") || !(*filter)["capacity"].is_number_integer() ||
      !filter->contains("fpr") || !(*filter)["fpr"].is_number()) {
    return DataLoss("group config has 'filter' without integer 'capacity' and number 'fpr'");
  }
  config->filter_capacity = (*filter)["capacity"].get<int64_t>();
  config->filter_fpr = (*filter)["fpr"].get<double>();
  return Status();
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
  if (min_count < 0 || min_count > kMaxFilterCount) {
    return InvalidArgument("`min_count` must be in [0, ", kMaxFilterCount,
                           "]. Received: min_count=", min_count);
  }
  const FilterOptions defaults;
  const FilterOptions filter_options{filter_capacity.value_or(defaults.capacity),
                                     filter_fpr.value_or(defaults.fpr)};
  DAMO_RETURN_IF_ERROR(filter_options.Validate());
  return ttl_seconds && *ttl_seconds != kNeverExpires ? ValidateTtlSeconds(*ttl_seconds) : Status();
}

std::optional<FilterOptions> GroupConfig::filter() const {
  if (!filter_capacity || !filter_fpr) return std::nullopt;
  return FilterOptions{*filter_capacity, *filter_fpr};
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
  if (min_count != 0) object["min_count"] = min_count;
  if (filter()) object["filter"] = {{"capacity", *filter_capacity}, {"fpr", *filter_fpr}};
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
  DAMO_RETURN_IF_ERROR(ReadFilter(object, &config));
  DAMO_RETURN_IF_ERROR(config.Validate());
  return config;
}

Status CheckSameRows(const GroupConfig& has, const GroupConfig& asked) {
  if (has.dim != asked.dim) return InvalidArgument("has dim ", has.dim, ", asked for ", asked.dim);
  const std::string has_name = NameOf(has.optimizer);
  const std::string asked_name = NameOf(asked.optimizer);
  if (has_name != asked_name) {
    return InvalidArgument("has optimizer '", has_name, "', asked for '", asked_name, "'");
  }
  return CheckSameFilter(has, asked);
}

Status CheckSameConfig(const GroupConfig& has, const GroupConfig& asked) {
  DAMO_RETURN_IF_ERROR(CheckSameRows(has, asked));
  DAMO_RETURN_IF_ERROR(CheckSameParameters("optimizer", has.optimizer, asked.optimizer));
  DAMO_RETURN_IF_ERROR(CheckSameParameters("initializer", has.initializer, asked.initializer));
  DAMO_RETURN_IF_ERROR(CheckSameParameters("schedule", has.schedule.value_or(Parameters("constant")),
                                           asked.schedule.value_or(Parameters("constant"))));
  if (has.min_count != asked.min_count) {
    return InvalidArgument("has min_count ", has.min_count, ", asked for ", asked.min_count);
  }
  if (has.ttl_seconds == asked.ttl_seconds) return Status();
  return InvalidArgument("has ttl_seconds ", TtlText(has.ttl_seconds), ", asked for ",
                         TtlText(asked.ttl_seconds));
}

}  // namespace damo
