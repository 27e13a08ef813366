// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_optimizer.h"

#include <pybind11/stl.h>

#include <string>

#include "damo/base/float_environment.h"
#include "damo/optimizer/optimizer_factory.h"
#include "damo/schedule/schedule_factory.h"
#include "pybind/py_arrays.h"
#include "pybind/py_parameters.h"
#include "pybind/py_status.h"

namespace damo::python {
namespace {

namespace py = pybind11;

std::unique_ptr<const Schedule> ScheduleArgument(const py::object& schedule) {
  if (schedule.is_none()) return nullptr;
  return ValueOrThrow(MakeSchedule(ParametersArgument("schedule", schedule)));
}

constexpr char kDoc[] =
    R"(How rows are updated: sgd, ftrl, adagrad, adam, adamw or lion.

Example:

>>> schedule = {"name": "exponential_decay", "decay_steps": 1000, "decay_rate": 0.5}
>>> optimizer = damo.PyOptimizer({"name": "adagrad", "gamma": 0.5}, schedule)
>>> optimizer.slot_names
['sum']
>>> weights = np.zeros(2, np.float32)
>>> optimizer.call(weights, np.array([1.0, -4.0], np.float32), step=1)
>>> weights
array([-0.5,  0.5], dtype=float32)

Args:
    parameters: dict or Parameters: "name" and the optimizer's settings.
    schedule: dict or Parameters of a learning-rate schedule over the table's global step; None: a constant
        learning rate.

Raises:
    ValueError: unknown name or parameter, or a value that breaks its rule.)";

}  // namespace

PyOptimizer::PyOptimizer(const py::object& parameters, const py::object& schedule)
    : optimizer_(ValueOrThrow(MakeOptimizer(ParametersArgument("parameters", parameters)))),
      schedule_(ScheduleArgument(schedule)) {}

std::optional<Parameters> PyOptimizer::schedule_parameters() const {
  if (schedule_ == nullptr) return std::nullopt;
  return schedule_->parameters();
}

std::vector<std::string> PyOptimizer::slot_names() const {
  const Span<const std::string_view> names = optimizer_->slot_names();
  return {names.begin(), names.end()};
}

void PyOptimizer::Call(const py::object& weights_object, const py::object& gradients_object, int64_t step) {
  const Span<float> weights = OutputArgument("weights", weights_object);
  const Span<const float> gradients = FloatsArgument("gradients", gradients_object);
  if (gradients.size() != weights.size()) {
    throw py::value_error(StrCat("`gradients` must have the size of `weights`, ", weights.size(),
                                 ". Received: ", gradients.size()));
  }
  if (gradients.data() < weights.end() && weights.data() < gradients.end()) {
    throw py::value_error("`gradients` must not share memory with `weights`, which are updated in place");
  }
  if (step < 1) throw py::value_error(StrCat("`step` must be >= 1, the first step. Received: step=", step));
  const size_t slot_floats = weights.size() * optimizer_->slot_names().size();
  if (step == 1 || slots_.size() != slot_floats) slots_.assign(slot_floats, 0.0f);

  const double base = optimizer_->learning_rate();
  const double learning_rate = schedule_ ? schedule_->LearningRate(base, step - 1) : base;
  const ScopedFloatEnvironment float_environment;
  std::vector<float> scratch(gradients.begin(), gradients.end());
  optimizer_->Update({learning_rate, step}, scratch, weights, slots_);
}

void DefineOptimizer(py::module_& module) {
  py::class_<PyOptimizer>(module, "PyOptimizer", kDoc)
      .def(py::init<const py::object&, const py::object&>(), py::arg("parameters"),
           py::arg("schedule") = py::none())
      .def("call", &PyOptimizer::Call, py::arg("weights"), py::arg("gradients"), py::arg("step"),
           "Takes one step on plain arrays, for experiments.\n\n"
           "Args:\n"
           "    weights: float32 [n], updated in place.\n"
           "    gradients: float32 [n].\n"
           "    step: number of this step, counted from 1. The optimizer's slots are kept in this object "
           "from\n"
           "        call to call; step 1, or another n than before, starts them from zero.")
      .def_property_readonly(
          "parameters", [](const PyOptimizer& self) { return ToDict(self.parameters()); },
          "All settings, defaults filled in.")
      .def_property_readonly(
          "schedule",
          [](const PyOptimizer& self) {
            const std::optional<Parameters> schedule = self.schedule_parameters();
            return schedule ? py::object(ToDict(*schedule)) : py::none();
          },
          "All settings of the schedule, defaults filled in, or None.")
      .def_property_readonly("slot_names", &PyOptimizer::slot_names,
                             "Names of the slots that follow the weights in a row, in order.");
}

}  // namespace damo::python
