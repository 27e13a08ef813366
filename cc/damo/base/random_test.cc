// SPDX-License-Identifier: Apache-2.0
#include "damo/base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace damo {
namespace {

using Words = std::array<uint32_t, 4>;

constexpr uint64_t kLastKey = std::numeric_limits<uint64_t>::max();

// The vectors published with the algorithm (Random123's kat_vectors).
TEST(Philox4x32Test, MatchesKnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(Philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RowRandomTest, PlacesSeedKeyGroupAttemptAndBlockAsDocumented) {
  const RowRandom random(/*seed=*/0x1122334455667788, /*group=*/0x9a, /*key=*/0xbbccddeeff001122);
  EXPECT_EQ(random.Words(/*block=*/5, /*attempt=*/3),
            Philox4x32({0xff001122, 0xbbccddee, 0x39a, 5}, {0x55667788, 0x11223344}));
}

// Never change: the initial values of every store rest on these. Computed by tests/oracles.py.
TEST(RowRandomTest, MatchesGoldenWords) {
  const RowRandom random(7, 3, 5);
  EXPECT_EQ(random.Words(0), (Words{0xd132512e, 0x6f5a4d4d, 0xd0cc80b2, 0x742f7fd9}));
  EXPECT_EQ(random.Words(2), (Words{0x08829afb, 0x08adfabf, 0x8097223d, 0xcb6bf9cc}));
  EXPECT_EQ(random.Words(0, 1), (Words{0xc8606650, 0xe9e1249c, 0xe05219fe, 0x32afede0}));
  EXPECT_EQ(RowRandom(0xfedcba9876543210, 255, kLastKey).Words(0, 2),
            (Words{0x7b11d621, 0x90495d78, 0xce006917, 0x92c54688}));
}

TEST(RowRandomTest, VisitsElementsInOrderWithTheWordsOfTheirBlocks) {
  const RowRandom random(7, 3, 5);
  std::vector<uint32_t> words;
  random.ForEachWord(6, [&words](size_t element, uint32_t word) {
    EXPECT_EQ(element, words.size());
    words.push_back(word);
  });
  EXPECT_EQ(words,
            (std::vector<uint32_t>{0xd132512e, 0x6f5a4d4d, 0xd0cc80b2, 0x742f7fd9, 0x1a40864a, 0xbb3469f2}));
  random.ForEachWord(0, [](size_t, uint32_t) { ADD_FAILURE() << "no elements, yet one was visited"; });
}

TEST(UnitIntervalTest, KeepsItsBounds) {
  const uint32_t last = std::numeric_limits<uint32_t>::max();
  EXPECT_EQ(ToUnitInterval(0), 0.0);
  EXPECT_EQ(ToUnitInterval(last), 1.0 - 0x1p-32);
  EXPECT_EQ(ToOpenUnitInterval(0), 0x1p-33);
  EXPECT_EQ(ToOpenUnitInterval(last), 1.0 - 0x1p-33);
}

// Exact quantiles, from Newton's method with 60 digits, of the doubles as written.
TEST(NormalQuantileTest, IsWithinAFewUnitsInTheLastPlaceOfTheExactValue) {
  const struct {
    double p;
    double quantile;
  } cases[] = {
      {0.25, -0.674489750196081743202},    {0.9, 1.2815515655446005934874},
      {0.075, -1.439531470938455934949},   {0.0749, -1.440238267527963663112},
      {0.025, -1.959963984540054211779},   {1e-3, -3.090232306167813535358},
      {0x1p-33, -6.337957754553789252493}, {1 - 0x1p-33, 6.337957754553789252493},
      {1e-12, -7.034483825301131932614},   {1e-15, -7.941345326170996771330},
  };
  for (const auto& [p, quantile] : cases) {
    EXPECT_NEAR(NormalQuantile(p), quantile, 1e-15 * std::fabs(quantile)) << "p=" << p;
  }
  EXPECT_EQ(NormalQuantile(0.5), 0.0);
}

TEST(NormalQuantileTest, InvertsTheDistributionFunctionEverywhere) {
  for (uint32_t i = 0; i < 4096; ++i) {
    const double p = ToOpenUnitInterval(i << 20 | 0x5a5a5);
    EXPECT_NEAR(std::erfc(-NormalQuantile(p) / std::sqrt(2.0)) / 2, p, 1e-14 * p) << "p=" << p;
  }
}

// Never change: one value from each branch of the algorithm. Computed by tests/oracles.py.
TEST(NormalQuantileTest, MatchesGoldenBits) {
  EXPECT_EQ(NormalQuantile(0.25), -0x1.5956b87528a49p-1);
  EXPECT_EQ(NormalQuantile(0.025), -0x1.f5c0331eeff83p+0);
  EXPECT_EQ(NormalQuantile(1e-3), -0x1.8b8cbb7204470p+1);
  EXPECT_EQ(NormalQuantile(0x1p-33), -0x1.95a1198fcf3d5p+2);
  EXPECT_EQ(NormalQuantile(1 - 0x1p-33), 0x1.95a1198fcf3d5p+2);
  EXPECT_EQ(NormalQuantile(1e-15), -0x1.fc3f007789667p+2);
}

}  // namespace
}  // namespace damo
