// SPDX-License-Identifier: Apache-2.0
#include "damo/config/parameters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace damo {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Parameters Adam(std::string_view key, Parameters::Value value) {
  Parameters parameters("adam");
  parameters.Insert(key, std::move(value));
  return parameters;
}

// What reading `parameters` as an optimizer with gamma > 0, beta1 in [0, 1) and a switch reports.
std::string MessageFor(const Parameters& parameters) {
  ParameterReader reader("optimizer", parameters);
  reader.Number("gamma", 1e-3, rule::kPositive);
  reader.Number("beta1", 0.9, rule::kUnitHalfOpen);
  reader.Bool("nesterov", false);
  return reader.Finish().message();
}

TEST(ParametersTest, NameFailsWhenAbsentOrNotAString) {
  EXPECT_EQ(*Parameters("adam").Name("optimizer"), "adam");
  EXPECT_EQ(Parameters().Name("optimizer").status().message(), "optimizer: parameter 'name' is required");
  Parameters parameters;
  parameters.Insert("name", int64_t{3});
  EXPECT_EQ(parameters.Name("optimizer").status().message(),
            "optimizer: parameter 'name' must be a string. Received: name=3");
}

TEST(ParametersTest, InsertReplaces) {
  Parameters parameters = Adam("gamma", 0.1);
  parameters.Insert("gamma", 0.2);
  EXPECT_EQ(parameters, Adam("gamma", 0.2));
  EXPECT_NE(parameters, Adam("gamma", 0.1));
}

TEST(ParametersTest, JsonRoundTripKeepsTypesAndBits) {
  Parameters parameters("adam");
  parameters.Insert("flag", true);
  parameters.Insert("integer", std::numeric_limits<int64_t>::min());
  parameters.Insert("one", 1.0);
  parameters.Insert("tenth", 0.1);
  parameters.Insert("tiny", 5e-324);
  parameters.Insert("text", std::string("tab\t\"quote\" \u00e9"));
  const StatusOr<Parameters> parsed = Parameters::FromJson(parameters.ToJson());
  ASSERT_TRUE(parsed.ok()) << parsed.status().ToString();
  EXPECT_EQ(*parsed, parameters);
}

TEST(ParametersTest, ToJsonSortsKeysAndTellsDoublesFromIntegers) {
  Parameters parameters("adam");
  parameters.Insert("gamma", 1.0);
  parameters.Insert("beta1", int64_t{1});
  EXPECT_EQ(parameters.ToJson(), R"({"beta1":1,"gamma":1.0,"name":"adam"})");
}

TEST(ParametersTest, ToJsonShowsWhatJsonCannotHold) {
  EXPECT_EQ(Adam("x", kNan).ToJson(), R"({"name":"adam","x":null})");
  EXPECT_EQ(Adam("x", std::string("a\xff")).ToJson(), "{\"name\":\"adam\",\"x\":\"a\xef\xbf\xbd\"}");
}

TEST(ParametersTest, FromJsonMakesADoubleOfAnIntegerBeyondInt64) {
  const StatusOr<Parameters> parsed = Parameters::FromJson(R"({"x": 9223372036854775808})");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(std::get<double>(parsed->values().at("x")), 0x1p63);
}

TEST(ParametersTest, FromJsonRefusesAllButAnObjectOfPlainValues) {
  for (const char* json : {"", "[1]", "3", "null", "{\"x\":", "{\"x\":1e999}", "{\"x\":\"\xff\"}"}) {
    const StatusOr<Parameters> parsed = Parameters::FromJson(json);
    ASSERT_FALSE(parsed.ok()) << json;
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(parsed.status().message(),
              StrCat("parse parameters: expected a JSON object. Received: ", json));
  }
  EXPECT_EQ(Parameters::FromJson(R"({"x":[1,2]})").status().message(),
            "parse parameters: 'x' must be a boolean, a number or a string. Received: x=[1,2]");
  EXPECT_FALSE(Parameters::FromJson(R"({"x":null})").ok());
  EXPECT_FALSE(Parameters::FromJson(R"({"x":{"y":1}})").ok());
}

TEST(ParameterReaderTest, ReadsValuesAndDefaults) {
  Parameters parameters("adam");
  parameters.Insert("gamma", int64_t{2});
  parameters.Insert("staircase", true);
  ParameterReader reader("optimizer", parameters);
  EXPECT_EQ(reader.RequiredNumber("gamma", rule::kPositive), 2.0);
  EXPECT_EQ(reader.Number("beta1", 0.9, rule::kUnitHalfOpen), 0.9);
  EXPECT_TRUE(reader.Bool("staircase", false));
  EXPECT_FALSE(reader.Bool("cycle", false));
  EXPECT_TRUE(reader.Finish().ok());
}

TEST(ParameterReaderTest, NormalizesSpellingsOfOneConfiguration) {
  const Parameters short_form = Adam("gamma", int64_t{1});
  Parameters long_form("adam");
  long_form.Insert("gamma", 1.0);
  long_form.Insert("beta1", 0.9);
  long_form.Insert("nesterov", false);
  for (const Parameters& parameters : {short_form, long_form}) {
    ParameterReader reader("optimizer", parameters);
    reader.Number("gamma", 1e-3, rule::kPositive);
    reader.Number("beta1", 0.9, rule::kUnitHalfOpen);
    reader.Bool("nesterov", false);
    ASSERT_TRUE(reader.Finish().ok());
    EXPECT_EQ(reader.normalized(), long_form);
  }
}

TEST(ParameterReaderTest, ABrokenRuleNamesParameterRuleAndValue) {
  EXPECT_EQ(MessageFor(Adam("gamma", int64_t{-1})),
            "optimizer 'adam': parameter 'gamma' must be > 0. Received: gamma=-1");
  EXPECT_EQ(MessageFor(Adam("gamma", 0.0)),
            "optimizer 'adam': parameter 'gamma' must be > 0. Received: gamma=0");
  EXPECT_EQ(MessageFor(Adam("beta1", 1.0)),
            "optimizer 'adam': parameter 'beta1' must be in [0, 1). Received: beta1=1");
}

TEST(ParameterReaderTest, RulesHoldAfterRoundingToFloat32Too) {
  EXPECT_EQ(MessageFor(Adam("gamma", 1e-50)),
            "optimizer 'adam': parameter 'gamma' must be > 0 in float32. Received: gamma=1e-50");
  EXPECT_EQ(MessageFor(Adam("beta1", 0.9999999999)),
            "optimizer 'adam': parameter 'beta1' must be in [0, 1) in float32. Received: beta1=0.9999999999");
  EXPECT_EQ(MessageFor(Adam("gamma", 1e300)),
            "optimizer 'adam': parameter 'gamma' must be a finite number in float32. Received: gamma=1e+300");
}

TEST(ParameterReaderTest, NanAndInfinitiesAreRefused) {
  EXPECT_EQ(MessageFor(Adam("gamma", kNan)),
            "optimizer 'adam': parameter 'gamma' must be a finite number. Received: gamma=nan");
  EXPECT_EQ(MessageFor(Adam("gamma", kInfinity)),
            "optimizer 'adam': parameter 'gamma' must be a finite number. Received: gamma=inf");
  EXPECT_EQ(MessageFor(Adam("gamma", -kInfinity)),
            "optimizer 'adam': parameter 'gamma' must be a finite number. Received: gamma=-inf");
}

TEST(ParameterReaderTest, AWrongTypeNamesParameterAndValue) {
  EXPECT_EQ(MessageFor(Adam("gamma", std::string("x"))),
            "optimizer 'adam': parameter 'gamma' must be a number. Received: gamma='x'");
  EXPECT_EQ(MessageFor(Adam("gamma", true)),
            "optimizer 'adam': parameter 'gamma' must be a number. Received: gamma=true");
  EXPECT_EQ(MessageFor(Adam("nesterov", int64_t{1})),
            "optimizer 'adam': parameter 'nesterov' must be a boolean. Received: nesterov=1");
}

TEST(ParameterReaderTest, AnUnknownParameterListsTheKnownOnes) {
  EXPECT_EQ(MessageFor(Adam("gama", 1.0)),
            "optimizer 'adam' has no parameter 'gama'; known: 'beta1', 'gamma', 'nesterov'");
  const Parameters zeros = Adam("value", 1.0);
  EXPECT_EQ(ParameterReader("initializer", zeros).Finish().message(),
            "initializer 'adam' has no parameter 'value'; it takes none");
}

TEST(ParameterReaderTest, AMissingRequiredNumberIsNamedWithItsRule) {
  const Parameters parameters("cosine_decay");
  ParameterReader reader("schedule", parameters);
  reader.RequiredNumber("decay_steps", rule::kPositive);
  EXPECT_EQ(reader.Finish().message(),
            "schedule 'cosine_decay': parameter 'decay_steps' is required and must be > 0");
}

TEST(ParameterReaderTest, ReportsTheFirstFailure) {
  Parameters parameters = Adam("gamma", -1.0);
  parameters.Insert("beta1", 2.0);
  parameters.Insert("gama", 2.0);
  EXPECT_EQ(MessageFor(parameters), "optimizer 'adam': parameter 'gamma' must be > 0. Received: gamma=-1");
  EXPECT_EQ(MessageFor(Parameters()), "optimizer: parameter 'name' is required");
}

TEST(QuotedListTest, QuotesAndSeparates) {
  EXPECT_EQ(QuotedList({}), "");
  EXPECT_EQ(QuotedList({"a"}), "'a'");
  EXPECT_EQ(QuotedList({"b", "a"}), "'b', 'a'");
}

}  // namespace
}  // namespace damo
