// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_initializer.h"

#include "damo/base/float_environment.h"
#include "damo/config/group_config.h"
#include "damo/initializer/initializer_factory.h"
#include "pybind/py_arrays.h"
#include "pybind/py_parameters.h"
#include "pybind/py_status.h"

namespace damo::python {
namespace {

namespace py = pybind11;

constexpr char kDoc[] =
    R"(Initial weights of rows: zeros, ones, random_uniform, random_normal, truncate_normal or xavier_uniform.

Example:

>>> initializer = damo.PyInitializer({"name": "random_uniform", "min": 0.0})
>>> initializer.parameters
{'max': 1.0, 'min': 0.0, 'name': 'random_uniform'}
>>> weights = np.empty(2, np.float32)
>>> initializer.call(weights, key=7)
>>> weights
array([0.65898305, 0.04254701], dtype=float32)

Args:
    parameters: dict or Parameters: "name" and the initializer's settings.

Raises:
    ValueError: unknown name or parameter, or a value that breaks its rule.)";

}  // namespace

PyInitializer::PyInitializer(const py::object& parameters)
    : initializer_(ValueOrThrow(MakeInitializer(ParametersArgument("parameters", parameters)))) {}

void PyInitializer::Call(const py::object& values, uint64_t key, int64_t group, uint64_t seed) const {
  ThrowIfError(ValidateGroup(group));
  const Span<float> weights = OutputArgument("values", values);
  const ScopedFloatEnvironment float_environment;
  initializer_->Fill(RowRandom(seed, static_cast<uint8_t>(group), key), weights);
}

void DefineInitializer(py::module_& module) {
  py::class_<PyInitializer>(module, "PyInitializer", kDoc)
      .def(py::init<const py::object&>(), py::arg("parameters"))
      .def("call", &PyInitializer::Call, py::arg("values"), py::arg("key") = 0, py::arg("group") = 0,
           py::arg("seed") = 0,
           "Fills `values`, float32 [n], with the initial weights that a row of width n has under\n"
           "(seed, group, key): always the same for the same three.")
      .def_property_readonly(
          "parameters", [](const PyInitializer& self) { return ToDict(self.parameters()); },
          "All settings, defaults filled in.");
}

}  // namespace damo::python
