// SPDX-License-Identifier: Apache-2.0
//
// damo.PyInitializer: the initial weights of rows.
#ifndef DAMO_PYBIND_PY_INITIALIZER_H_
#define DAMO_PYBIND_PY_INITIALIZER_H_

#include <pybind11/pybind11.h>

#include <memory>

#include "damo/initializer/initializer.h"

namespace damo::python {

class PyInitializer {
 public:
  explicit PyInitializer(const pybind11::object& parameters);

  const Parameters& parameters() const { return initializer_->parameters(); }

  // Fills `values` with the initial weights of the row (seed, group, key).
  void Call(const pybind11::object& values, uint64_t key, int64_t group, uint64_t seed) const;

 private:
  const std::unique_ptr<const Initializer> initializer_;
};

void DefineInitializer(pybind11::module_& module);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_INITIALIZER_H_
