// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_embedding.h"

#include <pybind11/stl.h>

#include <optional>

#include "pybind/gil_release.h"
#include "pybind/py_arrays.h"
#include "pybind/py_status.h"

namespace damo::python {
namespace {

namespace py = pybind11;

GroupConfig MakeConfig(const PyOptimizer& optimizer, const PyInitializer& initializer, int64_t dimension,
                       int64_t group, const GroupTtl& ttl_seconds, const PyEmbedding::Admission& admission) {
  ThrowIfError(ValidateGroup(group));
  GroupConfig config;
  config.group = static_cast<int>(group);
  config.dim = dimension;
  config.optimizer = optimizer.parameters();
  config.initializer = initializer.parameters();
  config.schedule = optimizer.schedule_parameters();
  config.ttl_seconds = GroupTtlArgument(ttl_seconds);
  config.min_count = admission.min_count;
  config.filter_capacity = admission.filter_capacity;
  config.filter_fpr = admission.filter_fpr;
  return config;
}

constexpr char kDoc[] =
    R"(The rows of one group.

Example:

>>> storage = damo.PyStorage("rows")
>>> optimizer = damo.PyOptimizer({"name": "sgd", "gamma": 0.5})
>>> initializer = damo.PyInitializer({"name": "zeros"})
>>> embedding = damo.PyEmbedding(storage, optimizer, initializer, dimension=2)
>>> keys = np.array([7, 8, 7], np.uint64)
>>> embedding.apply_gradients(keys, np.ones(6, np.float32))
>>> weights = np.empty(6, np.float32)
>>> embedding.lookup(keys, weights)
>>> weights
array([-1. , -1. , -0.5, -0.5, -1. , -1. ], dtype=float32)

Args:
    storage: a PyStorage.
    optimizer: a PyOptimizer.
    initializer: a PyInitializer.
    dimension: weights per row, 1 to 65536.
    group: 0 to 255. Two PyEmbedding of one group share its rows.
    ttl_seconds: int > 0: rows not updated for so long read as missing; "never": none does; None: as the
        store has it.
    min_count: 0 to 15: a key gets a row when it has occurred so often in apply_gradients; until then it reads
        as zeros. 0 (default): at once, and until then it reads as its initial value.
    filter_capacity, filter_fpr: the filter that counts, see PyFilter; fixed with the first min_count. None:
        as it stands, else 2**20 (less in a small memory_budget) and 1e-3.

Raises:
    ValueError: an argument breaks its rule, or the group stands with other settings.)";

}  // namespace

PyEmbedding::PyEmbedding(const PyStorage& storage, const PyOptimizer& optimizer,
                         const PyInitializer& initializer, int64_t dimension, int64_t group,
                         const GroupTtl& ttl_seconds, const Admission& admission)
    : store_(storage.store()),
      table_(storage.AddGroup(MakeConfig(optimizer, initializer, dimension, group, ttl_seconds, admission))) {
}

void PyEmbedding::Lookup(const py::object& keys, const py::object& weights) const {
  LookupOptions options;
  options.training = true;  // who must not disturb training reads through PyStorage
  LookupArrays(*table_, keys, weights, options);
}

void PyEmbedding::Prefetch(const py::object& keys_object) const {
  const Span<const uint64_t> keys = KeysArgument("keys", keys_object);
  const Status status = [&] {
    const GilRelease gil_release;
    return table_->Prefetch(keys, /*padding_key=*/std::nullopt, ModuleExecutor());
  }();
  ThrowIfError(status);
}

void PyEmbedding::ApplyGradients(const py::object& keys, const py::object& gradients,
                                 std::optional<double> learning_rate) {
  ApplyOptions options;
  options.learning_rate = learning_rate;
  ApplyArrays(*table_, keys, gradients, options);
}

void DefineEmbedding(py::module_& module) {
  py::class_<PyEmbedding>(module, "PyEmbedding", kDoc)
      .def(py::init([](const PyStorage& storage, const PyOptimizer& optimizer,
                       const PyInitializer& initializer, int64_t dimension, int64_t group,
                       const GroupTtl& ttl_seconds, int64_t min_count, std::optional<int64_t> filter_capacity,
                       std::optional<double> filter_fpr) {
             return PyEmbedding(storage, optimizer, initializer, dimension, group, ttl_seconds,
                                {min_count, filter_capacity, filter_fpr});
           }),
           py::arg("storage"), py::arg("optimizer"), py::arg("initializer"), py::arg("dimension"),
           py::arg("group") = 0, py::kw_only(), py::arg("ttl_seconds") = py::none(), py::arg("min_count") = 0,
           py::arg("filter_capacity") = py::none(), py::arg("filter_fpr") = py::none())
      .def("lookup", &PyEmbedding::Lookup, py::arg("keys"), py::arg("weights"),
           "Fills `weights` with the rows of `keys`; a key without a row reads as its initial value. Rows\n"
           "that are not in memory are brought there, for an apply_gradients that is to follow.\n\n"
           "Args:\n"
           "    keys: uint64 [n].\n"
           "    weights: float32 [n * dimension], filled in place.")
      .def("prefetch", &PyEmbedding::Prefetch, py::arg("keys"),
           "Brings the rows of `keys` into memory, as far as there is room, for a lookup or apply_gradients\n"
           "that is to follow. Changes no value. For a thread beside the one that trains.\n\n"
           "Args:\n"
           "    keys: uint64 [n].")
      .def("apply_gradients", &PyEmbedding::ApplyGradients, py::arg("keys"), py::arg("gradients"),
           py::arg("learning_rate") = py::none(),
           "Takes one optimizer step on each distinct key; gradients of equal keys are summed first.\n\n"
           "Args:\n"
           "    keys: uint64 [n].\n"
           "    gradients: float32 [n * dimension].\n"
           "    learning_rate: of this call, >= 0; None: the optimizer's own, by its schedule if it has one.")
      .def_property_readonly("dimension", &PyEmbedding::dimension, "Weights per row.")
      .def_property_readonly("group", &PyEmbedding::group, "Number of the group.");
}

}  // namespace damo::python
