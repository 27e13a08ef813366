// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_arrays.h"

#include <string>

#include "damo/base/status.h"

namespace damo::python {
namespace {

namespace py = pybind11;

template <typename T>
constexpr const char* kDtypeName = nullptr;
template <>
constexpr const char* kDtypeName<uint64_t> = "uint64";
template <>
constexpr const char* kDtypeName<int64_t> = "int64";
template <>
constexpr const char* kDtypeName<float> = "float32";

template <typename T>
py::array CheckedArray(const char* name, const py::object& object) {
  const auto rule = [&] {
    return StrCat("`", name, "` must be a one-dimensional contiguous NumPy array of dtype ", kDtypeName<T>);
  };
  if (!py::isinstance<py::array>(object)) {
    throw py::type_error(StrCat(rule(), ". Received: ", std::string(py::str(py::type::of(object)))));
  }
  auto array = py::reinterpret_borrow<py::array>(object);
  if (!py::isinstance<py::array_t<T>>(array)) {
    throw py::type_error(StrCat(rule(), ". Received dtype: ", std::string(py::str(array.dtype()))));
  }
  if (array.ndim() != 1) throw py::value_error(StrCat(rule(), ". Received rank: ", array.ndim()));
  const bool aligned = reinterpret_cast<uintptr_t>(array.data()) % alignof(T) == 0;
  if ((array.flags() & py::array::c_style) == 0 || !aligned) {
    throw py::value_error(StrCat(rule(), ". Received strides: (", array.strides(0), ",)"));
  }
  return array;
}

}  // namespace

Span<const uint64_t> KeysArgument(const char* name, const py::object& object) {
  const py::array array = CheckedArray<uint64_t>(name, object);
  return {static_cast<const uint64_t*>(array.data()), static_cast<size_t>(array.size())};
}

Span<const float> FloatsArgument(const char* name, const py::object& object) {
  const py::array array = CheckedArray<float>(name, object);
  return {static_cast<const float*>(array.data()), static_cast<size_t>(array.size())};
}

Span<const int64_t> IntegersArgument(const char* name, const py::object& object) {
  const py::array array = CheckedArray<int64_t>(name, object);
  return {static_cast<const int64_t*>(array.data()), static_cast<size_t>(array.size())};
}

Span<float> OutputArgument(const char* name, const py::object& object) {
  py::array array = CheckedArray<float>(name, object);
  if (!array.writeable())
    throw py::value_error(StrCat("`", name, "` must be writable. Received: a read-only array"));
  return {static_cast<float*>(array.mutable_data()), static_cast<size_t>(array.size())};
}

void CheckNumFloats(const char* name, Span<const float> floats, Span<const uint64_t> keys, int64_t dim) {
  if (floats.size() == keys.size() * dim) return;
  throw py::value_error(StrCat("`", name, "` must hold len(keys) * dimension = ", keys.size(), " * ", dim,
                               " = ", keys.size() * dim, " floats. Received: ", floats.size()));
}

py::array_t<float> ToArray(Span<const float> values) {
  return py::array_t<float>(static_cast<py::ssize_t>(values.size()), values.data());
}

}  // namespace damo::python
