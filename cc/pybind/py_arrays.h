// SPDX-License-Identifier: Apache-2.0
//
// NumPy arrays as spans. Nothing is converted: an array that is not exactly what is asked for raises, naming
// the argument, what it must be and what came.
#ifndef DAMO_PYBIND_PY_ARRAYS_H_
#define DAMO_PYBIND_PY_ARRAYS_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "damo/base/span.h"

namespace damo::python {

// Each borrows the array's memory: keep the object alive, and do not resize it, while the span is in use.
// A one-dimensional, contiguous array of dtype uint64.
Span<const uint64_t> KeysArgument(const char* name, const pybind11::object& array);
// A one-dimensional, contiguous array of dtype float32.
Span<const float> FloatsArgument(const char* name, const pybind11::object& array);
// A one-dimensional, contiguous array of dtype int64.
Span<const int64_t> IntegersArgument(const char* name, const pybind11::object& array);
// A one-dimensional, contiguous array of dtype float32, writable.
Span<float> OutputArgument(const char* name, const pybind11::object& array);

// Raises ValueError unless `name` holds keys.size() * dim floats.
void CheckNumFloats(const char* name, Span<const float> floats, Span<const uint64_t> keys, int64_t dim);

// A new array with a copy of `values`.
pybind11::array_t<float> ToArray(Span<const float> values);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_ARRAYS_H_
