// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_initializer.h"

#include "damo/base/float_environment.h"
#include "damo/config/group_config.h"
#include "damo/initializer/initializer_factory.h"
#include "pybind/py_arrays.h"
#include "pybind/py_parameters.h"
#include "pybind/py_status.h"

namespace damo::python {

namespace py = pybind11;

PyInitializer::PyInitializer(const py::object& parameters)
    : initializer_(ValueOrThrow(MakeInitializer(ParametersArgument("parameters", parameters)))) {}

void PyInitializer::Call(const py::object& values, uint64_t key, int64_t group, uint64_t seed) const {
  ThrowIfError(ValidateGroup(group));
  const Span<float> weights = OutputArgument("values", values);
  const ScopedFloatEnvironment float_environment;
  initializer_->Fill(RowRandom(seed, static_cast<uint8_t>(group), key), weights);
}

void DefineInitializer(py::module_& module) {
  py::class_<PyInitializer>(module, "PyInitializer",
                            "Initial weights of rows: zeros, ones, random_uniform, random_normal,\n"
                            "truncate_normal or xavier_uniform.\n\n"
                            "Args:\n"
                            "    parameters: dict or Parameters: \"name\" and the initializer's settings.\n\n"
                            "Raises:\n"
                            "    ValueError: unknown name or parameter, or a value that breaks its rule.")
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
