// SPDX-License-Identifier: Apache-2.0
//
// `damo.feature_hash`: keys of features, in plain Python.
#ifndef DAMO_PYBIND_PY_FEATURE_HASH_H_
#define DAMO_PYBIND_PY_FEATURE_HASH_H_

#include <pybind11/pybind11.h>

namespace damo::python {

void DefineFeatureHash(pybind11::module_& module);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_FEATURE_HASH_H_
