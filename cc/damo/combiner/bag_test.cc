// SPDX-License-Identifier: Apache-2.0
#include "damo/combiner/bag.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "damo/base/test_status.h"

namespace damo {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr Combiner kCombiners[] = {Combiner::kSum, Combiner::kMean, Combiner::kSqrtn};

// A bag with what it points to.
struct OwnedBag {
  Combiner combiner;
  std::vector<uint64_t> keys;
  std::vector<float> weights;
  std::optional<uint64_t> padding_key;

  Bag bag() const { return {combiner, keys, weights.empty() ? nullptr : weights.data(), padding_key}; }
};

TEST(BagTest, DenominatorIsThatOfTheCombiner) {
  const std::vector<uint64_t> keys = {7, 8, 7, 9};
  const std::vector<float> weights = {1, -2, 3, 0.5f};
  EXPECT_EQ((OwnedBag{Combiner::kSum, keys, weights, {}}).bag().Denominator(), 1.0f);
  EXPECT_EQ((OwnedBag{Combiner::kMean, keys, weights, {}}).bag().Denominator(), 2.5f);
  EXPECT_EQ((OwnedBag{Combiner::kSqrtn, keys, weights, {}}).bag().Denominator(), std::sqrt(14.25f));
  EXPECT_EQ((OwnedBag{Combiner::kMean, keys, {}, {}}).bag().Denominator(), 4.0f);
  EXPECT_EQ((OwnedBag{Combiner::kSqrtn, keys, {}, {}}).bag().Denominator(), 2.0f);
}

TEST(BagTest, PaddingIsNotCountedWhateverItsWeight) {
  const std::vector<uint64_t> keys = {7, 0, 8, 0};
  const std::vector<float> weights = {1, kNan, 3, kInfinity};
  EXPECT_EQ((OwnedBag{Combiner::kMean, keys, weights, 0}).bag().Denominator(), 4.0f);
  EXPECT_EQ((OwnedBag{Combiner::kSqrtn, keys, weights, 0}).bag().Denominator(), std::sqrt(10.0f));
  EXPECT_EQ((OwnedBag{Combiner::kMean, keys, {}, 0}).bag().Denominator(), 2.0f);
  EXPECT_EQ((OwnedBag{Combiner::kMean, {0, 0}, {}, 0}).bag().Denominator(), 0.0f);
}

TEST(BagTest, DenominatorOfManyIsRoundedOnce) {
  const OwnedBag bag{Combiner::kMean, std::vector<uint64_t>(20'000'000, 1), {}, {}};
  EXPECT_EQ(bag.bag().Denominator(), 2e7f);  // counting in float32 would stop at 2^24
}

TEST(BagTest, SumIsDividedAndZerosWithoutDenominator) {
  std::vector<float> sum = {3, -6};
  FinishSum(1, sum);
  EXPECT_EQ(sum, (std::vector<float>{3, -6}));
  FinishSum(3, sum);
  EXPECT_EQ(sum, (std::vector<float>{1, -2}));
  FinishSum(0, sum);
  EXPECT_EQ(sum, (std::vector<float>{0, 0}));
}

TEST(BagTest, FirstRowBeginsTheSum) {
  std::vector<float> sum = {kNan};
  const float row = 3;
  AddRow(&row, 2, /*first=*/true, sum);
  AddRow(&row, -1, /*first=*/false, sum);
  EXPECT_EQ(sum[0], 3.0f);
}

// The combined vector of a bag of rows of one float, in double.
double Combined(const OwnedBag& owned, const std::vector<double>& rows, const std::vector<double>& weights) {
  double sum = 0, total = 0, squares = 0;
  for (size_t k = 0; k < rows.size(); ++k) {
    if (owned.keys[k] == owned.padding_key) continue;
    sum += weights[k] * rows[k];
    total += weights[k];
    squares += weights[k] * weights[k];
  }
  if (owned.combiner == Combiner::kMean) return sum / total;
  return owned.combiner == Combiner::kSqrtn ? sum / std::sqrt(squares) : sum;
}

TEST(BagTest, GradientsAreTheDerivatives) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> uniform(0.5, 2);
  for (const Combiner combiner : kCombiners) {
    OwnedBag owned{combiner, {4, 0, 5, 6, 0}, {}, 0};
    std::vector<double> rows, weights;
    std::vector<float> products;
    const double gradient = -1.5;
    for (size_t k = 0; k < owned.keys.size(); ++k) {
      rows.push_back(uniform(random));
      weights.push_back(uniform(random));
      owned.weights.push_back(static_cast<float>(weights[k]));
      const auto row = static_cast<float>(rows[k]);
      products.push_back(GradientDotRow(std::vector<float>{static_cast<float>(gradient)}, &row));
    }
    const Bag bag = owned.bag();
    const float denominator = bag.Denominator();
    FinishWeightsGradient(bag, products);
    const double step = 1e-6;
    const auto derivative = [&](std::vector<double>& of, size_t k) {
      const double before = of[k];
      of[k] = before + step;
      const double above = Combined(owned, rows, weights);
      of[k] = before - step;
      const double below = Combined(owned, rows, weights);
      of[k] = before;
      return gradient * (above - below) / (2 * step);
    };
    for (size_t k = 0; k < owned.keys.size(); ++k) {
      // float32 arithmetic against central differences in double
      EXPECT_NEAR(products[k], derivative(weights, k), 1e-5) << static_cast<int>(combiner) << " " << k;
      if (!bag.Counts(k)) continue;
      EXPECT_NEAR(gradient * GradientFactor(bag, k, denominator), derivative(rows, k), 1e-5);
    }
  }
}

TEST(BagTest, GradientsAreZeroWithoutDenominator) {
  for (const Combiner combiner : {Combiner::kMean, Combiner::kSqrtn}) {
    const OwnedBag owned{combiner, {1, 2}, {0, 0}, {}};
    std::vector<float> products = {3, 4};
    FinishWeightsGradient(owned.bag(), products);
    EXPECT_EQ(products, (std::vector<float>{0, 0}));
    EXPECT_EQ(GradientFactor(owned.bag(), 0, owned.bag().Denominator()), 0.0f);
  }
}

TEST(BagTest, WeightsOfPaddingGetNoGradientWhateverReachesThem) {
  for (const Combiner combiner : kCombiners) {
    const OwnedBag owned{combiner, {1, 0}, {1, kNan}, 0};
    std::vector<float> products = {3, kNan};
    FinishWeightsGradient(owned.bag(), products);
    EXPECT_EQ(products[1], 0.0f);
    EXPECT_EQ(products[0], combiner == Combiner::kSum ? 3.0f : 0.0f);  // one key alone: no weight matters
  }
}

TEST(BagTest, BadBagsAreRefused) {
  const auto refusal = [](const std::vector<int64_t>& splits, size_t num_bags, size_t num_weights) {
    const std::vector<Combiner> combiners(num_bags, Combiner::kSum);
    const std::vector<float> weights(num_weights, 1.0f);
    return CheckBags({splits, combiners, weights}, 4).message();
  };
  EXPECT_EQ(refusal({0, 4}, 1, 0), "");
  EXPECT_EQ(refusal({0, 0, 1, 4, 4}, 4, 4), "");
  EXPECT_EQ(refusal({0, 4}, 2, 0), "`splits` must hold one more than there are bags, 2. Received: 2");
  EXPECT_EQ(refusal({}, 0, 0), "`splits` must hold one more than there are bags, 0. Received: 0");
  EXPECT_EQ(refusal({0, 3}, 1, 0),
            "`splits` must begin at 0 and end at the number of keys, 4. Received: from 0 to 3");
  EXPECT_EQ(refusal({1, 4}, 1, 0),
            "`splits` must begin at 0 and end at the number of keys, 4. Received: from 1 to 4");
  EXPECT_EQ(refusal({0, 5, 4}, 2, 0), "`splits` must never fall. Received: 5, then 4");
  EXPECT_EQ(refusal({0, 4}, 1, 3), "`weights` must hold one weight for each of 4 keys. Received: 3");
}

}  // namespace
}  // namespace damo
