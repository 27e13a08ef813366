// SPDX-License-Identifier: Apache-2.0
//
// Parameters: the name and settings of an optimizer, initializer or schedule, as users write them; and
// ParameterReader, which turns them into checked C++ values.
#ifndef DAMO_CONFIG_PARAMETERS_H_
#define DAMO_CONFIG_PARAMETERS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "damo/base/status.h"

namespace damo {

// A small map from name to value. The entry "name" says which algorithm is meant. Thread-compatible.
class Parameters {
 public:
  using Value = std::variant<bool, int64_t, double, std::string>;
  using Map = std::map<std::string, Value>;

  Parameters() = default;
  explicit Parameters(std::string_view name) { Insert("name", std::string(name)); }

  // Sets or replaces one entry.
  void Insert(std::string_view key, Value value) { values_[std::string(key)] = std::move(value); }

  const Map& values() const { return values_; }
  // The entry "name"; fails if it is absent or not a string. `kind` ("optimizer") is for the message.
  StatusOr<std::string> Name(std::string_view kind) const;

  // One JSON object, keys sorted; integers and doubles stay apart, and doubles read back to the same bits.
  // What JSON cannot hold is shown as near as it can: null for NaN and infinities, U+FFFD for bytes that are
  // not UTF-8.
  std::string ToJson() const;
  // The reverse of ToJson(). Fails on anything but an object of booleans, numbers and strings. An integer
  // beyond int64 becomes a double.
  static StatusOr<Parameters> FromJson(std::string_view json);

  friend bool operator==(const Parameters& a, const Parameters& b) { return a.values_ == b.values_; }
  friend bool operator!=(const Parameters& a, const Parameters& b) { return !(a == b); }

 private:
  Map values_;
};

// What a number must satisfy, both as it is given and rounded to float32, in which rows are computed: 1e-50
// is not > 0 there. `text` completes the sentence "must be ...".
struct NumberRule {
  std::string_view text;
  bool (*holds)(double value);
};
namespace rule {
inline constexpr NumberRule kFinite{"a finite number", [](double) { return true; }};
inline constexpr NumberRule kPositive{"> 0", [](double v) { return v > 0; }};
inline constexpr NumberRule kNonNegative{">= 0", [](double v) { return v >= 0; }};
inline constexpr NumberRule kUnitHalfOpen{"in [0, 1)", [](double v) { return v >= 0 && v < 1; }};
}  // namespace rule

// Reads the entries of one Parameters, each with its default and rule, and remembers the first failure.
//
//   ParameterReader reader("optimizer", parameters);
//   const double gamma = reader.Number("gamma", 1e-3, rule::kPositive);
//   DAMO_RETURN_IF_ERROR(reader.Finish());
//
// Finish() also fails on entries nobody asked for, listing those that exist, so typos never pass.
class ParameterReader {
 public:
  // `kind` is for messages. Borrows `parameters`.
  ParameterReader(std::string_view kind, const Parameters& parameters);

  // A number that is finite in float32 and obeys `rule`; integers are accepted, booleans are not. The default
  // where the entry is absent.
  double Number(std::string_view key, double default_value, const NumberRule& rule);
  // As Number(), without a default: an absent entry is a failure.
  double RequiredNumber(std::string_view key, const NumberRule& rule);
  // As Number(), of a setting that is off by default: nullopt, and not in normalized(), where it is absent.
  std::optional<double> OptionalNumber(std::string_view key, const NumberRule& rule);
  // As OptionalNumber(), of a setting that 0 turns off as well.
  double NumberUnlessZero(std::string_view key, const NumberRule& rule);
  bool Bool(std::string_view key, bool default_value);

  // The first failure met, else OK if every entry was read. Call it once, last.
  Status Finish();

  // All that was read, defaults filled in, "name" included, what is off left out, every number a double: two
  // spellings of one configuration are equal here.
  const Parameters& normalized() const { return normalized_; }

 private:
  const Parameters::Value* Find(std::string_view key);
  double CheckedNumber(std::string_view key, const Parameters::Value& value, const NumberRule& rule);
  void Fail(Status status);

  std::string subject_;  // "optimizer 'adam'"
  const Parameters& parameters_;
  Parameters normalized_;
  std::vector<std::string> known_;
  Status status_;
};

// "'a', 'b', 'c'", for messages that list what is known.
std::string QuotedList(const std::vector<std::string>& names);

}  // namespace damo

#endif  // DAMO_CONFIG_PARAMETERS_H_
