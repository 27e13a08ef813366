// SPDX-License-Identifier: Apache-2.0
//
// The extension behind the Python module `damo`: what the engine offers to NumPy. One class per py_*.cc file.
#include <pybind11/pybind11.h>

#include "damo/base/build_id.h"
#include "damo/base/simd_level.h"
#include "damo/base/status.h"
#include "damo/table/store_registry.h"
#include "pybind/gil_release.h"
#include "pybind/py_embedding.h"
#include "pybind/py_feature_hash.h"
#include "pybind/py_filter.h"
#include "pybind/py_initializer.h"
#include "pybind/py_optimizer.h"
#include "pybind/py_parameters.h"
#include "pybind/py_row_import.h"
#include "pybind/py_status.h"
#include "pybind/py_storage.h"

namespace damo::python {
namespace {

namespace py = pybind11;

void CheckBuildId() {
  if (CoreBuildId() == DAMO_BUILD_ID) return;
  throw py::import_error(StrCat("damo was built with engine ", DAMO_BUILD_ID, ", but engine ", CoreBuildId(),
                                " is loaded: another installation of damo_tf is in use in this process"));
}

void CloseAll() {
  const Status status = [] {
    const GilRelease gil_release;
    return StoreRegistry::Global().CloseAll();
  }();
  ThrowIfError(status);
}

constexpr char kCloseAllDoc[] = R"(Closes every store that is open in this process, for everyone.

Example:

>>> storage = damo.PyStorage("rows")
>>> damo.close_all()
>>> storage.closed
True)";

}  // namespace
}  // namespace damo::python

PYBIND11_MODULE(_damo, module) {
  using namespace damo::python;  // NOLINT(google-build-using-namespace): the module's own body
  CheckBuildId();
  DefineParameters(module);
  DefineOptimizer(module);
  DefineInitializer(module);
  DefineFilter(module);
  DefineStorage(module);
  DefineEmbedding(module);
  DefineFeatureHash(module);
  DefineRowImport(module);
  module.def("close_all", &CloseAll, kCloseAllDoc);
  module.attr("build_id") = DAMO_BUILD_ID;
  module.attr("simd_level") = damo::SimdLevelName(damo::ActiveSimdLevel());
}
