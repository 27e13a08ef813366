// SPDX-License-Identifier: Apache-2.0
//
// Does fixed work and prints, as JSON, what it cost in things that can be counted: the guard against
// regressions that needs no clock. benchmarks/counted_work.py runs it under valgrind, which adds
// instructions, writes to memory and bytes copied, and holds it all against the limits in
// benchmarks/counted_work.json.
//
//   damo_counted_work [PART ...]    without: all parts, in the order of the list below
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/executor.h"
#include "damo/cache/row_shard.h"
#include "damo/storage/memory_storage.h"
#include "damo/table/store.h"
#include "damo/table/store_registry.h"

namespace {

int64_t num_allocations = 0;
int64_t num_allocated_bytes = 0;

}  // namespace

// Counts every allocation of the process: the work runs in one thread.
__attribute__((noinline)) void* operator new(size_t size) {
  ++num_allocations;
  num_allocated_bytes += static_cast<int64_t>(size);
  void* const memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  return memory;
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, size_t /*size*/) noexcept { std::free(memory); }

namespace damo {

// What valgrind collects is what happens inside the first, up to each call of the second.
void CountedStep(EmbeddingTable& table, bool applies, const std::vector<uint64_t>& ids,
                 std::vector<float>& floats, Executor& executor);
void EndCountedPart();

namespace {

constexpr int64_t kDim = 16;
constexpr size_t kNumKeys = 20'000;
constexpr size_t kIdsPerStep = 8'192;
constexpr size_t kKeysPerStep = 4'000;  // where steps have no key in common
constexpr int kNumSteps = 4;

// What a table has of the keys of a step.
enum class Rows {
  kInMemory,
  kOnDisk,     // in the storage, and none in memory
  kNew,        // nothing; of other keys rows are in the storage
  kNewInFull,  // nothing; all rows that there are are in memory
};

struct Part {
  const char* name;
  Rows rows;
  bool applies;
  int num_threads = 1;
};

constexpr Part kParts[] = {
    {"lookup", Rows::kInMemory, false},
    {"apply", Rows::kInMemory, true},
    {"lookup_with_4_threads", Rows::kInMemory, false, 4},
    {"apply_with_4_threads", Rows::kInMemory, true, 4},
    {"lookup_on_disk", Rows::kOnDisk, false},
    {"apply_on_disk", Rows::kOnDisk, true},
    {"lookup_on_disk_with_4_threads", Rows::kOnDisk, false, 4},
    {"apply_on_disk_with_4_threads", Rows::kOnDisk, true, 4},
    {"lookup_new", Rows::kNew, false},
    {"apply_new", Rows::kNew, true},
    {"lookup_new_in_full", Rows::kNewInFull, false},
    {"apply_new_in_full", Rows::kNewInFull, true},
};
constexpr char kIndexPart[] = "index";
constexpr char kFilterPart[] = "filter";

void ExitUnlessOk(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

template <typename T>
T MustHave(StatusOr<T> value) {
  ExitUnlessOk(value.status());
  return std::move(*value);
}

// As many blocks as a pool of so many threads would make, one after another, and counts them.
class SplittingExecutor final : public Executor {
 public:
  explicit SplittingExecutor(int num_threads) : num_threads_(num_threads) {}

  void ParallelFor(int64_t total, int64_t min_block, const Block& block) override {
    const int64_t num_blocks = std::clamp<int64_t>(total / min_block, 1, num_threads_);
    num_blocks_ += num_blocks;
    for (int64_t i = 0; i < num_blocks; ++i) {
      block(total * i / num_blocks, total * (i + 1) / num_blocks);
    }
  }
  int64_t num_blocks() const { return num_blocks_; }

 private:
  const int num_threads_;
  int64_t num_blocks_ = 0;
};

// Passes everything on to a storage that outlives it, and counts reads and writes.
class CountingStorage final : public Storage {
 public:
  explicit CountingStorage(Storage* target) : target_(target) {}

  Status MultiGet(uint8_t group, Span<const uint64_t> keys, const RowVisitor& visit) const override {
    ++num_reads;
    num_keys_read += static_cast<int64_t>(keys.size());
    return target_->MultiGet(group, keys, visit);
  }
  StatusOr<std::unique_ptr<StorageSnapshot>> NewSnapshot() const override { return target_->NewSnapshot(); }
  StatusOr<std::unique_ptr<StorageImage>> NewImage() override { return target_->NewImage(); }
  StatusOr<std::unique_ptr<Storage>> NewStorageIn(const std::string& directory) const override {
    return target_->NewStorageIn(directory);
  }
  StatusOr<std::optional<std::string>> GetManifest(std::string_view name) const override {
    return target_->GetManifest(name);
  }
  std::unique_ptr<StorageBatch> NewBatch() const override { return target_->NewBatch(); }
  Status Write(StorageBatch& batch) override {
    ++num_writes;
    return target_->Write(batch);
  }
  StatusOr<std::unique_ptr<SortedBatch>> NewSortedBatch() override {
    ++num_writes;
    return target_->NewSortedBatch();
  }
  StatusOr<bool> SettleCommit() override { return target_->SettleCommit(); }
  Status Flush() override { return target_->Flush(); }
  void ReleaseRows(uint8_t group, int64_t update_time) override { target_->ReleaseRows(group, update_time); }
  Status RevokeReleases() override { return target_->RevokeReleases(); }
  Status Compact(Span<const uint8_t> groups, const ByteProgress& progress) override {
    return target_->Compact(groups, progress);
  }
  Status VerifyFiles(const FileVisitor& visit) const override { return target_->VerifyFiles(visit); }
  StatusOr<StorageStats> Stats() const override { return target_->Stats(); }
  Status Close() override { return Status(); }

  mutable int64_t num_reads = 0;
  mutable int64_t num_keys_read = 0;
  int64_t num_writes = 0;

 private:
  Storage* const target_;
};

uint64_t KeyOf(size_t number) { return number * 0x9E3779B97F4A7C15ULL; }

std::vector<uint64_t> KeysFrom(size_t first, size_t num_keys) {
  std::vector<uint64_t> keys(num_keys);
  for (size_t i = 0; i < num_keys; ++i) keys[i] = KeyOf(first + i);
  return keys;
}

// Ids of a step: a few keys often, many rarely, none by chance. 64 to 1 between the first and the last.
std::vector<uint64_t> MakeCrowdedIds(int step) {
  std::vector<uint64_t> ids(kIdsPerStep);
  for (size_t i = 0; i < kIdsPerStep; ++i) {
    const uint64_t draw = (i * 2654435761U + static_cast<uint64_t>(step) * 40503U) % kNumKeys;
    ids[i] = KeyOf(draw * draw / kNumKeys);  // squares crowd towards 0
  }
  return ids;
}

// Ids of a step that has no key in common with the others: each of its keys twice or so.
std::vector<uint64_t> MakeIds(int step, size_t first_key) {
  const std::vector<uint64_t> keys = KeysFrom(first_key + step * kKeysPerStep, kKeysPerStep);
  std::vector<uint64_t> ids(kIdsPerStep);
  for (size_t i = 0; i < kIdsPerStep; ++i) ids[i] = keys[i * 2654435761U % kKeysPerStep];
  return ids;
}

std::vector<uint64_t> IdsOf(const Part& part, int step) {
  if (part.rows == Rows::kInMemory) return MakeCrowdedIds(step);
  return MakeIds(step, part.rows == Rows::kOnDisk ? 0 : kNumKeys);
}

GroupConfig Config() {
  GroupConfig config;
  config.dim = kDim;
  config.optimizer = Parameters("adam");
  config.initializer = Parameters("random_uniform");
  return config;
}

// A directory of a run's own.
class WorkDirectory {
 public:
  WorkDirectory() {
    if (mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~WorkDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = std::filesystem::temp_directory_path() / "damo_counted_work_XXXXXX";
};

// A store on a storage that outlives it.
class OpenedStore {
 public:
  OpenedStore(const std::string& directory, Storage* rows) : storage_(new CountingStorage(rows)) {
    store_ =
        MustHave(Store::Open(directory, StoreOptions(), std::unique_ptr<Storage>(storage_), Clock::System()));
    table_ = MustHave(store_->AddGroup(Config()));
  }
  ~OpenedStore() { ExitUnlessOk(store_->Close()); }
  OpenedStore(const OpenedStore&) = delete;
  OpenedStore& operator=(const OpenedStore&) = delete;

  // Gives every key from 0 to kNumKeys a row.
  void Fill() {
    const std::vector<float> gradients(kNumKeys * kDim, 0.5f);
    ExitUnlessOk(table_->ApplyGradients(KeysFrom(0, kNumKeys), gradients, {}, *Executor::Inline()).status());
  }

  CountingStorage& storage() { return *storage_; }
  Store& store() { return *store_; }
  EmbeddingTable& table() { return *table_; }

 private:
  CountingStorage* const storage_;  // the store's
  std::unique_ptr<Store> store_;
  std::shared_ptr<EmbeddingTable> table_;
};

struct Counts {
  int64_t allocations;
  int64_t allocated_bytes;
  int64_t reads;
  int64_t keys_read;
  int64_t writes;
  int64_t redo_bytes;
  int64_t updated_rows;
  int64_t blocks;
};

Counts Count(OpenedStore& opened, const SplittingExecutor& executor) {
  const auto redo_bytes = static_cast<int64_t>(MustHave(opened.store().Stats()).redo_bytes);
  return {num_allocations,
          num_allocated_bytes,
          opened.storage().num_reads,
          opened.storage().num_keys_read,
          opened.storage().num_writes,
          redo_bytes,
          opened.table().counters().updated_rows,
          executor.num_blocks()};
}

nlohmann::json Difference(const Counts& before, const Counts& after) {
  constexpr double kSteps = kNumSteps;
  constexpr double kIds = kSteps * kIdsPerStep;
  const int64_t num_rows = after.updated_rows - before.updated_rows;
  return {{"ids", kIds},
          {"allocations_per_step", (after.allocations - before.allocations) / kSteps},
          {"allocated_bytes_per_id", (after.allocated_bytes - before.allocated_bytes) / kIds},
          {"multiget_calls_per_step", (after.reads - before.reads) / kSteps},
          {"keys_read_per_step", (after.keys_read - before.keys_read) / kSteps},
          {"storage_writes", after.writes - before.writes},
          {"blocks_per_step", (after.blocks - before.blocks) / kSteps},
          {"redo_bytes_per_row",
           num_rows == 0 ? 0.0 : static_cast<double>(after.redo_bytes - before.redo_bytes) / num_rows}};
}

nlohmann::json Run(const Part& part) {
  const WorkDirectory directory;
  const std::unique_ptr<Storage> rows = NewMemoryStorage();
  if (part.rows == Rows::kOnDisk || part.rows == Rows::kNew) OpenedStore(directory.path(), rows.get()).Fill();
  OpenedStore opened(directory.path(), rows.get());
  if (part.rows == Rows::kInMemory) opened.Fill();
  SplittingExecutor executor(part.num_threads);
  std::vector<float> floats(kIdsPerStep * kDim, 0.25f);
  std::vector<std::vector<uint64_t>> steps;
  for (int step = 0; step <= kNumSteps; ++step) steps.push_back(IdsOf(part, step));
  // What is kept from call to call is made by the first one.
  CountedStep(opened.table(), part.applies, steps[kNumSteps], floats, executor);
  EndCountedPart();
  const Counts before = Count(opened, executor);
  for (int step = 0; step < kNumSteps; ++step) {
    CountedStep(opened.table(), part.applies, steps[step], floats, executor);
  }
  EndCountedPart();
  return Difference(before, Count(opened, executor));
}

// ---- the index of rows in memory, by itself: how often a call searches it only the instructions tell ----

// Of keys whose slots are `first_slot` and those behind it.
double LinesPerKey(const SlotIndex& index, const std::vector<uint64_t>& keys, uint32_t first_slot) {
  size_t num_lines = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    num_lines +=
        index.NumLinesToFind(TagOf(HashKey(keys[i])), [&](uint32_t slot) { return slot == first_slot + i; });
  }
  return static_cast<double>(num_lines) / static_cast<double>(keys.size());
}

// Of an index that is as full as it gets, of the size that a shard of a million rows has.
nlohmann::json CountLines() {
  IndexMemory memory(1);
  SlotIndex index(&memory, 0);
  while (index.capacity() < (size_t{1} << 14)) index.Grow();
  const size_t num_entries = index.capacity();
  const std::vector<uint64_t> keys = KeysFrom(0, num_entries);
  for (size_t i = 0; i < num_entries; ++i) index.Add(TagOf(HashKey(keys[i])), static_cast<uint32_t>(i));
  return {{"lines_per_key_found", LinesPerKey(index, keys, 0)},
          {"lines_per_key_absent", LinesPerKey(index, KeysFrom(num_entries, num_entries), num_entries)}};
}

// ---- what lookups read of RocksDB's files ----

double BlocksPerKey(Store& store, const EmbeddingTable& table, const std::vector<uint64_t>& keys) {
  const auto blocks_asked_for = [&] {
    const StorageStats stats = MustHave(store.Stats()).storage;
    return stats.block_cache_hits + stats.block_cache_misses;
  };
  std::vector<float> weights(keys.size() * kDim);
  const uint64_t before = blocks_asked_for();
  ExitUnlessOk(table.Lookup(keys, {}, *Executor::Inline(), weights));
  return static_cast<double>(blocks_asked_for() - before) / static_cast<double>(keys.size());
}

nlohmann::json CountBlocks() {
  const WorkDirectory directory;
  const auto with_store = [&](const auto& act) {
    const std::shared_ptr<Store> store =
        MustHave(StoreRegistry::Global().Open(directory.path() + "/store", StoreOptions()));
    act(*store, *MustHave(store->AddGroup(Config())));
    ExitUnlessOk(store->Close());
  };
  with_store([](Store& /*store*/, EmbeddingTable& table) {
    const std::vector<float> gradients(kNumKeys * kDim, 0.5f);
    ExitUnlessOk(table.ApplyGradients(KeysFrom(0, kNumKeys), gradients, {}, *Executor::Inline()).status());
  });
  nlohmann::json result;
  with_store([&](Store& store, const EmbeddingTable& table) {
    result = {{"blocks_per_stored_key", BlocksPerKey(store, table, KeysFrom(0, kNumKeys))},
              {"blocks_per_new_key", BlocksPerKey(store, table, KeysFrom(kNumKeys, kNumKeys))}};
  });
  return result;
}

int Main(const std::vector<std::string>& asked) {
  const auto is_asked = [&](const std::string& name) {
    return asked.empty() || std::find(asked.begin(), asked.end(), name) != asked.end();
  };
  nlohmann::ordered_json result;  // in the order of the work
  for (const Part& part : kParts) {
    if (is_asked(part.name)) result[part.name] = Run(part);
  }
  if (is_asked(kIndexPart)) result[kIndexPart] = CountLines();
  if (is_asked(kFilterPart)) result[kFilterPart] = CountBlocks();
  std::printf("%s\n", result.dump(2).c_str());
  return 0;
}

}  // namespace

__attribute__((noinline)) void CountedStep(EmbeddingTable& table, bool applies,
                                           const std::vector<uint64_t>& ids, std::vector<float>& floats,
                                           Executor& executor) {
  if (applies) {
    ExitUnlessOk(table.ApplyGradients(ids, floats, {}, executor).status());
    return;
  }
  LookupOptions options;
  options.training = true;
  ExitUnlessOk(table.Lookup(ids, options, executor, floats));
}

__attribute__((noinline)) void EndCountedPart() { asm volatile(""); }

}  // namespace damo

int main(int argc, char** argv) { return damo::Main({argv + 1, argv + argc}); }
