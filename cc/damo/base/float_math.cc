// SPDX-License-Identifier: Apache-2.0
#include "damo/base/float_math.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "damo/base/element_loop.h"

namespace damo {
namespace {

struct CopyKernel {
  float scale;

  DAMO_ALWAYS_INLINE void operator()(float source, float& destination) const { destination = source * scale; }
};

struct AddKernel {
  float scale;

  DAMO_ALWAYS_INLINE void operator()(float source, float& destination) const {
    destination += source * scale;
  }
};

struct DivideKernel {
  float divisor;

  DAMO_ALWAYS_INLINE void operator()(float& value) const { value /= divisor; }
};

// All ones in the exponent make an infinity or a NaN; one more there runs over into the bit of the sign.
// Gathering such bits instead of leaving at the first lets the loop vectorize; rows are short, and nearly all
// of them finite.
struct CollectOverruns {
  uint32_t* bits;

  DAMO_ALWAYS_INLINE void operator()(float value) const {
    constexpr uint32_t kMagnitude = 0x7fffffff;
    constexpr uint32_t kOneInExponent = 0x00800000;
    uint32_t value_bits;
    std::memcpy(&value_bits, &value, sizeof(value_bits));
    *bits |= (value_bits & kMagnitude) + kOneInExponent;
  }
};

struct AddSquareKernel {
  DAMO_ALWAYS_INLINE void operator()(float value, double& sum) const {
    const double wide = value;
    sum += wide * wide;
  }
};

}  // namespace

bool AllFinite(Span<const float> values) {
  constexpr uint32_t kSign = 0x80000000;
  uint32_t bits = 0;
  ForEachElement(CollectOverruns{&bits}, values.size(), values.data());
  return (bits & kSign) == 0;
}

double SumOfSquares(Span<const float> values) {
  constexpr size_t kPartialSums = 16;
  double sums[kPartialSums] = {};
  for (size_t begin = 0; begin < values.size(); begin += kPartialSums) {
    const size_t size = std::min(kPartialSums, values.size() - begin);
    ForEachElement(AddSquareKernel{}, size, values.data() + begin, sums + 0);
  }
  for (size_t half = kPartialSums / 2; half > 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  }
  return sums[0];
}

void CopyScaled(const float* source, float scale, float* destination, size_t size) {
  ForEachElement(CopyKernel{scale}, size, source, destination);
}

void AddScaled(const float* source, float scale, float* destination, size_t size) {
  ForEachElement(AddKernel{scale}, size, source, destination);
}

void DivideBy(float divisor, float* values, size_t size) {
  ForEachElement(DivideKernel{divisor}, size, values);
}

}  // namespace damo
