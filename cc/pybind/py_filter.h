// SPDX-License-Identifier: Apache-2.0
//
// damo.PyFilter: the admission filter on its own.
#ifndef DAMO_PYBIND_PY_FILTER_H_
#define DAMO_PYBIND_PY_FILTER_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <mutex>
#include <optional>

#include "damo/admission/counting_filter.h"
#include "damo/config/parameters.h"

namespace damo::python {

// Thread-safe.
class PyFilter {
 public:
  // Reads capacity, fpr and min_count.
  explicit PyFilter(const pybind11::object& parameters);

  const Parameters& parameters() const { return parameters_; }

  // `key` is an int or a uint64 [n]; so is then what comes back: one value, or an array of n.
  void Add(const pybind11::object& key, int64_t n);
  pybind11::object Check(const pybind11::object& key) const;
  pybind11::object Count(const pybind11::object& key) const;

  int64_t num_bytes() const;
  double fill() const;

 private:
  Parameters parameters_;
  int64_t min_count_ = 0;
  mutable std::mutex mutex_;  // guards filter_
  std::optional<CountingFilter> filter_;
};

void DefineFilter(pybind11::module_& module);

}  // namespace damo::python

#endif  // DAMO_PYBIND_PY_FILTER_H_
