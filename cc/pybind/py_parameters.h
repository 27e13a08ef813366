// SPDX-License-Identifier: Apache-2.0
//
// damo.Parameters, and dicts wherever Parameters is accepted.
#ifndef DAMO_PYBIND_PY_PARAMETERS_H_
#define DAMO_PYBIND_PY_PARAMETERS_H_

#include <pybind11/pybind11.h>

#include "damo/config/parameters.h"

namespace damo::python {

// A damo.Parameters or a dict from str to bool, int, float or str; TypeError for anything else, naming
// `name`.
Parameters ParametersArgument(const char* name, const pybind11::handle& object);

// As a dict.
pybind11::dict ToDict(const Parameters& parameters);

void DefineParameters(pybind11::module_& module);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_PARAMETERS_H_
