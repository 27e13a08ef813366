// SPDX-License-Identifier: Apache-2.0
//
// For tests that compare SIMD levels.
#ifndef DAMO_BASE_TEST_SIMD_LEVEL_H_
#define DAMO_BASE_TEST_SIMD_LEVEL_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "damo/base/simd_level.h"

namespace damo {

// Makes `level` the one in use while it lives.
class ScopedSimdLevel {
 public:
  explicit ScopedSimdLevel(SimdLevel level) : saved_(ActiveSimdLevel()) {
    EXPECT_TRUE(SetSimdLevelForTesting(level)) << SimdLevelName(level);
  }
  ~ScopedSimdLevel() { SetSimdLevelForTesting(saved_); }

  ScopedSimdLevel(const ScopedSimdLevel&) = delete;
  ScopedSimdLevel& operator=(const ScopedSimdLevel&) = delete;

 private:
  const SimdLevel saved_;
};

// Tests of this run at one level each; the report says which ones the machine could not run.
class SimdLevelsTest : public testing::TestWithParam<SimdLevel> {
 protected:
  void SetUp() override {
    if (GetParam() > SupportedSimdLevel()) {
      GTEST_SKIP() << "this machine has no " << SimdLevelName(GetParam());
    }
    level_.emplace(GetParam());
  }

 private:
  std::optional<ScopedSimdLevel> level_;
};

inline std::string SimdLevelTestName(const testing::TestParamInfo<SimdLevel>& info) {
  return SimdLevelName(info.param);
}

inline uint32_t FloatBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// Equal in every bit, or both NaN.
inline bool SameFloat(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || FloatBits(a) == FloatBits(b);
}

// Finite values at the edges of float32.
inline std::vector<float> EdgeValues() {
  using Limits = std::numeric_limits<float>;
  std::vector<float> values = {0, Limits::denorm_min(), 1e-40F, Limits::min(), 1e-20F, 1, 1e19F, 2e19F};
  values.push_back(Limits::max());
  for (size_t i = 0, size = values.size(); i < size; ++i) values.push_back(-values[i]);
  return values;
}

}  // namespace damo

#endif  // DAMO_BASE_TEST_SIMD_LEVEL_H_
