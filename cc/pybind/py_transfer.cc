// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_transfer.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "damo/dump/import_rows.h"
#include "damo/dump/load_dump.h"
#include "damo/dump/row_filter.h"
#include "damo/dump/write_dump.h"
#include "damo/storage/directory.h"
#include "damo/table/delete_rows.h"
#include "pybind/gil_release.h"
#include "pybind/py_arrays.h"
#include "pybind/py_progress.h"
#include "pybind/py_status.h"

namespace damo::python {
namespace {

namespace py = pybind11;

template <typename Call>
int64_t WithoutGil(const Call& call) {
  StatusOr<int64_t> result = [&] {
    const GilRelease gil_release;
    return call();
  }();
  return ValueOrThrow(std::move(result));
}

// The same for a call that tells a Python function of rows done and rows in all.
template <typename Call>
int64_t WithProgress(const py::object& progress, const Call& call) {
  PyProgress py_progress(progress);
  StatusOr<int64_t> result = [&] {
    const GilRelease gil_release;
    return call([&](int64_t num_rows, int64_t num_total) { return py_progress.Report(num_rows, num_total); });
  }();
  py_progress.Rethrow();
  return ValueOrThrow(std::move(result));
}

int64_t Dump(const PyStorage& self, const std::filesystem::path& path, std::optional<int64_t> group,
             int64_t min_count, std::optional<double> expire_days, const py::object& progress) {
  return WithProgress(progress, [&](const RowProgress& report) {
    return WriteDump(*self.store(), path.string(), group, {min_count, expire_days}, report);
  });
}

void CheckOutside(const PyStorage& self, const std::filesystem::path& path) {
  ThrowIfError(CheckOutsideStore(path.string(), self.store()->directory()));
}

int64_t Load(const PyStorage& self, const std::filesystem::path& path, const std::string& mode_name,
             const py::object& progress) {
  const ImportMode mode = ValueOrThrow(ParseImportMode(mode_name));
  return WithProgress(progress, [&](const RowProgress& report) {
    return LoadDump(*self.store(), path.string(), mode, report);
  });
}

int64_t Delete(const PyStorage& self, int64_t group, const py::object& keys_object) {
  const Span<const uint64_t> keys = KeysArgument("keys", keys_object);
  return WithoutGil([&] { return DeleteRows(*self.store(), group, keys); });
}

template <typename T>
py::array_t<T> ToArrayOf(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

// Collects rows and gives them to a Python function, many at a time.
class RowParts {
 public:
  // `visit` is borrowed.
  RowParts(const RowLayout& layout, size_t rows_per_part, const py::function& visit)
      : layout_(layout), rows_per_part_(rows_per_part), visit_(visit) {}

  // Without the GIL; takes it for the Python function, whose exception ends the scan.
  Status Add(const RowHeader& header, std::string_view row, std::optional<GilRelease>& gil_release) {
    keys_.push_back(header.key);
    update_times_.push_back(header.update_time);
    update_nums_.push_back(header.update_num);
    const std::string_view floats = row.substr(kRowHeaderBytes);
    const size_t weight_bytes = layout_.dim() * sizeof(float);
    Append(floats.substr(0, weight_bytes), weights_);
    Append(floats.substr(weight_bytes), slots_);
    return keys_.size() < rows_per_part_ ? Status() : Flush(gil_release);
  }

  Status Flush(std::optional<GilRelease>& gil_release) {
    if (keys_.empty()) return Status();
    gil_release.reset();
    try {
      visit_(ToArrayOf(keys_), ToArrayOf(weights_), ToArrayOf(update_times_), ToArrayOf(update_nums_),
             ToArrayOf(slots_));
    } catch (...) {
      failure_ = std::current_exception();
    }
    gil_release.emplace();
    keys_.clear();
    update_times_.clear();
    update_nums_.clear();
    weights_.clear();
    slots_.clear();
    return failure_ ? Internal("the Python function has failed") : Status();
  }

  // With the GIL: raises what the Python function raised.
  void Rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  static void Append(std::string_view bytes, std::vector<float>& floats) {
    const size_t size = floats.size();
    floats.resize(size + bytes.size() / sizeof(float));
    if (!bytes.empty()) std::memcpy(floats.data() + size, bytes.data(), bytes.size());
  }

  const RowLayout layout_;
  const size_t rows_per_part_;
  const py::function& visit_;
  std::vector<uint64_t> keys_;
  std::vector<int64_t> update_times_;
  std::vector<int64_t> update_nums_;
  std::vector<float> weights_;
  std::vector<float> slots_;
  std::exception_ptr failure_;
};

void ReadRows(const PyStorage& self, int64_t group, const py::function& visit, int64_t min_count,
              std::optional<double> expire_days, int64_t rows_per_part) {
  const RowFilter filter{min_count, expire_days};
  ThrowIfError(filter.Validate());
  if (rows_per_part < 1) {
    throw py::value_error(StrCat("`rows_per_part` must be >= 1. Received: rows_per_part=", rows_per_part));
  }
  const std::shared_ptr<Store> store = self.store();
  const std::shared_ptr<EmbeddingTable> table = ValueOrThrow(store->Table(group));
  RowParts parts(table->recipe()->layout, static_cast<size_t>(rows_per_part), visit);
  std::optional<GilRelease> gil_release;
  gil_release.emplace();
  const Status status = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StoreSnapshot> snapshot, store->TakeSnapshot());
    DAMO_RETURN_IF_ERROR(VisitRows(
        *snapshot, table->group(), filter,
        [&](const RowHeader& header, std::string_view row) { return parts.Add(header, row, gil_release); }));
    return parts.Flush(gil_release);
  }();
  gil_release.reset();
  parts.Rethrow();
  ThrowIfError(status);
}

}  // namespace

void DefineTransfer(py::class_<PyStorage>& storage) {
  storage
      .def("dump", &Dump, py::arg("path"), py::kw_only(), py::arg("group") = py::none(),
           py::arg("min_count") = 0, py::arg("expire_days") = py::none(), py::arg("progress") = py::none(),
           "Writes the weights of all rows, or of one group's, to a file (docs/dump_format.md), replacing "
           "one\n"
           "that is there when the new one is complete. Rows updated less often than min_count, or not for\n"
           "expire_days, are left out. Returns the number of rows. progress(rows written, rows in all) is\n"
           "called now and then; what it raises ends the work and comes out of here.")
      .def(
          "check_outside", &CheckOutside, py::arg("path"),
          "Raises a ValueError if `path` lies inside the store's own directory, where others must not write.")
      .def(
          "load", &Load, py::arg("path"), py::kw_only(), py::arg("mode") = "merge",
          py::arg("progress") = py::none(),
          "Puts the rows of a dump into their groups, all or none. mode 'merge' keeps rows of other keys,\n"
          "'replace' deletes them. Returns the number of rows. progress(rows loaded, rows in all) is called\n"
          "now and then; what it raises ends the work, of which nothing is then done.")
      .def("delete", &Delete, py::arg("group"), py::arg("keys"),
           "Deletes the rows of `keys`, uint64 [n]; those without a row are passed over. Returns how many\n"
           "had one.")
      .def("read_rows", &ReadRows, py::arg("group"), py::arg("visit"), py::kw_only(),
           py::arg("min_count") = 0, py::arg("expire_days") = py::none(), py::arg("rows_per_part") = 65536,
           "Calls visit(keys, weights, update_times, update_nums, slots) with all rows of a group as of one\n"
           "moment, in ascending order of keys, at most rows_per_part at a time, as one-dimensional arrays.\n"
           "`visit` must not close the store.");
}

}  // namespace damo::python
