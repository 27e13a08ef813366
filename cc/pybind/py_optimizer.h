// SPDX-License-Identifier: Apache-2.0
//
// damo.PyOptimizer: an optimizer with its learning-rate schedule.
#ifndef DAMO_PYBIND_PY_OPTIMIZER_H_
#define DAMO_PYBIND_PY_OPTIMIZER_H_

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <vector>

#include "damo/optimizer/optimizer.h"
#include "damo/schedule/schedule.h"

namespace damo::python {

class PyOptimizer {
 public:
  // `schedule` may be None: a constant learning rate.
  PyOptimizer(const pybind11::object& parameters, const pybind11::object& schedule);

  const Parameters& parameters() const { return optimizer_->parameters(); }
  std::optional<Parameters> schedule_parameters() const;
  std::vector<std::string> slot_names() const;

  // Takes step number `step` (1, 2, ...) on one plain array. The slots live in this object: step 1, or
  // another number of weights than before, starts them afresh.
  void Call(const pybind11::object& weights, const pybind11::object& gradients, int64_t step);

 private:
  const std::unique_ptr<const Optimizer> optimizer_;
  const std::unique_ptr<const Schedule> schedule_;  // null: constant
  std::vector<float> slots_;
};

void DefineOptimizer(pybind11::module_& module);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_OPTIMIZER_H_
