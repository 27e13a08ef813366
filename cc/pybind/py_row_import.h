// SPDX-License-Identifier: Apache-2.0
//
// damo.PyRowImport: rows from a program on their way into a group.
#ifndef DAMO_PYBIND_PY_ROW_IMPORT_H_
#define DAMO_PYBIND_PY_ROW_IMPORT_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>

#include "damo/dump/group_import.h"
#include "pybind/gil_release.h"
#include "pybind/py_storage.h"

namespace damo::python {

// The GIL does not keep two threads of one Python object apart while it is given up: the caller does.
class PyRowImport {
 public:
  PyRowImport(const PyStorage& storage, int64_t group);
  // It may have the last reference to the store; see PyStorage.
  ~PyRowImport() {
    const GilRelease gil_release;
    import_.reset();
  }

  void Add(const pybind11::object& keys, const pybind11::object& weights, const pybind11::object& slots,
           const pybind11::object& update_nums, const pybind11::object& update_times);
  int64_t Commit(const std::string& mode);

 private:
  std::unique_ptr<GroupImport> import_;
};

void DefineRowImport(pybind11::module_& module);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_ROW_IMPORT_H_
