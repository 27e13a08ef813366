// SPDX-License-Identifier: Apache-2.0
//
// damo.PyEmbedding: the rows of one group of a PyStorage.
#ifndef DAMO_PYBIND_PY_EMBEDDING_H_
#define DAMO_PYBIND_PY_EMBEDDING_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "damo/table/embedding_table.h"
#include "damo/table/store.h"
#include "pybind/py_initializer.h"
#include "pybind/py_optimizer.h"
#include "pybind/py_storage.h"

namespace damo::python {

class PyEmbedding {
 public:
  // When keys get rows; see GroupConfig.
  struct Admission {
    int64_t min_count;
    std::optional<int64_t> filter_capacity;
    std::optional<double> filter_fpr;
  };

  PyEmbedding(const PyStorage& storage, const PyOptimizer& optimizer, const PyInitializer& initializer,
              int64_t dimension, int64_t group, const GroupTtl& ttl_seconds, const Admission& admission);

  // As ~PyStorage().
  ~PyEmbedding() {
    const GilRelease gil_release;
    store_.reset();
  }
  PyEmbedding(PyEmbedding&&) = default;

  void Lookup(const pybind11::object& keys, const pybind11::object& weights) const;
  void Prefetch(const pybind11::object& keys) const;
  void ApplyGradients(const pybind11::object& keys, const pybind11::object& gradients,
                      std::optional<double> learning_rate);
  int64_t dimension() const { return table_->dim(); }
  int group() const { return table_->group(); }

 private:
  std::shared_ptr<Store> store_;  // keeps the store open
  std::shared_ptr<EmbeddingTable> table_;
};

void DefineEmbedding(pybind11::module_& module);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_EMBEDDING_H_
