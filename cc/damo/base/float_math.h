// SPDX-License-Identifier: Apache-2.0
//
// Small operations on arrays of floats, in the widest vectors of the machine (base/element_loop.h).
#ifndef DAMO_BASE_FLOAT_MATH_H_
#define DAMO_BASE_FLOAT_MATH_H_

#include <cstddef>

#include "damo/base/span.h"

namespace damo {

// Whether no element is an infinity or a NaN. True of an empty array.
bool AllFinite(Span<const float> values);

// destination[i] = source[i] * scale. The arrays must not overlap.
void CopyScaled(const float* source, float scale, float* destination, size_t size);

// destination[i] += source[i] * scale: a multiplication and an addition, each rounded. The arrays must not
// overlap.
void AddScaled(const float* source, float scale, float* destination, size_t size);

// values[i] /= divisor, as IEEE 754 has it where that is 0.
void DivideBy(float divisor, float* values, size_t size);

// The sum of values[i]^2, in double, where no square of a float32 is rounded or overflows. Element i is added
// to partial sum i mod 16, in order; then partial sum j takes in j + 8 for j < 8, j + 4 for j < 4, j + 2 and
// j + 1. 0 of an empty array.
double SumOfSquares(Span<const float> values);

}  // namespace damo

#endif  // DAMO_BASE_FLOAT_MATH_H_
