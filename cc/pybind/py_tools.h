// SPDX-License-Identifier: Apache-2.0
//
// What operators do to a whole store, as methods of damo.PyStorage, and to checkpoints; damo_tf's command
// stands on it.
#ifndef DAMO_PYBIND_PY_TOOLS_H_
#define DAMO_PYBIND_PY_TOOLS_H_

#include <pybind11/pybind11.h>

#include "pybind/py_storage.h"

namespace damo::python {

void DefineTools(pybind11::module_& module, pybind11::class_<PyStorage>& storage);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_TOOLS_H_
