// SPDX-License-Identifier: Apache-2.0
#include "pybind/py_storage.h"

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <thread>

#include "damo/base/thread_pool.h"
#include "damo/table/store_registry.h"
#include "pybind/gil_release.h"
#include "pybind/py_arrays.h"
#include "pybind/py_parameters.h"
#include "pybind/py_progress.h"
#include "pybind/py_status.h"
#include "pybind/py_tools.h"
#include "pybind/py_transfer.h"

namespace damo::python {
namespace {

namespace py = pybind11;

MissingRow MissingArgument(const std::string& missing) {
  if (missing == "initial") return MissingRow::kInitial;
  if (missing == "zeros") return MissingRow::kZeros;
  throw py::value_error(StrCat("`missing` must be 'initial' or 'zeros'. Received: missing='", missing, "'"));
}

PyStorage OpenStorage(const std::filesystem::path& directory, std::optional<int64_t> ttl_seconds,
                      std::optional<int64_t> memory_budget, const std::optional<std::string>& durability,
                      std::optional<bool> read_only, std::optional<uint64_t> seed, bool create_if_missing,
                      std::optional<bool> row_cache, const std::optional<std::string>& clock) {
  StoreOptions options;
  options.ttl_seconds = ttl_seconds;
  options.memory_budget = memory_budget;
  if (durability) options.durability = ValueOrThrow(ParseDurability(*durability));
  options.read_only = read_only;
  options.seed = seed;
  options.create_if_missing = create_if_missing;
  options.row_cache = row_cache;
  if (clock) options.clock = ValueOrThrow(ParseClock(*clock));
  return PyStorage(directory.string(), options);
}

std::shared_ptr<EmbeddingTable> TableOf(const PyStorage& self, int64_t group) {
  return ValueOrThrow(self.store()->Table(group));
}

void AddGroup(const PyStorage& self, int64_t group, int64_t dim, const py::object& initializer,
              const py::object& optimizer, const py::object& schedule, const GroupTtl& ttl_seconds,
              int64_t min_count, std::optional<int64_t> filter_capacity, std::optional<double> filter_fpr) {
  ThrowIfError(ValidateGroup(group));
  GroupConfig config;
  config.group = static_cast<int>(group);
  config.dim = dim;
  config.initializer = ParametersArgument("initializer", initializer);
  config.optimizer = ParametersArgument("optimizer", optimizer);
  if (!schedule.is_none()) config.schedule = ParametersArgument("schedule", schedule);
  config.ttl_seconds = GroupTtlArgument(ttl_seconds);
  config.min_count = min_count;
  config.filter_capacity = filter_capacity;
  config.filter_fpr = filter_fpr;
  self.AddGroup(config);
}

py::object ToPython(std::optional<int64_t> group_ttl_seconds) {
  if (!group_ttl_seconds) return py::none();
  if (*group_ttl_seconds == GroupConfig::kNeverExpires) return py::str("never");
  return py::int_(*group_ttl_seconds);
}

py::dict GroupConfigDict(const GroupConfig& config) {
  py::dict dict;
  dict["dim"] = config.dim;
  dict["optimizer"] = ToDict(config.optimizer);
  dict["initializer"] = ToDict(config.initializer);
  dict["schedule"] = config.schedule ? py::object(ToDict(*config.schedule)) : py::none();
  dict["ttl_seconds"] = ToPython(config.ttl_seconds);
  dict["min_count"] = config.min_count;
  dict["filter_capacity"] = config.filter_capacity;
  dict["filter_fpr"] = config.filter_fpr;
  return dict;
}

py::dict GroupDict(const GroupStats& group) {
  py::dict dict = GroupConfigDict(group.config);
  dict["rows"] = group.num_rows;
  dict["rows_exact"] = group.num_rows_exact;
  dict["row_bytes"] = group.row_bytes;
  dict["bytes"] = group.num_rows * group.row_bytes;
  dict["step"] = group.step;
  dict["lookups"] = group.counters.lookup_keys;
  dict["missing"] = group.counters.missing_keys;
  dict["updated"] = group.counters.updated_rows;
  dict["inserted"] = group.counters.inserted_rows;
  dict["skipped"] = group.counters.skipped_rows;
  dict["blocked"] = group.counters.blocked_keys;
  dict["expired"] = group.counters.expired_rows;
  dict["lookup_calls"] = group.counters.lookup_calls;
  dict["lookup_seconds"] = 1e-9 * static_cast<double>(group.counters.lookup_nanos);
  dict["apply_calls"] = group.counters.apply_calls;
  dict["apply_seconds"] = 1e-9 * static_cast<double>(group.counters.apply_nanos);
  dict["cache_hits"] = group.counters.lookup_keys - group.counters.cache_misses;
  dict["cache_misses"] = group.counters.cache_misses;
  dict["cache_rows"] = group.memory.num_rows;
  dict["dirty"] = group.memory.num_dirty;
  dict["evicted"] = group.memory.num_evicted;
  dict["filter_bytes"] = group.memory.filter_bytes;
  dict["filter_fill"] = group.filter_fill;
  return dict;
}

py::dict Stats(const PyStorage& self, bool count_rows) {
  StatusOr<StoreStats> result = [&] {
    const GilRelease gil_release;
    return self.store()->Stats(count_rows);
  }();
  const StoreStats stats = ValueOrThrow(std::move(result));
  py::dict groups;
  for (const GroupStats& group : stats.groups) groups[py::int_(group.config.group)] = GroupDict(group);
  py::dict dict;
  dict["directory"] = self.store()->directory();
  dict["disk_bytes"] = stats.storage.disk_bytes;
  dict["block_cache_hits"] = stats.storage.block_cache_hits;
  dict["block_cache_misses"] = stats.storage.block_cache_misses;
  dict["block_cache_bytes"] = stats.storage.block_cache_bytes;
  dict["cache_bytes"] = stats.cache_bytes;
  dict["redo_bytes"] = stats.redo_bytes;
  dict["flushes"] = stats.num_flushes;
  dict["now"] = self.store()->NowMillis();
  dict["groups"] = groups;
  return dict;
}

py::dict Options(const PyStorage& self) {
  const StoreOptions& options = self.store()->options();
  py::dict dict;
  dict["ttl_seconds"] = options.ttl_seconds;
  dict["memory_budget"] = options.memory_budget;
  dict["durability"] = std::string(DurabilityName(*options.durability));
  dict["read_only"] = options.read_only;
  dict["seed"] = options.seed;
  dict["clock"] = std::string(ClockName(*options.clock));
  return dict;
}

bool Closed(const PyStorage& self) {
  const GilRelease gil_release;  // it waits while the store is being closed
  return self.store()->closed();
}

int64_t Size(const PyStorage& self, std::optional<int64_t> group) {
  StatusOr<int64_t> size = [&]() -> StatusOr<int64_t> {
    const GilRelease gil_release;
    if (!group) return self.store()->Size();
    DAMO_ASSIGN_OR_RETURN(const std::shared_ptr<EmbeddingTable> table, self.store()->Table(*group));
    return table->Size();
  }();
  return ValueOrThrow(std::move(size));
}

py::object GetRow(const PyStorage& self, int64_t group, uint64_t key) {
  const std::shared_ptr<EmbeddingTable> table = TableOf(self, group);
  StatusOr<std::optional<Row>> result = [&] {
    const GilRelease gil_release;
    return table->GetRow(key);
  }();
  const std::optional<Row> row = ValueOrThrow(std::move(result));
  if (!row) return py::none();
  py::dict slots;
  const std::shared_ptr<const GroupRecipe> recipe = table->recipe();
  const size_t dim = row->weights.size();
  size_t offset = 0;
  for (const std::string_view name : recipe->optimizer->slot_names()) {
    slots[py::str(std::string(name))] = ToArray(Span<const float>(row->slots).subspan(offset, dim));
    offset += dim;
  }
  py::dict dict;
  dict["group"] = group;
  dict["key"] = row->header.key;
  dict["update_time"] = row->header.update_time;
  dict["update_num"] = row->header.update_num;
  dict["weights"] = ToArray(row->weights);
  dict["slots"] = slots;
  return dict;
}

void Lookup(const PyStorage& self, int64_t group, const py::object& keys, const py::object& weights,
            std::optional<uint64_t> padding_key, const std::string& missing) {
  LookupArrays(*TableOf(self, group), keys, weights,
               {padding_key, MissingArgument(missing), /*training=*/false});
}

void ApplyGradients(const PyStorage& self, int64_t group, const py::object& keys, const py::object& gradients,
                    std::optional<uint64_t> padding_key, std::optional<double> learning_rate) {
  ApplyOptions options;
  options.padding_key = padding_key;
  options.learning_rate = learning_rate;
  ApplyArrays(*TableOf(self, group), keys, gradients, options);
}

void AdvanceClock(const PyStorage& self, int64_t milliseconds) {
  const Status status = [&] {
    const GilRelease gil_release;
    return self.store()->AdvanceClock(milliseconds);
  }();
  ThrowIfError(status);
}

int64_t Expire(const PyStorage& self, const py::object& progress) {
  PyProgress py_progress(progress);
  StatusOr<int64_t> num_removed = [&] {
    const GilRelease gil_release;
    return self.store()->Expire([&](const Store::ExpireProgress& done) {
      return py_progress.Report(done.rows_scanned, done.rows_removed);
    });
  }();
  py_progress.Rethrow();
  return ValueOrThrow(std::move(num_removed));
}

// Runs a Store method that may wait for the disk, without the GIL.
template <Status (Store::*method)()>
void CallStore(const PyStorage& self) {
  const Status status = [&] {
    const GilRelease gil_release;
    return (*self.store().*method)();
  }();
  ThrowIfError(status);
}

// A call about checkpoints without the GIL, which tells a Python function of what is done and what is to do,
// of type Number both.
template <typename Number, typename Call>
void CallOnPaths(const py::object& progress, const Call& call) {
  PyProgress py_progress(progress);
  const Status status = [&] {
    const GilRelease gil_release;
    return call([&](Number num_done, Number num_total) { return py_progress.Report(num_done, num_total); });
  }();
  py_progress.Rethrow();
  ThrowIfPathError(status);
}

void Checkpoint(const PyStorage& self, const std::filesystem::path& directory, const py::object& progress) {
  CallOnPaths<uint64_t>(progress, [&](const ByteProgress& report) {
    return self.store()->Checkpoint(directory.string(), report);
  });
}

void CheckpointDelta(const PyStorage& self, const std::filesystem::path& directory,
                     const std::filesystem::path& since, const py::object& progress) {
  CallOnPaths<int64_t>(progress, [&](const RowProgress& report) {
    return self.store()->CheckpointDelta(directory.string(), since.string(), report);
  });
}

void Restore(const PyStorage& self, const std::vector<std::filesystem::path>& chain,
             const py::object& progress) {
  const std::vector<std::string> directories(chain.begin(), chain.end());
  CallOnPaths<int64_t>(progress,
                       [&](const RowProgress& report) { return self.store()->Restore(directories, report); });
}

std::vector<int> Groups(const PyStorage& self) { return ValueOrThrow(self.store()->Groups()); }

std::shared_ptr<Store> OpenStore(const std::string& directory, const StoreOptions& options) {
  StatusOr<std::shared_ptr<Store>> store = [&] {
    const GilRelease gil_release;
    return StoreRegistry::Global().Open(directory, options);
  }();
  ThrowIfPathError(store.status());
  return std::move(*store);
}

constexpr char kDoc[] = R"(An open store: a directory of rows.

Example:

>>> with damo.PyStorage("rows") as storage:
...     storage.add_group(0, 2, {"name": "zeros"}, {"name": "sgd", "gamma": 0.5})
...     storage.apply_gradients(0, np.array([7], np.uint64), np.array([1, -4], np.float32))
...     storage.row(0, 7)["weights"]
array([-0.5,  2. ], dtype=float32)

Args:
    directory: path of the store, created if absent. A directory that is open already in this process is
        shared.
    ttl_seconds: int > 0: rows not updated for this long read as missing, in groups that have no time of their
        own. None: whatever an open store has; else rows never expire.
    memory_budget: bytes for caches and memtables. Default 1 GiB.
    durability: "wal" (default), "sync" or "checkpoint".
    read_only: open beside a writer in another process. Default False.
    seed: seed of initial values, fixed when the store is created. Default: the store's own, else 0.
    create_if_missing: whether an absent or empty directory becomes a new store. Default True.
    clock: "system" (default) or "event": now is the latest time that advance_clock() was told. Fixed when the
        store is created; None: the store's own.
    row_cache: False: every call reads and writes RocksDB; slow, and simple: what tests and benchmarks compare
        the engine with. Default True.

Raises:
    ValueError: an argument breaks its rule, or disagrees with the store.
    RuntimeError: another process has the store open for writing.
    FileNotFoundError: there is no store, and none is to be made.
    OSError: the device or filesystem refused.)";

}  // namespace

Executor& ModuleExecutor() {
  // Leaked: a store may be used until the very end of the process.
  static auto* const pool =
      new ThreadPool(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  return *pool;
}

std::optional<int64_t> GroupTtlArgument(const GroupTtl& ttl_seconds) {
  if (!ttl_seconds) return std::nullopt;
  if (const auto* const word = std::get_if<std::string>(&*ttl_seconds)) {
    if (*word == "never") return GroupConfig::kNeverExpires;
    throw py::value_error(
        StrCat("`ttl_seconds` must be an integer > 0, 'never' or None. Received: ttl_seconds='", *word, "'"));
  }
  const auto seconds = std::get<int64_t>(*ttl_seconds);
  ThrowIfError(ValidateTtlSeconds(seconds));
  return seconds;
}

PyStorage::PyStorage(const std::string& directory, const StoreOptions& options)
    : store_(OpenStore(directory, options)) {}

std::shared_ptr<EmbeddingTable> PyStorage::AddGroup(const GroupConfig& config) const {
  StatusOr<std::shared_ptr<EmbeddingTable>> table = [&] {
    const GilRelease gil_release;
    return store_->AddGroup(config);
  }();
  return ValueOrThrow(std::move(table));
}

void LookupArrays(const EmbeddingTable& table, const py::object& keys_object,
                  const py::object& weights_object, const LookupOptions& options) {
  const Span<const uint64_t> keys = KeysArgument("keys", keys_object);
  const Span<float> weights = OutputArgument("weights", weights_object);
  CheckNumFloats("weights", weights, keys, table.dim());
  const Status status = [&] {
    const GilRelease gil_release;
    return table.Lookup(keys, options, ModuleExecutor(), weights);
  }();
  ThrowIfError(status);
}

ApplyResult ApplyArrays(EmbeddingTable& table, const py::object& keys_object,
                        const py::object& gradients_object, const ApplyOptions& options) {
  const Span<const uint64_t> keys = KeysArgument("keys", keys_object);
  const Span<const float> gradients = FloatsArgument("gradients", gradients_object);
  CheckNumFloats("gradients", gradients, keys, table.dim());
  StatusOr<ApplyResult> result = [&] {
    const GilRelease gil_release;
    return table.ApplyGradients(keys, gradients, options, ModuleExecutor());
  }();
  return ValueOrThrow(std::move(result));
}

void DefineStorage(py::module_& module) {
  py::class_<PyStorage> storage(module, "PyStorage", kDoc);
  storage
      .def(py::init(&OpenStorage), py::arg("directory"), py::arg("ttl_seconds") = py::none(), py::kw_only(),
           py::arg("memory_budget") = py::none(), py::arg("durability") = py::none(),
           py::arg("read_only") = py::none(), py::arg("seed") = py::none(),
           py::arg("create_if_missing") = true, py::arg("row_cache") = py::none(),
           py::arg("clock") = py::none())
      .def_property_readonly(
          "directory", [](const PyStorage& self) { return self.store()->directory(); },
          "Canonical path of the store.")
      .def_property_readonly("options", &Options, "How the store is open, defaults filled in.")
      .def_property_readonly("groups", &Groups, "Numbers of the groups that exist, in ascending order.")
      .def_property_readonly("closed", &Closed, "Whether close() has been called by anyone.")
      .def("add_group", &AddGroup, py::arg("group"), py::arg("dim"), py::arg("initializer"),
           py::arg("optimizer"), py::arg("schedule") = py::none(), py::kw_only(),
           py::arg("ttl_seconds") = py::none(), py::arg("min_count") = 0,
           py::arg("filter_capacity") = py::none(), py::arg("filter_fpr") = py::none(),
           "Configures a group; repeating it with equal settings is allowed, with others a ValueError.\n\n"
           "`ttl_seconds`: int > 0, \"never\", or None: as the store has it.")
      .def(
          "group_config",
          [](const PyStorage& self, int64_t group) {
            return GroupConfigDict(TableOf(self, group)->recipe()->config);
          },
          py::arg("group"),
          "dim, optimizer, initializer, schedule, ttl_seconds, min_count, filter_capacity and filter_fpr of\n"
          "a group, defaults filled in.")
      .def("lookup", &Lookup, py::arg("group"), py::arg("keys"), py::arg("weights"), py::kw_only(),
           py::arg("padding_key") = py::none(), py::arg("missing") = "initial",
           "Fills `weights`, float32 [n * dim], with the rows of `keys`, uint64 [n].")
      .def("apply_gradients", &ApplyGradients, py::arg("group"), py::arg("keys"), py::arg("gradients"),
           py::kw_only(), py::arg("padding_key") = py::none(), py::arg("learning_rate") = py::none(),
           "Takes one optimizer step on each distinct key. `gradients` is float32 [n * dim]. `learning_rate` "
           "is "
           "of this call, >= 0; None: the group's own.")
      .def("row", &GetRow, py::arg("group"), py::arg("key"),
           "One row as a dict, or None: group, key, update_time (ms since 1970, UTC), update_num, weights, "
           "slots.")
      .def("size", &Size, py::arg("group") = py::none(),
           "Number of rows, of one group or of all. A pass over them where some may have expired.")
      .def("stats", &Stats, py::kw_only(), py::arg("count_rows") = false,
           "Figures about the store and each group, as a dict. Reads no row: where some may have expired\n"
           "`rows_exact` is False and `rows` an upper bound. count_rows=True: `rows` is size().")
      .def("advance_clock", &AdvanceClock, py::arg("milliseconds"),
           "Tells a store with clock=\"event\" the time of an event, milliseconds since 1970, UTC: \"now\" "
           "from then\n"
           "on, unless a later one was told. Kept with the next apply_gradients, flush or close.")
      .def("expire", &Expire, py::arg("progress") = py::none(),
           "Removes the rows that are past their time to live; returns how many those were.\n\n"
           "`progress`: called with the rows looked at and removed so far; an exception that it raises ends "
           "the\n"
           "work, and what was removed stays so.")
      .def("flush", &CallStore<&Store::Flush>, "Returns when everything applied so far survives power loss.")
      .def(
          "checkpoint", &Checkpoint, py::arg("directory"), py::kw_only(), py::arg("progress") = py::none(),
          "Writes the store as of one moment into a new directory. progress(bytes written, bytes in all) is\n"
          "called now and then; what it raises ends the work, of which nothing is left.")
      .def(
          "checkpoint_delta", &CheckpointDelta, py::arg("directory"), py::arg("since"), py::kw_only(),
          py::arg("progress") = py::none(),
          "Writes what has changed since the checkpoint `since` into a new directory. progress(rows\n"
          "compared, rows in all) is called now and then; what it raises ends the work, of which nothing is\n"
          "left.")
      .def("restore", &Restore, py::arg("chain"), py::kw_only(), py::arg("progress") = py::none(),
           "Makes the store what it was at a checkpoint: a list of one, or of a full one and its deltas.\n"
           "progress(rows compared, rows in all) is called now and then; what it raises ends the work, of\n"
           "which nothing is then done.")
      .def("close", &CallStore<&Store::Close>, "Closes the store for everyone in this process.")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](const PyStorage& self, const py::args&) { CallStore<&Store::Close>(self); });
  DefineTools(module, storage);
  DefineTransfer(storage);
}

}  // namespace damo::python
