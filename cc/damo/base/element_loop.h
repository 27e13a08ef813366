// SPDX-License-Identifier: Apache-2.0
//
// ForEachElement: one loop over arrays of floats, compiled once for each SimdLevel and run at the active one.
// The loops differ in how many elements an instruction takes, not in what is done to each: IEEE 754 add,
// multiply, divide and square root are exact to the last bit at every width, nothing is fused, and elements
// do not meet. So every level gives the bits of the plain loop (not the sign or payload of a NaN, which IEEE
// 754 leaves open).
#ifndef DAMO_BASE_ELEMENT_LOOP_H_
#define DAMO_BASE_ELEMENT_LOOP_H_

#include <cstddef>

#include "damo/base/simd_level.h"

// For a kernel's operator(): it must be inlined to be compiled for the level of the loop around it.
#define DAMO_ALWAYS_INLINE inline __attribute__((always_inline))

namespace damo {
namespace internal {

// Elements in a register. Shorter arrays gain nothing.
constexpr size_t kAvx2Elements = 8;
constexpr size_t kAvx512Elements = 16;

template <typename Kernel, typename... Floats>
DAMO_ALWAYS_INLINE void BaselineLoop(const Kernel& kernel, size_t size, Floats* __restrict... arrays) {
  const Kernel local = kernel;  // out of the reach of what is written through the arrays
  for (size_t i = 0; i < size; ++i) local(arrays[i]...);
}

#if DAMO_HAVE_X86_LEVELS
// Less than a register.
template <typename Kernel, typename... Floats>
__attribute__((noinline)) void RemainderLoop(const Kernel& kernel, size_t size,
                                             Floats* __restrict... arrays) {
  BaselineLoop<Kernel, Floats...>(kernel, size, arrays...);
}

// Whole registers first, so that no code for a remainder is in their way.
template <typename Kernel, typename... Floats>
__attribute__((target("avx2"), noinline)) void Avx2Loop(const Kernel& kernel, size_t size,
                                                        Floats* __restrict... arrays) {
  const size_t whole = size / kAvx2Elements * kAvx2Elements;
  BaselineLoop<Kernel, Floats...>(kernel, whole, arrays...);
  if (whole != size) RemainderLoop<Kernel, Floats...>(kernel, size - whole, arrays + whole...);
}

template <typename Kernel, typename... Floats>
__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw"), noinline)) void Avx512Loop(
    const Kernel& kernel, size_t size, Floats* __restrict... arrays) {
  const size_t whole = size / kAvx512Elements * kAvx512Elements;
  BaselineLoop<Kernel, Floats...>(kernel, whole, arrays...);
  if (whole != size) Avx2Loop<Kernel, Floats...>(kernel, size - whole, arrays + whole...);
}
#endif

}  // namespace internal

// kernel(arrays[0]...), kernel(arrays[1]...), ..., kernel(arrays[size - 1]...). The kernel takes one element
// of each array, a float or a double, by reference those that it changes; its operator() is const and
// DAMO_ALWAYS_INLINE. The arrays must not overlap, and need no alignment.
template <typename Kernel, typename... Floats>
inline void ForEachElement(const Kernel& kernel, size_t size, Floats*... arrays) {
#if DAMO_HAVE_X86_LEVELS
  if (size >= internal::kAvx2Elements) {
    const SimdLevel level = ActiveSimdLevel();
    if (level == SimdLevel::kAvx512 && size >= internal::kAvx512Elements) {
      return internal::Avx512Loop<Kernel, Floats...>(kernel, size, arrays...);
    }
    if (level != SimdLevel::kBaseline) return internal::Avx2Loop<Kernel, Floats...>(kernel, size, arrays...);
  }
#endif
  internal::BaselineLoop<Kernel, Floats...>(kernel, size, arrays...);
}

}  // namespace damo

#endif  // DAMO_BASE_ELEMENT_LOOP_H_
