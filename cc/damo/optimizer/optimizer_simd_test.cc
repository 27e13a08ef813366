// SPDX-License-Identifier: Apache-2.0
//
// Every optimizer at every SIMD level against the plain loop: its own arithmetic on one element at a time.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "damo/base/test_simd_level.h"
#include "damo/optimizer/optimizer_factory.h"

namespace damo {
namespace {

constexpr int kNumSteps = 12;

std::unique_ptr<const Optimizer> Make(const char* name,
                                      std::initializer_list<std::pair<const char*, double>> entries) {
  Parameters parameters(name);
  for (const auto& [key, value] : entries) parameters.Insert(key, value);
  auto optimizer = MakeOptimizer(parameters);
  EXPECT_TRUE(optimizer.ok()) << optimizer.status().ToString();
  return std::move(*optimizer);
}

// Each optimizer with its defaults, and with every term of its formula at work.
std::vector<std::unique_ptr<const Optimizer>> Optimizers() {
  std::vector<std::unique_ptr<const Optimizer>> optimizers;
  for (const char* name : {"sgd", "adagrad", "adam", "adamw", "ftrl", "lion"}) {
    optimizers.push_back(Make(name, {}));
  }
  optimizers.push_back(Make("sgd", {{"gamma", 0.3}, {"lambda", 0.1}}));
  optimizers.push_back(Make("adagrad", {{"gamma", 0.3}, {"lambda", 0.1}, {"eta", 0.1}}));
  optimizers.push_back(Make("adam", {{"gamma", 0.3}, {"lambda", 0.1}, {"beta2", 0.9}}));
  optimizers.push_back(Make("adamw", {{"gamma", 0.3}, {"lambda", 0.1}, {"beta2", 0.9}}));
  optimizers.push_back(Make("ftrl", {{"gamma", 0.3}, {"beta", 0.1}, {"lambda1", 0.1}, {"lambda2", 0.1}}));
  optimizers.push_back(Make("lion", {{"eta", 0.3}, {"lambda", 0.1}, {"beta2", 0.5}}));
  optimizers.push_back(Make("sgd", {{"gamma", 0.3}, {"clipvalue", 0.5}, {"weight_decay", 0.1}}));
  optimizers.push_back(Make("lion", {{"eta", 0.3}, {"clipvalue", 0.5}}));
  return optimizers;
}

// A row inside a buffer, with floats before and after it that no update may touch, and the gradients of
// kNumSteps steps.
class Case {
 public:
  // The floats of the row begin `offset` floats after the buffer.
  Case(const Optimizer& optimizer, size_t dim, size_t offset, uint32_t seed)
      : optimizer_(optimizer),
        dim_(dim),
        offset_(offset),
        random_(seed),
        initial_(Values(offset + dim * (1 + optimizer.slot_names().size()) + kGuard)),
        gradients_(Values(dim * kNumSteps)) {}

  std::vector<float> RunAtLevel(SimdLevel level) const {
    const ScopedSimdLevel scope(level);
    std::vector<float> buffer = initial_;
    const Span<float> weights(buffer.data() + offset_, dim_);
    const Span<float> slots(buffer.data() + offset_ + dim_, dim_ * num_slots());
    std::vector<float> gradients = gradients_;
    for (int t = 1; t <= kNumSteps; ++t) {
      const Span<float> gradient(gradients.data() + (t - 1) * dim_, dim_);
      optimizer_.Update({optimizer_.learning_rate(), t}, gradient, weights, slots);
    }
    return buffer;
  }

  std::vector<float> RunAtBaseline() const { return RunAtLevel(SimdLevel::kBaseline); }

  std::vector<float> RunElementByElement() const {
    const ScopedSimdLevel scope(SimdLevel::kBaseline);
    std::vector<float> buffer = initial_;
    float* const row = buffer.data() + offset_;
    std::vector<float> slots(num_slots());
    for (size_t i = 0; i < dim_; ++i) {
      for (size_t slot = 0; slot < slots.size(); ++slot) slots[slot] = row[(1 + slot) * dim_ + i];
      for (int t = 1; t <= kNumSteps; ++t) {
        float gradient = gradients_[(t - 1) * dim_ + i];
        optimizer_.Update({optimizer_.learning_rate(), t}, {&gradient, 1}, {row + i, 1}, slots);
      }
      for (size_t slot = 0; slot < slots.size(); ++slot) row[(1 + slot) * dim_ + i] = slots[slot];
    }
    return buffer;
  }

 private:
  static constexpr size_t kGuard = 16;

  size_t num_slots() const { return optimizer_.slot_names().size(); }

  // Ordinary values, with the edges of float32 among them.
  std::vector<float> Values(size_t size) {
    std::normal_distribution<float> normal;
    const std::vector<float> edges = EdgeValues();
    std::vector<float> values(size);
    for (float& value : values) {
      value = random_() % 4 == 0 ? edges[random_() % edges.size()] : normal(random_);
    }
    return values;
  }

  const Optimizer& optimizer_;
  const size_t dim_;
  const size_t offset_;
  std::mt19937 random_;
  const std::vector<float> initial_;
  const std::vector<float> gradients_;
};

using Run = std::vector<float> (Case::*)() const;

// Compares a level with `plain`.
void ExpectAgreement(SimdLevel level, const Optimizer& optimizer, size_t dim, size_t offset, Run plain) {
  const auto seed = static_cast<uint32_t>(dim * 16 + offset);
  const Case test_case(optimizer, dim, offset, seed);
  const std::vector<float> expected = (test_case.*plain)();
  const std::vector<float> actual = test_case.RunAtLevel(level);
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_TRUE(SameFloat(actual[i], expected[i]))
        << optimizer.parameters().ToJson() << " dim " << dim << " offset " << offset << " float " << i << ": "
        << actual[i] << ", not " << expected[i];
  }
}

void ExpectAgreementAtAllDims(SimdLevel level, const Optimizer& optimizer, Run plain) {
  for (size_t dim = 0; dim <= 70; ++dim) {
    for (const size_t offset : {0, 1, 2, 3, 4, 7}) ExpectAgreement(level, optimizer, dim, offset, plain);
  }
  ExpectAgreement(level, optimizer, 128, 0, plain);
  ExpectAgreement(level, optimizer, 128, 5, plain);
}

class OptimizerSimdTest : public SimdLevelsTest {};

INSTANTIATE_TEST_SUITE_P(Levels, OptimizerSimdTest, testing::ValuesIn(kSimdLevels), SimdLevelTestName);

TEST_P(OptimizerSimdTest, EveryLevelHasTheBitsOfThePlainLoop) {
  for (const auto& optimizer : Optimizers()) {
    ExpectAgreementAtAllDims(GetParam(), *optimizer, &Case::RunElementByElement);
    if (HasFatalFailure()) return;
  }
}

// With clipnorm the elements of a row do meet, in the norm.
TEST_P(OptimizerSimdTest, EveryLevelClipsNormsToTheSameBits) {
  for (const char* name : {"sgd", "adagrad", "adam", "adamw", "ftrl", "lion"}) {
    const auto optimizer = Make(name, {{"clipnorm", 0.7}});
    ExpectAgreementAtAllDims(GetParam(), *optimizer, &Case::RunAtBaseline);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace damo
