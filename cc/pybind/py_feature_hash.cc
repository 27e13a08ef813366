// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_feature_hash.h"

#include <pybind11/numpy.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "damo/base/status.h"
#include "damo/feature/feature_hasher.h"
#include "pybind/gil_release.h"
#include "pybind/py_arrays.h"

namespace damo::python {
namespace {

namespace py = pybind11;

std::string TypeName(const py::handle& object) { return py::str(py::type::of(object)); }

// The bytes of a str, in UTF-8, or of a bytes object, borrowed from it; nothing if it is neither.
std::optional<std::string_view> TextBytes(const py::handle& object) {
  if (PyBytes_Check(object.ptr())) {
    return std::string_view(PyBytes_AS_STRING(object.ptr()), PyBytes_GET_SIZE(object.ptr()));
  }
  if (!PyUnicode_Check(object.ptr())) return std::nullopt;
  Py_ssize_t size = 0;
  const char* const data = PyUnicode_AsUTF8AndSize(object.ptr(), &size);
  if (data == nullptr) throw py::error_already_set();  // a lone surrogate: UnicodeEncodeError, a ValueError
  return std::string_view(data, static_cast<size_t>(size));
}

// Calls f with what stands for `object`: a string_view, or an int64_t or uint64_t.
template <typename Function>
auto VisitValue(const char* name, const py::handle& object, const Function& f) {
  if (const auto bytes = TextBytes(object)) return f(*bytes);
  // numpy.int64 and the like are integers, too. A bool is an int to Python, but hardly a feature's value.
  const auto number = PyBool_Check(object.ptr())
                          ? py::object()
                          : py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  if (!number) {
    PyErr_Clear();
    throw py::type_error(StrCat("`", name, "` must be str, bytes or int. Received: ", TypeName(object)));
  }
  int overflow = 0;
  const int64_t value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow == 0) return f(value);
  const auto large = static_cast<uint64_t>(PyLong_AsUnsignedLongLong(number.ptr()));
  if (PyErr_Occurred() == nullptr) return f(large);
  PyErr_Clear();
  throw py::value_error(StrCat("`", name, "` must be in [-2^63, 2^64) if it is an int. Received: ", name, "=",
                               std::string(py::str(number))));
}

FeatureHasher MakeHasher(const std::string& field, const py::object& padding_value, uint64_t padding_key) {
  if (padding_value.is_none()) return FeatureHasher(field);
  const std::string value = VisitValue("padding_value", padding_value, [](auto v) -> std::string {
    if constexpr (std::is_same_v<decltype(v), std::string_view>) {
      return std::string(v);
    } else {
      return std::to_string(v);
    }
  });
  return FeatureHasher(field, FeaturePadding{value, padding_key});
}

uint64_t KeyOf(const FeatureHasher& hasher, const py::handle& value) {
  return VisitValue("value", value, [&](auto v) { return hasher.Key(v); });
}

template <typename Integer>
py::array_t<uint64_t> KeysOf(const FeatureHasher& hasher, Span<const Integer> values) {
  py::array_t<uint64_t> keys(static_cast<py::ssize_t>(values.size()));
  uint64_t* const out = keys.mutable_data();
  const GilRelease gil_release;
  for (size_t i = 0; i < values.size(); ++i) out[i] = hasher.Key(values[i]);
  return keys;
}

py::array_t<uint64_t> KeysOf(const FeatureHasher& hasher, const py::list& values) {
  py::array_t<uint64_t> keys(static_cast<py::ssize_t>(values.size()));
  uint64_t* const out = keys.mutable_data();
  for (size_t i = 0; i < values.size(); ++i) out[i] = KeyOf(hasher, values[i]);
  return keys;
}

py::object FeatureHash(const std::string& field, const py::object& value, const py::object& padding_value,
                       uint64_t padding_key) {
  const FeatureHasher hasher = MakeHasher(field, padding_value, padding_key);
  if (py::isinstance<py::list>(value)) return KeysOf(hasher, py::reinterpret_borrow<py::list>(value));
  if (py::isinstance<py::array_t<uint64_t>>(value)) {
    return KeysOf(hasher, KeysArgument("value", value));
  }
  if (py::isinstance<py::array>(value)) return KeysOf(hasher, IntegersArgument("value", value));
  return py::cast(KeyOf(hasher, value));
}

constexpr char kDoc[] =
    R"(The 64-bit keys of features "`field` is value": docs/feature_hash.md says of which bytes.

Example:

>>> damo.feature_hash("user", "ann")
6798141962548268224
>>> damo.feature_hash("user", ["ann", ""], padding_value="")
array([6798141962548268224,                   0], dtype=uint64)

Args:
    field: str. Other fields have other keys for the same values.
    value: str (hashed in UTF-8), bytes, or int in [-2**63, 2**64) (hashed as its decimal text); or a list of
        such; or an int64 or uint64 [n] array.
    padding_value: str, bytes or int that stands for nothing; its key is `padding_key`, which no other value
        gets. None: every value is an ordinary one.
    padding_key: int in [0, 2**64).

Returns:
    An int in [0, 2**64); of a list or array uint64 [n].

Raises:
    TypeError: a value of another type.
    ValueError: an int out of range, or a str that UTF-8 cannot encode.)";

}  // namespace

void DefineFeatureHash(py::module_& module) {
  module.def("feature_hash", &FeatureHash, py::arg("field"), py::arg("value"), py::kw_only(),
             py::arg("padding_value") = py::none(), py::arg("padding_key") = 0, kDoc);
}

}  // namespace damo::python
