// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "damo/base/float_environment.h"
#include "damo/optimizer/integer_power.h"
#include "damo/optimizer/test_optimizers.h"

namespace damo {
namespace {

// A row and the optimizer that moves it.
struct Row {
  Row(const Optimizer& rule, Values initial)
      : optimizer(rule), weights(std::move(initial)), slots(weights.size() * rule.slot_names().size()) {}

  void Step(const Values& gradient) { Step(gradient, optimizer.learning_rate()); }
  void Step(Values gradient, double learning_rate) {
    optimizer.Update({learning_rate, ++update_num}, gradient, weights, slots);
  }

  const Optimizer& optimizer;
  Values weights;
  Values slots;
  int64_t update_num = 0;
};

// Three steps from one row, with gradients that grow. The values are those of tests/oracles.py; bits, because
// contract C5 promises them.
Row AfterThreeSteps(const Optimizer& optimizer) {
  Row row(optimizer, {0.1F, -0.2F, 0.3F, -0.4F, 0.5F});
  for (const float t : {1.0F, 2.0F, 3.0F}) row.Step({0.5F * t, -0.25F * t, 0, 1e-3F * t, -2 * t});
  return row;
}

TEST(OptimizerTest, SgdMatchesGoldenBits) {
  const auto sgd = MakeOrFail("sgd", {{"lambda", 0.01}});
  const Row row = AfterThreeSteps(*sgd);
  EXPECT_EQ(row.weights,
            (Values{0x1.8d4ccp-4f, -0x1.96840ap-3f, 0x1.3330d6p-2f, -0x1.999806p-2f, 0x1.0622e4p-1f}));
}

TEST(OptimizerTest, AdagradMatchesGoldenBits) {
  const auto adagrad = MakeOrFail("adagrad", {{"lambda", 0.01}, {"eta", 0.1}});
  const Row row = AfterThreeSteps(*adagrad);
  EXPECT_EQ(row.weights,
            (Values{0x1.33faeep-4f, -0x1.66cefp-3f, 0x1.1db134p-2f, -0x1.8863c4p-2f, 0x1.0cb4b8p-1f}));
  EXPECT_EQ(row.slots,
            (Values{0x1.c0ac52p+1f, 0x1.c2e32p-1f, 0x1.ab1b4p-16f, 0x1.bf712ap-17f, 0x1.bf044ep+5f}));
}

TEST(OptimizerTest, AdamMatchesGoldenBits) {
  const auto adam = MakeOrFail("adam", {{"lambda", 0.01}});
  const Row row = AfterThreeSteps(*adam);
  EXPECT_EQ(row.weights,
            (Values{0x1.8da032p-4f, -0x1.939c92p-3f, 0x1.3020dep-2f, -0x1.96ab9cp-2f, 0x1.017f1cp-1f}));
  EXPECT_EQ(row.slots,
            (Values{0x1.1f81bp-2f, -0x1.20560ep-3f, 0x1.a8b9ccp-11f, -0x1.10b2b2p-11f, -0x1.1ee268p+0f,
                    0x1.cb54d8p-9f, 0x1.cdaf44p-11f, 0x1.cc4f68p-26f, 0x1.dd9228p-27f, 0x1.c99234p-5f}));
}

TEST(OptimizerTest, AdamwMatchesGoldenBits) {
  const auto adamw = MakeOrFail("adamw");
  const Row row = AfterThreeSteps(*adamw);
  EXPECT_EQ(row.weights,
            (Values{0x1.8d9d4cp-4f, -0x1.9399e2p-3f, 0x1.3330d6p-2f, -0x1.9c94bcp-2f, 0x1.017d2ep-1f}));
  EXPECT_EQ(row.slots, (Values{0x1.1f3b64p-2f, -0x1.1f3b64p-3f, 0, 0x1.262024p-11f, -0x1.1f3b64p+0f,
                               0x1.ca8e3p-9f, 0x1.ca8e3p-11f, 0, 0x1.e0d48cp-27f, 0x1.ca8e3p-5f}));
}

TEST(OptimizerTest, FtrlMatchesGoldenBits) {
  const auto ftrl = MakeOrFail("ftrl", {{"beta", 1}, {"lambda1", 0.1}, {"lambda2", 0.01}});
  const Row row = AfterThreeSteps(*ftrl);
  EXPECT_EQ(row.weights, (Values{0x1.afde9ap-6f, -0x1.1f30b8p-5f, 0, 0, 0x1.5fef1ep-2f}));
  EXPECT_EQ(row.slots, (Values{-0x1.e783b4p+3f, 0x1.b57488p+3f, 0, 0x1.60418ap-4f, -0x1.239c6cp+9f, 0x1.cp+1f,
                               0x1.cp-1f, 0, 0x1.d5c318p-17f, 0x1.cp+5f}));
}

TEST(OptimizerTest, LionMatchesGoldenBits) {
  const auto lion = MakeOrFail("lion");
  const Row row = AfterThreeSteps(*lion);
  EXPECT_EQ(row.weights,
            (Values{0x1.95e8f2p-4f, -0x1.97c0ccp-3f, 0x1.33328p-2f, -0x1.9a8496p-2f, 0x1.00756p-1f}));
  EXPECT_EQ(row.slots, (Values{0x1.e8405cp-6f, -0x1.e8405cp-7f, 0, 0x1.f3f82cp-15f, -0x1.e8405cp-4f}));
}

// A vectorized loop must give its last, odd elements the same bits.
TEST(OptimizerTest, ElementsAreIndependentAndTreatedAlike) {
  constexpr size_t kDim = 23;
  Values initial(kDim), gradient(kDim);
  for (size_t i = 0; i < kDim; ++i) {
    initial[i] = 0.1F * static_cast<float>(i) - 1;
    gradient[i] = std::sin(static_cast<float>(i));
  }
  for (const char* name : kOptimizerNames) {
    const auto optimizer = MakeOrFail(name);
    Row row(*optimizer, initial);
    for (int step = 0; step < 4; ++step) row.Step(gradient);
    for (size_t i = 0; i < kDim; ++i) {
      Row element(*optimizer, {initial[i]});
      for (int step = 0; step < 4; ++step) element.Step({gradient[i]});
      EXPECT_EQ(row.weights[i], element.weights[0]) << name << " element " << i;
      for (size_t slot = 0; slot < element.slots.size(); ++slot) {
        EXPECT_EQ(row.slots[slot * kDim + i], element.slots[slot]) << name << " element " << i;
      }
    }
  }
}

TEST(OptimizerTest, AnEmptyRowIsLegal) {
  for (const char* name : kOptimizerNames) {
    const auto optimizer = MakeOrFail(name);
    Row row(*optimizer, {});
    row.Step({});
    EXPECT_TRUE(row.weights.empty());
  }
}

TEST(OptimizerTest, TheStepsLearningRateReplacesTheConfiguredOne) {
  for (const char* name : kOptimizerNames) {
    const auto optimizer = MakeOrFail(name);
    Row slow(*optimizer, {0}), fast(*optimizer, {0});
    slow.Step({1}, 0.001);
    fast.Step({1}, 0.01);
    EXPECT_NEAR(slow.weights[0], -0.001, 1e-8) << name;
    EXPECT_NEAR(fast.weights[0], -0.01, 1e-7) << name;
  }
}

TEST(OptimizerTest, ALearningRateOfZeroLeavesTheWeights) {
  for (const char* name : kOptimizerNames) {
    const auto optimizer = MakeOrFail(name);
    Row row(*optimizer, {0.5F, -0.25F});
    row.Step({1, -1}, 0.0);
    EXPECT_EQ(row.weights, (Values{0.5F, -0.25F})) << name;
  }
}

// 1 - beta^t of the row's own t: after any number of updates with one constant gradient, m_hat = g and
// sqrt(v_hat) = |g|, so each step is the learning rate.
TEST(OptimizerTest, AdamCorrectsBiasByTheRowsOwnUpdates) {
  for (const char* name : {"adam", "adamw"}) {
    const auto optimizer = MakeOrFail(name, {{"gamma", 0.01}, {"lambda", 0}});
    Row row(*optimizer, {0});
    for (int t = 1; t <= 5000; ++t) {
      const float before = row.weights[0];
      row.Step({0.125F});
      ASSERT_NEAR(before - row.weights[0], 0.01F, 2e-5) << name << " step " << t;
    }
  }
}

TEST(OptimizerTest, AdamOfAVeryOldRowStaysFinite) {
  for (const char* name : {"adam", "adamw"}) {
    const auto optimizer = MakeOrFail(name);
    Row row(*optimizer, {1});
    row.update_num = std::numeric_limits<int64_t>::max() - 1;
    row.Step({1});
    EXPECT_TRUE(std::isfinite(row.weights[0])) << name;
    EXPECT_LT(row.weights[0], 1) << name;
  }
}

TEST(OptimizerTest, AdamTakesAPenaltyIntoItsMomentsAndAdamwDoesNot) {
  const auto adam = MakeOrFail("adam", {{"lambda", 0.5}});
  Row penalized(*adam, {2});
  penalized.Step({0});
  EXPECT_NEAR(penalized.weights[0], 2 - 1e-3, 1e-6);  // the penalty is the gradient; its size is divided out
  EXPECT_GT(penalized.slots[0], 0);
  const auto adamw = MakeOrFail("adamw", {{"lambda", 0.5}});
  Row decayed(*adamw, {2});
  decayed.Step({0});
  EXPECT_NEAR(decayed.weights[0], 2 * (1 - 1e-3 * 0.5), 1e-6);
  EXPECT_EQ(decayed.slots, (Values{0, 0}));
}

TEST(OptimizerTest, LionDoesNotMoveWhereTheDirectionIsZero) {
  const auto lion = MakeOrFail("lion", {{"lambda", 0}});
  Row row(*lion, {0.5F, 0.5F, 0.5F});
  row.Step({0, 1e-30F, -1e-30F});
  EXPECT_EQ(row.weights[0], 0.5F);
  EXPECT_FLOAT_EQ(row.weights[1], 0.5F - 3e-4F);
  EXPECT_FLOAT_EQ(row.weights[2], 0.5F + 3e-4F);
}

TEST(OptimizerTest, FtrlZeroesWeightsWithinTheL1Penalty) {
  const auto ftrl = MakeOrFail("ftrl", {{"lambda1", 1}});
  Row row(*ftrl, {0, 0, 0});
  row.Step({1, -0.5F, 3});
  EXPECT_EQ(row.weights[0], 0);
  EXPECT_EQ(row.weights[1], 0);
  EXPECT_FLOAT_EQ(row.weights[2], -(3.0F - 1) / (3 / 5e-3F));
}

TEST(OptimizerTest, FtrlKeepsAnInitialWeightOnlyWhereThereIsAGradient) {
  const auto ftrl = MakeOrFail("ftrl");
  Row row(*ftrl, {0.5F, 0.5F});
  row.Step({1, 0});
  EXPECT_FLOAT_EQ(row.weights[0], 0.5F - 5e-3F);
  EXPECT_EQ(row.weights[1], 0);
}

TEST(OptimizerTest, FtrlKeepsAWeightWhoseSquaredGradientVanishes) {
  const auto ftrl = MakeOrFail("ftrl");
  Row row(*ftrl, {0.5F});
  row.Step({1e-30F});
  EXPECT_EQ(row.weights[0], 0.5F);
  EXPECT_EQ(row.slots, (Values{1e-30F, 0}));
}

TEST(OptimizerTest, FtrlSaturatesWhereTheSquaredGradientOverflows) {
  const auto ftrl = MakeOrFail("ftrl");
  Row row(*ftrl, {0, 0.5F});
  for (int step = 0; step < 3; ++step) row.Step({1e20F, 1e20F});
  for (const float value : row.weights) EXPECT_TRUE(std::isfinite(value));
  for (const float value : row.slots) EXPECT_TRUE(std::isfinite(value));
}

TEST(OptimizerTest, FtrlKeepsARowWhoseLearningRateHasVanished) {
  const auto ftrl = MakeOrFail("ftrl");
  Row row(*ftrl, {0.5F});
  row.Step({1}, 1e-39);
  EXPECT_EQ(row.weights, Values{0.5F});
  EXPECT_EQ(row.slots, (Values{0, 0}));
}

#if defined(__SSE2__)
// Flushes subnormals to zero and reads them as zero, as TensorFlow's threads do, while it lives.
class ScopedFlushToZero {
 public:
  ScopedFlushToZero() { __builtin_ia32_ldmxcsr(saved_ | 0x8040); }
  ~ScopedFlushToZero() { __builtin_ia32_ldmxcsr(saved_); }

 private:
  const unsigned saved_ = __builtin_ia32_stmxcsr();
};

TEST(FloatEnvironmentTest, GivesAThreadThatFlushesSubnormalsTheSameBits) {
  for (const char* name : {"adagrad", "adam", "adamw", "ftrl"}) {
    const auto optimizer = MakeOrFail(name);
    const Values gradient{1e-20F, -3e-20F, 7e-21F, 1e-22F, 5e-21F};  // their squares are subnormal
    Row expected(*optimizer, {0, 0, 0, 0, 0});
    expected.Step(gradient);
    const ScopedFlushToZero flush;
    Row flushed(*optimizer, {0, 0, 0, 0, 0});
    flushed.Step(gradient);
    Row guarded(*optimizer, {0, 0, 0, 0, 0});
    {
      const ScopedFloatEnvironment environment;
      guarded.Step(gradient);
      EXPECT_NE(flushed.slots, expected.slots) << name;  // in this scope subnormals compare as what they are
      EXPECT_EQ(guarded.slots, expected.slots) << name;
      EXPECT_EQ(guarded.weights, expected.weights) << name;
    }
    EXPECT_EQ(__builtin_ia32_stmxcsr() & 0x8040, 0x8040U) << "the caller's environment was not restored";
  }
}
#endif

TEST(IntegerPowerTest, IsExactWhereDoublesAreAndCloseElsewhere) {
  const IntegerPower power_of_two(2);
  for (int exponent = 0; exponent <= 1000; ++exponent) {
    EXPECT_EQ(power_of_two(exponent), std::ldexp(1.0, exponent));
  }
  const IntegerPower power(0.999);
  for (int64_t exponent = 1; exponent < 100000; exponent = exponent * 3 + 1) {
    const double expected = std::pow(0.999, static_cast<double>(exponent));
    EXPECT_NEAR(power(exponent), expected, 1e-11 * expected) << exponent;
  }
  EXPECT_EQ(power(std::numeric_limits<int64_t>::max()), 0);
  EXPECT_EQ(IntegerPower(0)(1), 0);
  EXPECT_EQ(IntegerPower(0)(0), 1);
}

TEST(OptimizerTest, SlotsHaveTheDocumentedNamesAndOrder) {
  const auto names = [](std::string_view name) {
    std::vector<std::string> result;
    for (const std::string_view slot : MakeOrFail(name)->slot_names()) result.emplace_back(slot);
    return result;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names("sgd"), Names());
  EXPECT_EQ(names("adagrad"), Names{"sum"});
  EXPECT_EQ(names("adam"), (Names{"m", "v"}));
  EXPECT_EQ(names("adamw"), (Names{"m", "v"}));
  EXPECT_EQ(names("ftrl"), (Names{"z", "n"}));
  EXPECT_EQ(names("lion"), Names{"m"});
}

TEST(OptimizerTest, ParametersAreNormalizedWithTheDocumentedDefaults) {
  EXPECT_EQ(MakeOrFail("sgd")->parameters(), With("sgd", {{"gamma", 1e-3}, {"lambda", 0}}));
  EXPECT_EQ(MakeOrFail("ftrl")->parameters(),
            With("ftrl", {{"gamma", 5e-3}, {"beta", 0}, {"lambda1", 0}, {"lambda2", 0}}));
  EXPECT_EQ(MakeOrFail("adagrad")->parameters(),
            With("adagrad", {{"gamma", 1e-2}, {"lambda", 0}, {"eta", 0}, {"epsilon", 1e-10}}));
  const Entries adam = {{"gamma", 1e-3}, {"beta1", 0.9}, {"beta2", 0.999}, {"lambda", 0}, {"epsilon", 1e-8}};
  EXPECT_EQ(MakeOrFail("adam")->parameters(), With("adam", adam));
  Parameters adamw = With("adamw", adam);
  adamw.Insert("lambda", 1e-2);
  EXPECT_EQ(MakeOrFail("adamw")->parameters(), adamw);
  EXPECT_EQ(MakeOrFail("lion")->parameters(),
            With("lion", {{"eta", 3e-4}, {"beta1", 0.9}, {"beta2", 0.99}, {"lambda", 1e-2}}));
}

TEST(OptimizerTest, LearningRateIsTheConfiguredOne) {
  for (const char* name : {"sgd", "adagrad", "adam", "adamw", "ftrl"}) {
    EXPECT_EQ(MakeOrFail(name, {{"gamma", 0.25}})->learning_rate(), 0.25) << name;
  }
  EXPECT_EQ(MakeOrFail("lion", {{"eta", 0.25}})->learning_rate(), 0.25);
}

TEST(OptimizerTest, EveryParameterHasItsRule) {
  const struct {
    const char* optimizer;
    const char* parameter;
    double wrong;
    const char* rule;
  } cases[] = {
      {"sgd", "gamma", 0, "> 0"},         {"sgd", "lambda", -1, ">= 0"},
      {"ftrl", "gamma", 0, "> 0"},        {"ftrl", "beta", -1, ">= 0"},
      {"ftrl", "lambda1", -1, ">= 0"},    {"ftrl", "lambda2", -1, ">= 0"},
      {"adagrad", "gamma", 0, "> 0"},     {"adagrad", "lambda", -1, ">= 0"},
      {"adagrad", "eta", -1, ">= 0"},     {"adagrad", "epsilon", 0, "> 0"},
      {"adam", "gamma", 0, "> 0"},        {"adam", "beta1", 1, "in [0, 1)"},
      {"adam", "beta2", -1, "in [0, 1)"}, {"adam", "lambda", -1, ">= 0"},
      {"adam", "epsilon", 0, "> 0"},      {"adamw", "gamma", 0, "> 0"},
      {"adamw", "beta1", 1, "in [0, 1)"}, {"adamw", "beta2", -1, "in [0, 1)"},
      {"adamw", "lambda", -1, ">= 0"},    {"adamw", "epsilon", 0, "> 0"},
      {"lion", "eta", 0, "> 0"},          {"lion", "beta1", 1, "in [0, 1)"},
      {"lion", "beta2", -1, "in [0, 1)"}, {"lion", "lambda", -1, ">= 0"},
  };
  for (const auto& [optimizer, parameter, wrong, rule] : cases) {
    EXPECT_EQ(MessageFor(With(optimizer, {{parameter, wrong}})),
              StrCat("optimizer '", optimizer, "': parameter '", parameter, "' must be ", rule,
                     ". Received: ", parameter, "=", wrong));
  }
}

TEST(OptimizerTest, UnknownNamesListTheKnownOnes) {
  EXPECT_EQ(MessageFor(Parameters("adamm")),
            "unknown optimizer 'adamm'; known: 'adagrad', 'adam', 'adamw', 'ftrl', 'lion', 'sgd'");
  EXPECT_EQ(MessageFor(With("adam", {{"gama", 1}})),
            "optimizer 'adam' has no parameter 'gama'; known: 'beta1', 'beta2', 'clipnorm', 'clipvalue', "
            "'epsilon', 'gamma', 'lambda', 'weight_decay'");
  EXPECT_EQ(MessageFor(Parameters()), "optimizer: parameter 'name' is required");
}

}  // namespace
}  // namespace damo
