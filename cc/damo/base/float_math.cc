// SPDX-License-Identifier: Apache-2.0
#include "damo/base/float_math.h"

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

// All ones in the exponent make an infinity or a NaN. Counting such elements instead of leaving at the first
// lets the loop vectorize; rows are short, and nearly all of them finite.
struct CountNotFinite {
  uint32_t* count;

  DAMO_ALWAYS_INLINE void operator()(float value) const {
    constexpr uint32_t kExponent = 0x7f800000;
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    *count += (bits & kExponent) == kExponent ? 1 : 0;
  }
};

}  // namespace

bool AllFinite(Span<const float> values) {
  uint32_t count = 0;
  ForEachElement(CountNotFinite{&count}, values.size(), values.data());
  return count == 0;
}

void CopyScaled(const float* source, float scale, float* destination, size_t size) {
  ForEachElement(CopyKernel{scale}, size, source, destination);
}

void AddScaled(const float* source, float scale, float* destination, size_t size) {
  ForEachElement(AddKernel{scale}, size, source, destination);
}

}  // namespace damo
