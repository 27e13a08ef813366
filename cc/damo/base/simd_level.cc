// SPDX-License-Identifier: Apache-2.0
#include "damo/base/simd_level.h"

namespace damo {
namespace internal {

std::atomic<SimdLevel> simd_level{SupportedSimdLevel()};

}  // namespace internal

const char* SimdLevelName(SimdLevel level) {
  switch (level) {
    case SimdLevel::kBaseline:
      return "baseline";
    case SimdLevel::kAvx2:
      return "avx2";
    case SimdLevel::kAvx512:
      return "avx512";
  }
  return "unknown";
}

SimdLevel SupportedSimdLevel() {
#if DAMO_HAVE_X86_LEVELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    return SimdLevel::kAvx512;
  }
  if (__builtin_cpu_supports("avx2")) return SimdLevel::kAvx2;
#endif
  return SimdLevel::kBaseline;
}

bool SetSimdLevelForTesting(SimdLevel level) {
  if (level > SupportedSimdLevel()) return false;
  internal::simd_level.store(level, std::memory_order_relaxed);
  return true;
}

}  // namespace damo
