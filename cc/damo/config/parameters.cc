// SPDX-License-Identifier: Apache-2.0
#include "damo/config/parameters.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace damo {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kName = "name";

std::string ShortestDecimal(double value) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  return std::string(buffer, result.ptr);
}

// A value as messages show it: -1, 0.5, nan, true, 'text'.
std::string Shown(const Parameters::Value& value) {
  if (const auto* boolean = std::get_if<bool>(&value)) return *boolean ? "true" : "false";
  if (const auto* integer = std::get_if<int64_t>(&value)) return std::to_string(*integer);
  if (const auto* number = std::get_if<double>(&value)) return ShortestDecimal(*number);
  return StrCat("'", std::get<std::string>(value), "'");
}

StatusOr<Parameters::Value> ValueFromJson(const std::string& key, const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return Parameters::Value(json.get<bool>());
    case Json::value_t::number_integer:
      return Parameters::Value(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return Parameters::Value(json.get<double>());
      }
      return Parameters::Value(json.get<int64_t>());
    case Json::value_t::number_float:
      return Parameters::Value(json.get<double>());
    case Json::value_t::string:
      return Parameters::Value(json.get<std::string>());
    default:
      return InvalidArgument("parse parameters: '", key,
                             "' must be a boolean, a number or a string. Received: ", key, "=", json.dump());
  }
}

std::optional<double> AsNumber(const Parameters::Value& value) {
  if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
  if (const auto* number = std::get_if<double>(&value)) return *number;
  return std::nullopt;
}

// What `value` "must be" and is not; empty if it obeys.
std::string BrokenRule(double value, const NumberRule& rule) {
  if (!std::isfinite(value)) return std::string(rule::kFinite.text);
  const auto in_float32 = static_cast<float>(value);
  if (!std::isfinite(in_float32)) return StrCat(rule::kFinite.text, " in float32");
  if (!rule.holds(value)) return std::string(rule.text);
  if (!rule.holds(in_float32)) return StrCat(rule.text, " in float32");
  return "";
}

}  // namespace

StatusOr<std::string> Parameters::Name(std::string_view kind) const {
  const auto entry = values_.find(std::string(kName));
  if (entry == values_.end()) return InvalidArgument(kind, ": parameter 'name' is required");
  if (const auto* name = std::get_if<std::string>(&entry->second)) return *name;
  return InvalidArgument(kind, ": parameter 'name' must be a string. Received: name=", Shown(entry->second));
}

std::string Parameters::ToJson() const {
  Json json = Json::object();
  for (const auto& [key, value] : values_) {
    std::visit([&json, &key = key](const auto& v) { json[key] = v; }, value);
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

StatusOr<Parameters> Parameters::FromJson(std::string_view json) {
  const Json object = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return InvalidArgument("parse parameters: expected a JSON object. Received: ", json);
  }
  Parameters parameters;
  for (const auto& [key, element] : object.items()) {
    DAMO_ASSIGN_OR_RETURN(Value value, ValueFromJson(key, element));
    parameters.Insert(key, std::move(value));
  }
  return parameters;
}

ParameterReader::ParameterReader(std::string_view kind, const Parameters& parameters)
    : subject_(kind), parameters_(parameters) {
  StatusOr<std::string> name = parameters.Name(kind);
  if (!name.ok()) {
    Fail(name.status());
    return;
  }
  subject_ += " '" + *name + "'";
  normalized_.Insert(kName, *std::move(name));
}

double ParameterReader::Number(std::string_view key, double default_value, const NumberRule& rule) {
  const Parameters::Value* value = Find(key);
  return CheckedNumber(key, value == nullptr ? Parameters::Value(default_value) : *value, rule);
}

double ParameterReader::RequiredNumber(std::string_view key, const NumberRule& rule) {
  const Parameters::Value* value = Find(key);
  if (value != nullptr) return CheckedNumber(key, *value, rule);
  Fail(InvalidArgument(subject_, ": parameter '", key, "' is required and must be ", rule.text));
  return 0;
}

std::optional<double> ParameterReader::OptionalNumber(std::string_view key, const NumberRule& rule) {
  const Parameters::Value* value = Find(key);
  if (value == nullptr) return std::nullopt;
  return CheckedNumber(key, *value, rule);
}

double ParameterReader::NumberUnlessZero(std::string_view key, const NumberRule& rule) {
  const Parameters::Value* value = Find(key);
  const bool off = value == nullptr || AsNumber(*value) == 0.0;
  return off ? 0 : CheckedNumber(key, *value, rule);
}

bool ParameterReader::Bool(std::string_view key, bool default_value) {
  const Parameters::Value* value = Find(key);
  const bool* boolean = value == nullptr ? &default_value : std::get_if<bool>(value);
  if (boolean == nullptr) {
    Fail(InvalidArgument(subject_, ": parameter '", key, "' must be a boolean. Received: ", key, "=",
                         Shown(*value)));
    return default_value;
  }
  normalized_.Insert(key, *boolean);
  return *boolean;
}

Status ParameterReader::Finish() {
  std::sort(known_.begin(), known_.end());
  for (const auto& [key, value] : parameters_.values()) {
    if (key == kName || std::binary_search(known_.begin(), known_.end(), key)) continue;
    Fail(known_.empty()
             ? InvalidArgument(subject_, " has no parameter '", key, "'; it takes none")
             : InvalidArgument(subject_, " has no parameter '", key, "'; known: ", QuotedList(known_)));
  }
  return std::move(status_);
}

const Parameters::Value* ParameterReader::Find(std::string_view key) {
  known_.emplace_back(key);
  const auto entry = parameters_.values().find(known_.back());
  return entry == parameters_.values().end() ? nullptr : &entry->second;
}

double ParameterReader::CheckedNumber(std::string_view key, const Parameters::Value& value,
                                      const NumberRule& rule) {
  const std::optional<double> number = AsNumber(value);
  const std::string broken = number ? BrokenRule(*number, rule) : "a number";
  if (!broken.empty()) {
    Fail(InvalidArgument(subject_, ": parameter '", key, "' must be ", broken, ". Received: ", key, "=",
                         Shown(value)));
    return 0;
  }
  normalized_.Insert(key, *number);
  return *number;
}

void ParameterReader::Fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

std::string QuotedList(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "'" : ", '") + name + "'";
  return list;
}

}  // namespace damo
