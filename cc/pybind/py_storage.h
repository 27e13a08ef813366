// SPDX-License-Identifier: Apache-2.0
//
// damo.PyStorage: an open store. damo_tf.Store stands on it.
#ifndef DAMO_PYBIND_PY_STORAGE_H_
#define DAMO_PYBIND_PY_STORAGE_H_

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "damo/base/executor.h"
#include "damo/config/store_options.h"
#include "damo/table/store.h"
#include "pybind/gil_release.h"

namespace damo::python {

// The threads that engine calls from Python run on, besides the calling one: one per core.
Executor& ModuleExecutor();

class PyStorage {
 public:
  PyStorage(const std::string& directory, const StoreOptions& options);
  // The last reference closes the store, which may take a while: not with the GIL held.
  ~PyStorage() {
    const GilRelease gil_release;
    store_.reset();
  }
  PyStorage(PyStorage&&) = default;

  const std::shared_ptr<Store>& store() const { return store_; }

  // Adds a group and returns its table; see Store::AddGroup(). Needs the GIL.
  std::shared_ptr<EmbeddingTable> AddGroup(const GroupConfig& config) const;

 private:
  std::shared_ptr<Store> store_;
};

void DefineStorage(pybind11::module_& module);

// A group's time to live as Python says it: seconds, "never", or None, as the store has it.
using GroupTtl = std::optional<std::variant<int64_t, std::string>>;
// Throws unless it is None, > 0 or "never".
std::optional<int64_t> GroupTtlArgument(const GroupTtl& ttl_seconds);

// The two calls of a table that PyStorage and PyEmbedding share.
void LookupArrays(const EmbeddingTable& table, const pybind11::object& keys, const pybind11::object& weights,
                  const LookupOptions& options);
ApplyResult ApplyArrays(EmbeddingTable& table, const pybind11::object& keys,
                        const pybind11::object& gradients, const ApplyOptions& options);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_STORAGE_H_
