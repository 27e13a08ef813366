// SPDX-License-Identifier: Apache-2.0
#include "damo/base/float_math.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

#include "damo/base/test_simd_level.h"

namespace damo {
namespace {

using Limits = std::numeric_limits<float>;

constexpr size_t kMaxSize = 70;
constexpr size_t kMaxOffset = 4;  // how far an array begins from a multiple of 16 bytes, in floats

// Random values of all magnitudes, with the edges of float32 among them.
std::vector<float> Values(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> mantissa(-1, 1);
  std::uniform_int_distribution<int> exponent(-149, 127);
  const std::vector<float> edges = EdgeValues();
  std::vector<float> values(size);
  for (float& value : values) {
    value =
        random() % 4 == 0 ? edges[random() % edges.size()] : std::ldexp(mantissa(random), exponent(random));
  }
  return values;
}

TEST(SimdLevelTest, TheMachinesWidestLevelIsInUse) { EXPECT_EQ(ActiveSimdLevel(), SupportedSimdLevel()); }

TEST(SimdLevelTest, ALevelCanBeForcedIfTheMachineSupportsIt) {
  for (const SimdLevel level : kSimdLevels) {
    const bool supported = level <= SupportedSimdLevel();
    EXPECT_EQ(SetSimdLevelForTesting(level), supported) << SimdLevelName(level);
    EXPECT_EQ(ActiveSimdLevel() == level, supported) << SimdLevelName(level);
  }
  EXPECT_TRUE(SetSimdLevelForTesting(SupportedSimdLevel()));
}

class FloatMathLevelsTest : public SimdLevelsTest {};

INSTANTIATE_TEST_SUITE_P(Levels, FloatMathLevelsTest, testing::ValuesIn(kSimdLevels), SimdLevelTestName);

TEST_P(FloatMathLevelsTest, AllFiniteFindsEachElementThatIsNot) {
  for (size_t size = 1; size <= kMaxSize; ++size) {
    for (size_t offset = 0; offset < kMaxOffset; ++offset) {
      std::vector<float> buffer(offset + size, Limits::max());
      const Span<float> values(buffer.data() + offset, size);
      for (size_t i = 0; i < size; ++i) {
        for (const float value : {Limits::infinity(), Limits::quiet_NaN(), Limits::signaling_NaN()}) {
          for (const float signed_value : {value, -value}) {
            values[i] = signed_value;
            ASSERT_FALSE(AllFinite(values)) << "size " << size << " element " << i;
          }
        }
        values[i] = Limits::max();
      }
    }
  }
}

TEST_P(FloatMathLevelsTest, AllFiniteIsTrueOfEveryFiniteValue) {
  EXPECT_TRUE(AllFinite({}));
  for (size_t size = 1; size <= kMaxSize; ++size) {
    for (const float value : EdgeValues()) EXPECT_TRUE(AllFinite(std::vector<float>(size, value)));
  }
}

TEST_P(FloatMathLevelsTest, AllFiniteLooksAtNothingBesideTheArray) {
  for (size_t size = 0; size <= kMaxSize; ++size) {
    std::vector<float> buffer(size + 2, 1);
    buffer.front() = buffer.back() = Limits::infinity();
    EXPECT_TRUE(AllFinite({buffer.data() + 1, size})) << "size " << size;
  }
}

// Runs `vectorized` and `plain` (of one source and one destination element) on arrays of every size and
// alignment, and compares all that lies in the destination's buffer.
template <typename Vectorized, typename Plain>
void ExpectSameAsPlainLoop(Vectorized vectorized, Plain plain) {
  constexpr size_t kBufferSize = kMaxSize + 2 * kMaxOffset;
  const std::vector<float> source = Values(kBufferSize, 1);
  const std::vector<float> before = Values(kBufferSize, 2);
  for (size_t size = 0; size <= kMaxSize; ++size) {
    for (size_t offset = 0; offset < kMaxOffset; ++offset) {
      std::vector<float> actual = before;
      vectorized(source.data() + 1, actual.data() + offset, size);
      std::vector<float> expected = before;
      for (size_t i = 0; i < size; ++i) plain(source[1 + i], expected[offset + i]);
      for (size_t i = 0; i < kBufferSize; ++i) {
        ASSERT_TRUE(SameFloat(actual[i], expected[i]))
            << "size " << size << " offset " << offset << " element " << i;
      }
    }
  }
}

TEST_P(FloatMathLevelsTest, CopyScaledHasTheBitsOfThePlainLoop) {
  for (const float scale : {1.0F, 0.1F, -3.0F, 1e-30F, 1e30F, 0.0F}) {
    ExpectSameAsPlainLoop([scale](const float* source, float* destination,
                                  size_t size) { CopyScaled(source, scale, destination, size); },
                          [scale](float source, float& destination) { destination = source * scale; });
  }
}

TEST_P(FloatMathLevelsTest, AddScaledHasTheBitsOfThePlainLoop) {
  for (const float scale : {1.0F, 0.1F, -3.0F, 1e-30F, 1e30F, 0.0F}) {
    ExpectSameAsPlainLoop([scale](const float* source, float* destination,
                                  size_t size) { AddScaled(source, scale, destination, size); },
                          [scale](float source, float& destination) { destination += source * scale; });
  }
}

TEST(FloatMathTest, AScaleOfOneKeepsEveryBit) {
  const std::vector<float> source = Values(kMaxSize, 3);
  std::vector<float> copy(kMaxSize), sum(kMaxSize);
  CopyScaled(source.data(), 1, copy.data(), kMaxSize);
  AddScaled(source.data(), 1, sum.data(), kMaxSize);
  for (size_t i = 0; i < kMaxSize; ++i) {
    EXPECT_EQ(FloatBits(copy[i]), FloatBits(source[i]));
    EXPECT_EQ(sum[i], source[i]);
  }
}

// The definition in the header, element by element.
double PlainSumOfSquares(Span<const float> values) {
  double sums[16] = {};
  for (size_t i = 0; i < values.size(); ++i) {
    sums[i % 16] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
  for (const size_t half : {8, 4, 2, 1}) {
    for (size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  }
  return sums[0];
}

TEST_P(FloatMathLevelsTest, SumOfSquaresHasTheBitsOfItsDefinition) {
  const std::vector<float> source = Values(kMaxSize + kMaxOffset, 4);
  for (size_t size = 0; size <= kMaxSize; ++size) {
    for (size_t offset = 0; offset < kMaxOffset; ++offset) {
      const Span<const float> values(source.data() + offset, size);
      ASSERT_EQ(SumOfSquares(values), PlainSumOfSquares(values)) << "size " << size;
    }
  }
}

TEST(FloatMathTest, SumOfSquaresNeitherOverflowsNorVanishes) {
  // Of 32 such squares, of 48 bits each, the sum is exact.
  EXPECT_EQ(SumOfSquares(std::vector<float>(32, Limits::max())),
            32.0 * Limits::max() * static_cast<double>(Limits::max()));
  EXPECT_TRUE(std::isfinite(SumOfSquares(std::vector<float>(65536, Limits::max()))));
  EXPECT_EQ(SumOfSquares(std::vector<float>(1, Limits::denorm_min())), std::ldexp(1.0, -298));
  EXPECT_EQ(SumOfSquares({}), 0);
}

}  // namespace
}  // namespace damo
