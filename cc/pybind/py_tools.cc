// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_tools.h"

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "damo/dump/convert_store.h"
#include "damo/table/store.h"
#include "damo/table/verify_checkpoint.h"
#include "pybind/gil_release.h"
#include "pybind/py_parameters.h"
#include "pybind/py_progress.h"
#include "pybind/py_status.h"

namespace damo::python {
namespace {

namespace py = pybind11;

// What `verify(progress)`, called without the GIL, finds.
template <typename Call>
py::dict FoundBy(const py::object& progress, const Call& verify) {
  PyProgress py_progress(progress);
  StatusOr<Verification> result = [&] {
    const GilRelease gil_release;
    return verify([&](int64_t num_rows, int64_t num_expected_rows) {
      return py_progress.Report(num_rows, num_expected_rows);
    });
  }();
  py_progress.Rethrow();
  ThrowIfPathError(result.status());
  const Verification& found = *result;
  py::dict dict;
  dict["files"] = found.num_files;
  dict["rows"] = found.num_rows;
  dict["problems"] = found.problems();
  dict["more_problems"] = found.num_more_problems();
  return dict;
}

py::dict Verify(const PyStorage& self, const py::object& progress) {
  return FoundBy(progress, [&](const VerifyProgress& report) { return self.store()->Verify(report); });
}

py::dict VerifyCheckpointIn(const std::filesystem::path& directory, const py::object& progress) {
  return FoundBy(progress,
                 [&](const VerifyProgress& report) { return VerifyCheckpoint(directory.string(), report); });
}

void Compact(const PyStorage& self, const py::object& progress) {
  PyProgress py_progress(progress);
  const Status status = [&] {
    const GilRelease gil_release;
    return self.store()->Compact(
        [&](uint64_t num_bytes, uint64_t num_total) { return py_progress.Report(num_bytes, num_total); });
  }();
  py_progress.Rethrow();
  ThrowIfError(status);
}

int64_t Convert(const PyStorage& self, const std::filesystem::path& directory, int64_t group,
                std::optional<int64_t> dim, const py::object& optimizer, const py::object& progress) {
  GroupConversion conversion;
  conversion.group = group;
  conversion.dim = dim;
  if (!optimizer.is_none()) conversion.optimizer = ParametersArgument("optimizer", optimizer);
  PyProgress py_progress(progress);
  StatusOr<int64_t> num_rows = [&] {
    const GilRelease gil_release;
    return ConvertStore(*self.store(), directory.string(), conversion,
                        [&](int64_t done) { return py_progress.Report(done); });
  }();
  py_progress.Rethrow();
  return ValueOrThrow(std::move(num_rows));
}

constexpr char kVerifyCheckpointDoc[] =
    R"(Looks for damage in a checkpoint, full or a delta, and in all that it builds on.

That is what its description says against its files and its manifest, and all that PyStorage.verify() looks
at, of the rows of the chain.

Example:

>>> with damo.PyStorage("rows") as storage:
...     storage.checkpoint("checkpoint")
>>> damo.verify_checkpoint("checkpoint")["problems"]
[]

Args:
    directory: path of the checkpoint.
    progress: called now and then with the rows looked at and expected; what it raises ends the work and comes
        out of this call. None: nothing is called.

Returns:
    As PyStorage.verify().

Raises:
    FileNotFoundError: the directory is no checkpoint.)";

}  // namespace

void DefineTools(py::module_& module, py::class_<PyStorage>& storage) {
  module.def("verify_checkpoint", &VerifyCheckpointIn, py::arg("directory"), py::arg("progress") = py::none(),
             kVerifyCheckpointDoc);
  storage.def(
      "verify", &Verify, py::arg("progress") = py::none(),
      "Looks for damage: every checksum of every file, every row, groups and numbers of rows against the\n"
      "manifest. Changes nothing. Returns a dict: files and rows looked at, problems (a list of str, the\n"
      "first hundred), more_problems (how many others). progress(rows, expected_rows) is called now and\n"
      "then; what it raises ends the work and comes out of this call.");
  storage.def(
      "convert", &Convert, py::arg("directory"), py::arg("group"), py::kw_only(), py::arg("dim") = py::none(),
      py::arg("optimizer") = py::none(), py::arg("progress") = py::none(),
      "Copies the store into a new one, with another dim or optimizer for a group, whose rows keep the\n"
      "weights there is room for, get initial ones where there is more, and fresh slots. Returns the number\n"
      "of rows. progress(rows) is called now and then.");
  storage.def(
      "compact", &Compact, py::arg("progress") = py::none(),
      "Writes the files of all rows anew, so that what was deleted, written over or has expired takes\n"
      "no more space. progress(bytes written, bytes that the files have at first) is called now and then;\n"
      "what it raises ends the work.");
}

}  // namespace damo::python
