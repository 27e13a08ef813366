// SPDX-License-Identifier: Apache-2.0
//
// SimdLevel: which vector instructions the engine's loops use (docs/decisions/0009-vector-code.md). A wheel
// is compiled for any x86-64; base/element_loop.h compiles its loops for the wider levels besides, and this
// level, read from the processor when the library is loaded, chooses among them. No level changes a bit of
// any result.
#ifndef DAMO_BASE_SIMD_LEVEL_H_
#define DAMO_BASE_SIMD_LEVEL_H_

#include <atomic>

#if defined(__x86_64__)
#define DAMO_HAVE_X86_LEVELS 1
#else
#define DAMO_HAVE_X86_LEVELS 0
#endif

namespace damo {

enum class SimdLevel : int {
  kBaseline,  // what the compiler assumes of every machine: SSE2 on x86-64
  kAvx2,
  kAvx512,  // F, VL, DQ and BW
};

constexpr SimdLevel kSimdLevels[] = {SimdLevel::kBaseline, SimdLevel::kAvx2, SimdLevel::kAvx512};

// "baseline", "avx2" or "avx512".
const char* SimdLevelName(SimdLevel level);

// The widest level that the processor and the operating system support.
SimdLevel SupportedSimdLevel();

namespace internal {
// kBaseline until the library's initializers have run, which is correct, only slower.
extern std::atomic<SimdLevel> simd_level;
}  // namespace internal

// The level in use. Thread-safe.
inline SimdLevel ActiveSimdLevel() { return internal::simd_level.load(std::memory_order_relaxed); }

// Makes `level` the one in use, in all threads, so that tests and benchmarks can compare levels. False, and
// no effect, where the machine does not support it.
bool SetSimdLevelForTesting(SimdLevel level);

}  // namespace damo

#endif  // DAMO_BASE_SIMD_LEVEL_H_
