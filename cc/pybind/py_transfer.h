// SPDX-License-Identifier: Apache-2.0
//
// How rows leave a PyStorage and come into it in other ways than lookups and gradients.
#ifndef DAMO_PYBIND_PY_TRANSFER_H_
#define DAMO_PYBIND_PY_TRANSFER_H_

#include <pybind11/pybind11.h>

#include "pybind/py_storage.h"

namespace damo::python {

// Adds dump, load, delete and read_rows.
void DefineTransfer(pybind11::class_<PyStorage>& storage);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_TRANSFER_H_
