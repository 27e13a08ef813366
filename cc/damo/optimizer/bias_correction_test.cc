// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/bias_correction.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace damo {
namespace {

constexpr double kBetas[] = {0, 1e-300, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1 - 1e-9, 1 - 0x1p-53};
constexpr int64_t kMaxUpdateNum = std::numeric_limits<int64_t>::max();

// Every number as far as all tables of these betas but the last reach and well beyond, then ever fewer.
template <typename Formula, typename Oracle>
void ExpectSameAsFormula(Oracle oracle) {
  for (const double beta : kBetas) {
    const BiasCorrection<Formula> correction(beta);
    const IntegerPower power(beta);
    const auto check = [&](int64_t t) { ASSERT_EQ(correction(t), oracle(power(t))) << beta << "^" << t; };
    for (int64_t t = 1; t <= 50000; ++t) check(t);
    for (int64_t t = 50001; t < kMaxUpdateNum / 2; t += t / 64) check(t);
    for (int exponent = 1; exponent <= 62; ++exponent) {
      for (const int64_t around : {-1, 0, 1}) check((int64_t{1} << exponent) + around);
    }
    check(kMaxUpdateNum);
  }
}

TEST(BiasCorrectionTest, OneMinusPowerHasTheBitsOfTheFormula) {
  ExpectSameAsFormula<OneMinusPower>([](double power) { return 1 - power; });
}

TEST(BiasCorrectionTest, InverseRootHasTheBitsOfTheFormula) {
  ExpectSameAsFormula<InverseRootOfOneMinusPower>(
      [](double power) { return static_cast<float>(1 / std::sqrt(1 - power)); });
}

TEST(BiasCorrectionTest, TablesAreBoundedAndEndWhereTheFormulaDoes) {
  for (const double beta : kBetas) {
    EXPECT_LE(BiasCorrection<OneMinusPower>(beta).table_bytes(), 32 << 10) << beta;
    EXPECT_LE(BiasCorrection<InverseRootOfOneMinusPower>(beta).table_bytes(), 64 << 10) << beta;
  }
  EXPECT_EQ(BiasCorrection<OneMinusPower>(0.9).table_bytes(), 361 * sizeof(double));
  EXPECT_EQ(BiasCorrection<InverseRootOfOneMinusPower>(0.999).table_bytes(), 16014 * sizeof(float));
  EXPECT_EQ(BiasCorrection<OneMinusPower>(0).table_bytes(), 0);
}

}  // namespace
}  // namespace damo
