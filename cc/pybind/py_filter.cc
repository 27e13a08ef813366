// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_filter.h"

#include <pybind11/numpy.h>

#include <cmath>
#include <string>

#include "pybind/gil_release.h"
#include "pybind/py_arrays.h"
#include "pybind/py_parameters.h"
#include "pybind/py_status.h"

namespace damo::python {
namespace {

namespace py = pybind11;

constexpr NumberRule kCapacity{"an integer in [1, 2^32]", [](double v) {
                                 return v >= 1 && v <= static_cast<double>(FilterOptions::kMaxCapacity) &&
                                        v == std::floor(v);
                               }};
constexpr NumberRule kMinCount{"an integer in [1, 15]",
                               [](double v) { return v >= 1 && v <= kMaxFilterCount && v == std::floor(v); }};
// Wide of the bounds, which are no float32: FilterOptions checks them.
constexpr NumberRule kFpr{"in (0, 1)", [](double v) { return v > 0 && v < 1; }};

// There is one kind of filter, so nobody need name it.
Parameters WithName(Parameters parameters) {
  if (parameters.values().count("name") == 0) parameters.Insert("name", std::string("counting_bloom"));
  return parameters;
}

Status CheckName(const Parameters& parameters) {
  DAMO_ASSIGN_OR_RETURN(const std::string name, parameters.Name("filter"));
  if (name == "counting_bloom") return Status();
  return InvalidArgument("unknown filter '", name, "'; known: 'counting_bloom'");
}

uint64_t KeyArgument(const py::object& key) {
  // numpy.uint64 and the like are integers, too.
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(key.ptr()));
  if (!number) {
    PyErr_Clear();
    throw py::type_error(StrCat("`key` must be an int, or a one-dimensional contiguous NumPy array of dtype ",
                                "uint64. Received: ", std::string(py::str(py::type::of(key)))));
  }
  const auto value = static_cast<uint64_t>(PyLong_AsUnsignedLongLong(number.ptr()));
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::value_error(StrCat("`key` must be in [0, 2^64). Received: key=", std::string(py::str(number))));
  }
  return value;
}

// f(key) of one key, or of each of an array.
template <typename Value, typename Function>
py::object Map(const py::object& key, const Function& f) {
  if (!py::isinstance<py::array>(key) || py::reinterpret_borrow<py::array>(key).ndim() == 0) {
    return py::cast(f(KeyArgument(key)));
  }
  const Span<const uint64_t> keys = KeysArgument("key", key);
  py::array_t<Value> values(static_cast<py::ssize_t>(keys.size()));
  Value* const out = values.mutable_data();
  const GilRelease gil_release;
  for (size_t i = 0; i < keys.size(); ++i) out[i] = static_cast<Value>(f(keys[i]));
  return std::move(values);
}

constexpr char kDoc[] =
    R"(How often keys have occurred, roughly and in little memory: a counting Bloom filter.

Memory is taken as it is needed: up to 2.4 * log10(1 / fpr) bytes for each key of `capacity`.

Example:

>>> seen = damo.PyFilter({"capacity": 1000, "min_count": 3})
>>> seen.add(7, 2)
>>> seen.count(7), seen.check(7)
(2, False)
>>> seen.add(np.array([7, 8], np.uint64))
>>> seen.check(np.array([7, 8], np.uint64))
array([ True, False])

Args:
    parameters: dict or Parameters:
        "capacity": integer in [1, 2**32]: keys that may be added before more of the others than `fpr` count
            as added. Default 2**28.
        "fpr": in [1e-9, 0.5]: the share of keys never added that count as added when `capacity` have been.
            Default 1e-3.
        "min_count": integer in [1, 15]: what `check` compares with. Default 1.

Raises:
    ValueError: unknown parameter, or a value that breaks its rule.)";

}  // namespace

PyFilter::PyFilter(const py::object& parameters) {
  const Parameters asked = WithName(ParametersArgument("parameters", parameters));
  ThrowIfError(CheckName(asked));
  ParameterReader reader("filter", asked);
  FilterOptions options;
  options.capacity =
      static_cast<int64_t>(reader.Number("capacity", static_cast<double>(options.capacity), kCapacity));
  options.fpr = reader.Number("fpr", options.fpr, kFpr);
  min_count_ = static_cast<int64_t>(reader.Number("min_count", 1, kMinCount));
  ThrowIfError(reader.Finish());
  ThrowIfError(options.Validate());
  parameters_ = reader.normalized();
  filter_.emplace(options);
}

void PyFilter::Add(const py::object& key, int64_t n) {
  if (n < 0) throw py::value_error(StrCat("`n` must be >= 0. Received: n=", n));
  const auto occurrences = static_cast<uint64_t>(n);
  if (!py::isinstance<py::array>(key) || py::reinterpret_borrow<py::array>(key).ndim() == 0) {
    const uint64_t one = KeyArgument(key);
    const GilRelease gil_release;
    const std::lock_guard<std::mutex> lock(mutex_);
    filter_->Add(one, occurrences);
    return;
  }
  const Span<const uint64_t> keys = KeysArgument("key", key);
  const GilRelease gil_release;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const uint64_t one : keys) filter_->Add(one, occurrences);
}

py::object PyFilter::Count(const py::object& key) const {
  return Map<uint8_t>(key, [this](uint64_t one) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return filter_->Count(one);
  });
}

py::object PyFilter::Check(const py::object& key) const {
  return Map<bool>(key, [this](uint64_t one) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return filter_->Count(one) >= min_count_;
  });
}

int64_t PyFilter::num_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return filter_->used_bytes();
}

double PyFilter::fill() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return filter_->fill();
}

void DefineFilter(py::module_& module) {
  py::class_<PyFilter>(module, "PyFilter", kDoc)
      .def(py::init<const py::object&>(), py::arg("parameters"))
      .def("add", &PyFilter::Add, py::arg("key"), py::arg("n") = 1,
           "Counts `n` >= 0 more occurrences of `key`, an int in [0, 2**64), or of each key of a uint64 [n]\n"
           "array, repetitions included. A count ends at 15.")
      .def("check", &PyFilter::Check, py::arg("key"),
           "Whether `key` has occurred at least \"min_count\" times. Never False for one that has; True by\n"
           "mistake for some others. Of an array: bool [n].")
      .def("count", &PyFilter::Count, py::arg("key"),
           "How often `key` has occurred, at most 15: never too small. Of an array: uint8 [n].")
      .def_property_readonly(
          "parameters", [](const PyFilter& self) { return ToDict(self.parameters()); },
          "All settings, defaults filled in.")
      .def_property_readonly("num_bytes", &PyFilter::num_bytes, "Memory of the counters, in bytes.")
      .def_property_readonly(
          "fill", &PyFilter::fill,
          "The share of counters that are not 0: about 0.5 when `capacity` keys have been added.");
}

}  // namespace damo::python
