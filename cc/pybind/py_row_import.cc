// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_row_import.h"

#include <optional>
#include <utility>

#include "pybind/py_arrays.h"
#include "pybind/py_status.h"

namespace damo::python {
namespace {

namespace py = pybind11;

std::unique_ptr<GroupImport> BeginImport(const PyStorage& storage, int64_t group) {
  return ValueOrThrow(GroupImport::Begin(storage.store(), group));
}

constexpr char kDoc[] =
    R"(Rows on their way into a group.

They wait on disk, beside the store, and enter it all at once; one that is not committed leaves nothing. Not
for several threads at a time.

Example:

>>> storage = damo.PyStorage("rows")
>>> storage.add_group(0, 2, {"name": "zeros"}, {"name": "sgd"})
>>> rows = damo.PyRowImport(storage, 0)
>>> rows.add(np.array([7, 3], np.uint64), np.array([1, 2, 3, 4], np.float32))
>>> storage.size(), rows.commit(), storage.size()
(0, 2, 2)

Args:
    storage: a PyStorage.
    group: a group that exists.)";

}  // namespace

PyRowImport::PyRowImport(const PyStorage& storage, int64_t group) : import_(BeginImport(storage, group)) {}

void PyRowImport::Add(const py::object& keys_object, const py::object& weights_object,
                      const py::object& slots, const py::object& update_nums,
                      const py::object& update_times) {
  const Span<const uint64_t> keys = KeysArgument("keys", keys_object);
  const Span<const float> weights = FloatsArgument("weights", weights_object);
  std::optional<RowStates> states;
  if (!slots.is_none() || !update_nums.is_none() || !update_times.is_none()) {
    states = RowStates{FloatsArgument("slots", slots), IntegersArgument("update_nums", update_nums),
                       IntegersArgument("update_times", update_times)};
  }
  const Status status = [&] {
    const GilRelease gil_release;
    return import_->Add(keys, weights, states);
  }();
  ThrowIfError(status);
}

int64_t PyRowImport::Commit(const std::string& mode_name) {
  const ImportMode mode = ValueOrThrow(ParseImportMode(mode_name));
  StatusOr<int64_t> num_rows = [&] {
    const GilRelease gil_release;
    return import_->Commit(mode);
  }();
  return ValueOrThrow(std::move(num_rows));
}

void DefineRowImport(py::module_& module) {
  py::class_<PyRowImport>(module, "PyRowImport", kDoc)
      .def(py::init<const PyStorage&, int64_t>(), py::arg("storage"), py::arg("group"))
      .def("add", &PyRowImport::Add, py::arg("keys"), py::arg("weights"), py::kw_only(),
           py::arg("slots") = py::none(), py::arg("update_nums") = py::none(),
           py::arg("update_times") = py::none(),
           "Adds rows, in any order. Without slots, update_nums and update_times (all or none) they are as\n"
           "after their first update, now, with the slots of a new row.\n\n"
           "Args:\n"
           "    keys: uint64 [n].\n"
           "    weights: float32 [n * dim].\n"
           "    slots: float32 [n * dim * number of slots], as rows have them on disk.\n"
           "    update_nums: int64 [n].\n"
           "    update_times: int64 [n], milliseconds since 1970, UTC.")
      .def("commit", &PyRowImport::Commit, py::kw_only(), py::arg("mode") = "merge",
           "Puts the rows into the store. mode 'merge' keeps rows of other keys, 'replace' deletes them.\n"
           "Returns the number of rows.");
}

}  // namespace damo::python
