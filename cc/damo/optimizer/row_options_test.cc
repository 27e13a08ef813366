// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/row_options.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "damo/optimizer/test_optimizers.h"

namespace damo {
namespace {

// The weights and then the slots after one step at the optimizer's own rate.
Values AfterOneStep(const Optimizer& optimizer, Values weights, Values gradient, int64_t update_num = 1) {
  Values slots(weights.size() * optimizer.slot_names().size());
  optimizer.Update({optimizer.learning_rate(), update_num}, gradient, weights, slots);
  weights.insert(weights.end(), slots.begin(), slots.end());
  return weights;
}

TEST(RowOptionsTest, ClipnormScalesALongGradientDownToItsNorm) {
  const auto sgd = MakeOrFail("sgd", {{"gamma", 1}, {"clipnorm", 1}});
  EXPECT_EQ(AfterOneStep(*sgd, {0, 0}, {3, -4}), (Values{-3 * 0.2F, 4 * 0.2F}));
}

TEST(RowOptionsTest, ClipnormLeavesAGradientOfThatNorm) {
  const auto sgd = MakeOrFail("sgd", {{"gamma", 1}, {"clipnorm", 5}});
  EXPECT_EQ(AfterOneStep(*sgd, {0, 0}, {3, -4}), (Values{-3, 4}));
  EXPECT_EQ(AfterOneStep(*sgd, {1, 1}, {0, 0}), (Values{1, 1}));
}

TEST(RowOptionsTest, ClipnormOfAGradientWhoseSquareOverflowsFloat32) {
  const auto sgd = MakeOrFail("sgd", {{"gamma", 1}, {"clipnorm", 1}});
  constexpr float kLargest = std::numeric_limits<float>::max();
  const Values weights = AfterOneStep(*sgd, {0, 0, 0, 0}, {kLargest, kLargest, -kLargest, kLargest});
  for (const float weight : weights) EXPECT_FLOAT_EQ(std::abs(weight), 0.5F);
}

TEST(RowOptionsTest, ClipvalueClipsEachElement) {
  const auto sgd = MakeOrFail("sgd", {{"gamma", 1}, {"clipvalue", 0.5}});
  EXPECT_EQ(AfterOneStep(*sgd, {0, 0, 0, 0}, {2, -2, 0.25F, -0.5F}), (Values{-0.5F, 0.5F, -0.25F, 0.5F}));
}

TEST(RowOptionsTest, EveryOptimizerStepsWithTheClippedGradient) {
  for (const char* name : kOptimizerNames) {
    const auto plain = MakeOrFail(name, {});
    EXPECT_EQ(AfterOneStep(*MakeOrFail(name, {{"clipnorm", 1}}), {0.5F, -1}, {3, -4}),
              AfterOneStep(*plain, {0.5F, -1}, {3 * 0.2F, -4 * 0.2F}))
        << name;
    EXPECT_EQ(AfterOneStep(*MakeOrFail(name, {{"clipvalue", 1}}), {0.5F, -1}, {3, 0.5F}),
              AfterOneStep(*plain, {0.5F, -1}, {1, 0.5F}))
        << name;
  }
}

TEST(RowOptionsTest, PenaltiesAreAddedAfterClipping) {
  const auto sgd = MakeOrFail("sgd", {{"gamma", 1}, {"lambda", 1}, {"clipvalue", 0.5}});
  EXPECT_EQ(AfterOneStep(*sgd, {4}, {2}), Values{4 - (0.5F + 4)});
}

TEST(RowOptionsTest, WeightsDecayByTheStepsRateBeforeTheStep) {
  for (const char* name : {"sgd", "adagrad", "adam"}) {
    const auto decaying = MakeOrFail(name, {{"gamma", 0.5}, {"weight_decay", 0.5}});
    const auto plain = MakeOrFail(name, {{"gamma", 0.5}});
    EXPECT_EQ(AfterOneStep(*decaying, {4, -2}, {1, 0}), AfterOneStep(*plain, {3, -1.5F}, {1, 0})) << name;
  }
}

// Their formulas are one; adamw rounds once less.
TEST(RowOptionsTest, AdamWithWeightDecayIsAdamw) {
  const Values adam = AfterOneStep(*MakeOrFail("adam", {{"weight_decay", 0.1}}), {0.5F, -1}, {3, -4}, 7);
  const Values adamw = AfterOneStep(*MakeOrFail("adamw", {{"lambda", 0.1}}), {0.5F, -1}, {3, -4}, 7);
  for (size_t i = 0; i < adam.size(); ++i) EXPECT_FLOAT_EQ(adam[i], adamw[i]);
}

TEST(RowOptionsTest, SlotsAndRateAreTheOptimizersOwn) {
  const auto adam = MakeOrFail("adam", {{"gamma", 0.25}, {"clipnorm", 1}});
  EXPECT_EQ(adam->learning_rate(), 0.25);
  ASSERT_EQ(adam->slot_names().size(), 2U);
  EXPECT_EQ(adam->slot_names()[1], "v");
}

// Configs on disk that were written before there were options must stay equal to those without.
TEST(RowOptionsTest, WhatIsOffIsAbsentFromTheParameters) {
  const auto sgd = MakeOrFail("sgd", {{"weight_decay", 0}});
  EXPECT_EQ(sgd->parameters(), With("sgd", {{"gamma", 1e-3}, {"lambda", 0}}));
}

TEST(RowOptionsTest, WhatIsOnIsAmongTheParameters) {
  EXPECT_EQ(MakeOrFail("sgd", {{"clipnorm", 2}, {"weight_decay", 0.5}})->parameters(),
            With("sgd", {{"gamma", 1e-3}, {"lambda", 0}, {"clipnorm", 2}, {"weight_decay", 0.5}}));
  EXPECT_EQ(
      MakeOrFail("lion", {{"clipvalue", 2}})->parameters(),
      With("lion", {{"eta", 3e-4}, {"beta1", 0.9}, {"beta2", 0.99}, {"lambda", 1e-2}, {"clipvalue", 2}}));
}

TEST(RowOptionsTest, EveryOptionHasItsRule) {
  for (const char* name : kOptimizerNames) {
    for (const char* option : {"clipnorm", "clipvalue"}) {
      EXPECT_EQ(MessageFor(With(name, {{option, 0}})), StrCat("optimizer '", name, "': parameter '", option,
                                                              "' must be > 0. Received: ", option, "=0"));
    }
  }
  EXPECT_EQ(MessageFor(With("sgd", {{"weight_decay", -1}})),
            "optimizer 'sgd': parameter 'weight_decay' must be >= 0. Received: weight_decay=-1");
}

TEST(RowOptionsTest, OnlyOneKindOfClippingIsAllowed) {
  EXPECT_EQ(MessageFor(With("adam", {{"clipnorm", 1}, {"clipvalue", 2}})),
            "optimizer 'adam': at most one of 'clipnorm' and 'clipvalue' may be set. Received: clipnorm=1, "
            "clipvalue=2");
}

TEST(RowOptionsTest, WeightDecayIsForOptimizersThatHaveNoneOfTheirOwn) {
  for (const char* name : {"adamw", "lion", "ftrl"}) {
    EXPECT_NE(MessageFor(With(name, {{"weight_decay", 0.1}})).find("has no parameter 'weight_decay'"),
              std::string::npos)
        << name;
  }
}

}  // namespace
}  // namespace damo
