// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_parameters.h"

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <string_view>

namespace damo::python {
namespace {

namespace py = pybind11;

// NumPy's bool is none of Python's kinds of number.
bool IsBool(const py::handle& value) {
  const std::string_view type = Py_TYPE(value.ptr())->tp_name;
  return py::isinstance<py::bool_>(value) || type == "numpy.bool" || type == "numpy.bool_";
}

// The int64 that `value`, an int or one of NumPy's integers, stands for; nullopt if it stands for none.
std::optional<int64_t> IntegerArgument(const std::string& key, const py::handle& value) {
  if (PyIndex_Check(value.ptr()) == 0) return std::nullopt;
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) {  // an array, say
    PyErr_Clear();
    return std::nullopt;
  }
  int overflow = 0;
  const int64_t number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow == 0) return number;
  throw py::value_error(StrCat("parameter '", key, "' must fit in 64 bits. Received: ", key, "=",
                               std::string(py::repr(value))));
}

Parameters::Value ValueArgument(const std::string& key, const py::handle& value) {
  if (IsBool(value)) return value.cast<bool>();
  if (py::isinstance<py::str>(value)) return value.cast<std::string>();
  if (const std::optional<int64_t> integer = IntegerArgument(key, value)) return *integer;
  if (PyFloat_Check(value.ptr()) != 0 || py::hasattr(value, "__float__")) {  // float and NumPy's floats
    const double number = PyFloat_AsDouble(value.ptr());
    if (PyErr_Occurred() == nullptr) return number;
    PyErr_Clear();
  }
  throw py::type_error(StrCat("parameter '", key, "' must be a bool, int, float or str. Received: ", key, "=",
                              std::string(py::repr(value))));
}

void Insert(Parameters& parameters, const std::string& key, const py::handle& value) {
  parameters.Insert(key, ValueArgument(key, value));
}

constexpr char kDoc[] =
    R"(Name and settings of an optimizer, initializer, filter or schedule. A dict is accepted wherever it is.

Example:

>>> parameters = damo.Parameters()
>>> parameters.insert("name", "adam")
>>> parameters.insert("gamma", 0.01)
>>> damo.PyOptimizer(parameters).slot_names
['m', 'v']
>>> parameters
Parameters({"gamma":0.01,"name":"adam"}))";

}  // namespace

Parameters ParametersArgument(const char* name, const py::handle& object) {
  if (py::isinstance<Parameters>(object)) return object.cast<Parameters>();
  if (!py::isinstance<py::dict>(object)) {
    throw py::type_error(StrCat("`", name, "` must be a dict or damo.Parameters. Received: ", name, "=",
                                std::string(py::repr(object))));
  }
  Parameters parameters;
  for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(object)) {
    if (!py::isinstance<py::str>(key)) {
      throw py::type_error(
          StrCat("keys of `", name, "` must be str. Received: ", std::string(py::repr(key))));
    }
    Insert(parameters, key.cast<std::string>(), value);
  }
  return parameters;
}

py::dict ToDict(const Parameters& parameters) {
  py::dict dict;
  for (const auto& [key, value] : parameters.values()) dict[py::str(key)] = py::cast(value);
  return dict;
}

void DefineParameters(py::module_& module) {
  py::class_<Parameters>(module, "Parameters", kDoc)
      .def(py::init<>())
      .def("insert", &Insert, py::arg("key"), py::arg("value"),
           "Sets one entry. `value` is a bool, int, float or str.")
      .def("to_json", &Parameters::ToJson, "All entries as one JSON object, keys sorted.")
      .def("__repr__", [](const Parameters& self) { return StrCat("Parameters(", self.ToJson(), ")"); });
}

}  // namespace damo::python
