// SPDX-License-Identifier: Apache-2.0
#include "damo/schedule/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "damo/schedule/schedule_factory.h"

namespace damo {
namespace {

using Entries = std::initializer_list<std::pair<const char*, Parameters::Value>>;

constexpr double kBase = 0.5;
constexpr int64_t kSteps[] = {0, 3, 10, 14, 20, 25};

Parameters With(std::string_view name, Entries entries) {
  Parameters parameters(name);
  for (const auto& [key, value] : entries) parameters.Insert(key, value);
  return parameters;
}

std::unique_ptr<const Schedule> Make(std::string_view name, Entries entries) {
  auto schedule = MakeSchedule(With(name, entries));
  EXPECT_TRUE(schedule.ok()) << schedule.status().ToString();
  return std::move(*schedule);
}

std::string MessageFor(const Parameters& parameters) {
  const auto schedule = MakeSchedule(parameters);
  EXPECT_EQ(schedule.status().code(), StatusCode::kInvalidArgument);
  return schedule.status().message();
}

// Checks the rates at kSteps. The expected values are tests/oracles.py's, and agree with
// tf.compat.v1.train.*_decay to float32; the tolerance is for the last bits of pow, exp and cos.
void ExpectRates(const Schedule& schedule, const std::vector<double>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(schedule.LearningRate(kBase, kSteps[i]), expected[i], 1e-14)
        << schedule.parameters().ToJson() << " step " << kSteps[i];
  }
}

TEST(ScheduleTest, ExponentialDecayGoesOnForEver) {
  ExpectRates(*Make("exponential_decay", {{"decay_steps", 10}, {"decay_rate", 0.5}}),
              {0.5, 0.40612619817811776, 0.25, 0.18946457081379975, 0.125, 0.088388347648318447});
}

TEST(ScheduleTest, ExponentialDecayWithStaircaseStandsBetweenPeriods) {
  ExpectRates(*Make("exponential_decay", {{"decay_steps", 10}, {"decay_rate", 0.5}, {"staircase", true}}),
              {0.5, 0.5, 0.25, 0.25, 0.125, 0.125});
}

TEST(ScheduleTest, NatureExponentialDecayFallsByPowersOfE) {
  ExpectRates(*Make("nature_exponential_decay", {{"decay_steps", 10}, {"decay_rate", 0.5}}),
              {0.5, 0.43035398821252889, 0.30326532985631671, 0.24829265189570476, 0.18393972058572117,
               0.14325239843009505});
}

TEST(ScheduleTest, NatureExponentialDecayWithStaircaseStandsBetweenPeriods) {
  ExpectRates(
      *Make("nature_exponential_decay", {{"decay_steps", 10}, {"decay_rate", 0.5}, {"staircase", true}}),
      {0.5, 0.5, 0.30326532985631671, 0.30326532985631671, 0.18393972058572117, 0.18393972058572117});
}

TEST(ScheduleTest, InverseTimeDecayDividesByTheTime) {
  ExpectRates(*Make("inverse_time_decay", {{"decay_steps", 10}, {"decay_rate", 0.5}}),
              {0.5, 0.5 / 1.15, 0.5 / 1.5, 0.5 / 1.7, 0.25, 0.5 / 2.25});
}

TEST(ScheduleTest, InverseTimeDecayWithStaircaseStandsBetweenPeriods) {
  ExpectRates(*Make("inverse_time_decay", {{"decay_steps", 10}, {"decay_rate", 0.5}, {"staircase", true}}),
              {0.5, 0.5, 0.5 / 1.5, 0.5 / 1.5, 0.25, 0.25});
}

TEST(ScheduleTest, PolynomialDecayIsLinearByDefaultAndStaysAtItsEnd) {
  ExpectRates(*Make("polynomial_decay", {{"decay_steps", 10}}), {0.5, 0.35003, 1e-4, 1e-4, 1e-4, 1e-4});
}

TEST(ScheduleTest, PolynomialDecayFollowsItsPower) {
  ExpectRates(*Make("polynomial_decay", {{"decay_steps", 10}, {"end_learning_rate", 0.1}, {"power", 2.0}}),
              {0.5, 0.296, 0.1, 0.1, 0.1, 0.1});
}

TEST(ScheduleTest, PolynomialDecayWithCycleStretchesToTheNextMultiple) {
  ExpectRates(*Make("polynomial_decay",
                    {{"decay_steps", 10}, {"end_learning_rate", 0.1}, {"power", 2.0}, {"cycle", true}}),
              {0.5, 0.296, 0.1, 0.136, 0.1, 0.1 + 0.4 / 36});
}

// With such a step the quotient step / (decay_steps * cycles) rounds to more than 1, or would without care.
TEST(ScheduleTest, PolynomialDecayWithCycleIsNeverNan) {
  for (const double decay_steps : {0.1, 0.3, 0.7, 1e-3}) {
    const auto schedule =
        Make("polynomial_decay", {{"decay_steps", decay_steps}, {"power", 0.5}, {"cycle", true}});
    for (int64_t step = 0; step < 2000; ++step) {
      ASSERT_TRUE(std::isfinite(schedule->LearningRate(kBase, step))) << decay_steps << " step " << step;
    }
  }
}

TEST(ScheduleTest, CosineDecayEndsAtZeroAndStaysThere) {
  ExpectRates(*Make("cosine_decay", {{"decay_steps", 10}}), {0.5, 0.39694631307311834, 0, 0, 0, 0});
}

TEST(ScheduleTest, CosineDecayEndsAtAlpha) {
  ExpectRates(*Make("cosine_decay", {{"decay_steps", 10}, {"alpha", 0.1}}),
              {0.5, 0.40725168176580649, 0.05, 0.05, 0.05, 0.05});
}

TEST(ScheduleTest, LinearCosineDecayEndsAtBeta) {
  ExpectRates(*Make("liner_cosine_decay", {{"decay_steps", 10}}),
              {0.5005, 0.27836241915118284, 0.0005, 0.0005, 0.0005, 0.0005});
}

TEST(ScheduleTest, LinearCosineDecayRunsThroughItsPeriods) {
  ExpectRates(
      *Make("liner_cosine_decay", {{"decay_steps", 10}, {"num_periods", 2}, {"alpha", 0.1}, {"beta", 0.01}}),
      {0.555, 0.043196601125010524, 0.055, 0.055, 0.055, 0.055});
}

TEST(ScheduleTest, LinearCosineDecayWithoutPeriodsIsLinear) {
  ExpectRates(*Make("liner_cosine_decay", {{"decay_steps", 10}, {"num_periods", 0}}),
              {0.5005, 0.3505, 0.0005, 0.0005, 0.0005, 0.0005});
}

TEST(ScheduleTest, BothSpellingsOfLinearCosineDecayAreOneConfiguration) {
  const auto liner = Make("liner_cosine_decay", {{"decay_steps", 10}});
  const auto linear = Make("linear_cosine_decay", {{"decay_steps", 10}});
  EXPECT_EQ(liner->parameters(), linear->parameters());
  EXPECT_EQ(linear->parameters().ToJson(),
            R"({"alpha":0.0,"beta":0.001,"decay_steps":10.0,"name":"liner_cosine_decay","num_periods":0.5})");
}

TEST(ScheduleTest, RatesStayFiniteAndNonNegativeAtTheLastStep) {
  for (const auto& schedule : {
           Make("exponential_decay", {{"decay_steps", 10}, {"decay_rate", 0.5}}),
           Make("nature_exponential_decay", {{"decay_steps", 10}, {"decay_rate", 0.5}}),
           Make("inverse_time_decay", {{"decay_steps", 10}, {"decay_rate", 0.5}}),
           Make("polynomial_decay", {{"decay_steps", 10}}),
           Make("polynomial_decay", {{"decay_steps", 10}, {"cycle", true}}),
           Make("cosine_decay", {{"decay_steps", 10}}),
           Make("liner_cosine_decay", {{"decay_steps", 10}}),
       }) {
    const double rate = schedule->LearningRate(kBase, std::numeric_limits<int64_t>::max());
    EXPECT_TRUE(rate >= 0 && rate <= kBase) << schedule->parameters().ToJson() << " rate " << rate;
  }
}

TEST(ScheduleTest, EveryParameterHasItsRule) {
  const struct {
    const char* schedule;
    const char* parameter;
    double wrong;
    const char* rule;
  } cases[] = {
      {"exponential_decay", "decay_steps", 0, "> 0"},
      {"exponential_decay", "decay_rate", 0, "> 0"},
      {"nature_exponential_decay", "decay_steps", 0, "> 0"},
      {"nature_exponential_decay", "decay_rate", -1, ">= 0"},
      {"inverse_time_decay", "decay_steps", 0, "> 0"},
      {"inverse_time_decay", "decay_rate", -1, ">= 0"},
      {"polynomial_decay", "decay_steps", 0, "> 0"},
      {"polynomial_decay", "end_learning_rate", -1, ">= 0"},
      {"polynomial_decay", "power", -1, ">= 0"},
      {"cosine_decay", "decay_steps", 0, "> 0"},
      {"cosine_decay", "alpha", -1, ">= 0"},
      {"linear_cosine_decay", "decay_steps", 0, "> 0"},
      {"linear_cosine_decay", "num_periods", -1, ">= 0"},
      {"linear_cosine_decay", "alpha", -1, ">= 0"},
      {"linear_cosine_decay", "beta", -1, ">= 0"},
  };
  for (const auto& [schedule, parameter, wrong, rule] : cases) {
    Parameters parameters = With(schedule, {{"decay_steps", 10}});
    parameters.Insert(parameter, wrong);
    EXPECT_EQ(MessageFor(parameters), StrCat("schedule '", schedule, "': parameter '", parameter,
                                             "' must be ", rule, ". Received: ", parameter, "=", wrong));
  }
}

TEST(ScheduleTest, WhatHasNoDefaultIsRequired) {
  for (const char* name : {"exponential_decay", "nature_exponential_decay", "inverse_time_decay",
                           "polynomial_decay", "cosine_decay", "liner_cosine_decay"}) {
    EXPECT_EQ(MessageFor(Parameters(name)),
              StrCat("schedule '", name, "': parameter 'decay_steps' is required and must be > 0"));
  }
  EXPECT_EQ(MessageFor(With("exponential_decay", {{"decay_steps", 10}})),
            "schedule 'exponential_decay': parameter 'decay_rate' is required and must be > 0");
}

TEST(ScheduleTest, UnknownNamesListTheKnownOnes) {
  EXPECT_EQ(
      MessageFor(Parameters("step_decay")),
      "unknown schedule 'step_decay'; known: 'cosine_decay', 'exponential_decay', 'inverse_time_decay', "
      "'linear_cosine_decay', 'liner_cosine_decay', 'nature_exponential_decay', 'polynomial_decay'");
  EXPECT_EQ(MessageFor(With("cosine_decay", {{"decay_steps", 10}, {"beta", 1}})),
            "schedule 'cosine_decay' has no parameter 'beta'; known: 'alpha', 'decay_steps'");
}

}  // namespace
}  // namespace damo
