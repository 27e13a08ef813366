// SPDX-License-Identifier: Apache-2.0
//
// damo.PyStorage: an open store. damo_tf.Store stands on it.
#ifndef DAMO_PYBIND_PY_STORAGE_H_
#define DAMO_PYBIND_PY_STORAGE_H_

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <string>

#include "damo/base/executor.h"
#include "damo/config/store_options.h"
#include "damo/table/store.h"

namespace damo::python {

// The threads that engine calls from Python run on: one per core, the calling one among them.
Executor& ModuleExecutor();

class PyStorage {
 public:
  PyStorage(const std::string& directory, const StoreOptions& options);

  const std::shared_ptr<Store>& store() const { return store_; }

  // Adds a group and returns its table; see Store::AddGroup(). Needs the GIL.
  std::shared_ptr<EmbeddingTable> AddGroup(const GroupConfig& config) const;

 private:
  const std::shared_ptr<Store> store_;
};

void DefineStorage(pybind11::module_& module);

// The two calls of a table that PyStorage and PyEmbedding share. `context` names the arrays in errors.
void LookupArrays(const EmbeddingTable& table, const pybind11::object& keys, const pybind11::object& weights,
                  const LookupOptions& options);
ApplyResult ApplyArrays(EmbeddingTable& table, const pybind11::object& keys,
                        const pybind11::object& gradients, const ApplyOptions& options);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_STORAGE_H_
