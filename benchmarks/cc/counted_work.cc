// SPDX-License-Identifier: Apache-2.0
//
// Does fixed work on a store and prints, as JSON, what it cost in things that can be counted: the guard
// against regressions that needs no clock. benchmarks/counted_work.py runs it under callgrind, which adds
// instructions, and holds it all against the limits in benchmarks/counted_work.json.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "damo/storage/memory_storage.h"
#include "damo/table/store.h"

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
namespace {

constexpr int64_t kDim = 16;
constexpr size_t kNumKeys = 20'000;
constexpr size_t kIdsPerStep = 8'192;
constexpr int kNumSteps = 4;

void ExitUnlessOk(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

// Passes everything on to a storage in memory, and counts reads.
class CountingStorage final : public Storage {
 public:
  Status MultiGet(uint8_t group, Span<const uint64_t> keys, const RowVisitor& visit) const override {
    ++num_reads;
    num_keys_read += static_cast<int64_t>(keys.size());
    return target_->MultiGet(group, keys, visit);
  }
  StatusOr<std::unique_ptr<StorageSnapshot>> NewSnapshot() const override { return target_->NewSnapshot(); }
  StatusOr<std::unique_ptr<StorageImage>> NewImage() override { return target_->NewImage(); }
  StatusOr<std::optional<std::string>> GetManifest(std::string_view name) const override {
    return target_->GetManifest(name);
  }
  std::unique_ptr<StorageBatch> NewBatch() const override { return target_->NewBatch(); }
  Status Write(StorageBatch& batch) override { return target_->Write(batch); }
  StatusOr<std::unique_ptr<SortedBatch>> NewSortedBatch() override { return target_->NewSortedBatch(); }
  Status Flush() override { return target_->Flush(); }
  void ReleaseRows(uint8_t group, int64_t update_time) override { target_->ReleaseRows(group, update_time); }
  Status RevokeReleases() override { return target_->RevokeReleases(); }
  Status Compact(uint8_t group) override { return target_->Compact(group); }
  Status VerifyFiles(const FileVisitor& visit) const override { return target_->VerifyFiles(visit); }
  StatusOr<StorageStats> Stats() const override { return target_->Stats(); }
  Status Close() override { return target_->Close(); }

  mutable int64_t num_reads = 0;
  mutable int64_t num_keys_read = 0;

 private:
  const std::unique_ptr<Storage> target_ = NewMemoryStorage();
};

// Ids of a step: a few keys often, many rarely, none by chance. 64 to 1 between the first and the last.
std::vector<uint64_t> MakeIds(int step) {
  std::vector<uint64_t> ids(kIdsPerStep);
  for (size_t i = 0; i < kIdsPerStep; ++i) {
    const uint64_t draw = (i * 2654435761U + static_cast<uint64_t>(step) * 40503U) % kNumKeys;
    ids[i] = draw * draw / kNumKeys * 0x9E3779B97F4A7C15ULL;  // squares crowd towards 0
  }
  return ids;
}

struct Counts {
  int64_t allocations;
  int64_t allocated_bytes;
  int64_t reads;
  int64_t keys_read;
  uint64_t redo_bytes;
};

class Work {
 public:
  explicit Work(const std::string& directory) : storage_(new CountingStorage) {
    auto store = Store::Open(directory, StoreOptions(), std::unique_ptr<Storage>(storage_), Clock::System());
    ExitUnlessOk(store.status());
    store_ = std::move(*store);
    GroupConfig config;
    config.dim = kDim;
    config.optimizer = Parameters("adam");
    config.initializer = Parameters("random_uniform");
    auto table = store_->AddGroup(config);
    ExitUnlessOk(table.status());
    table_ = std::move(*table);
    std::vector<uint64_t> keys(kNumKeys);
    for (size_t i = 0; i < kNumKeys; ++i) keys[i] = i * 0x9E3779B97F4A7C15ULL;
    const std::vector<float> gradients(kNumKeys * kDim, 0.5f);
    ExitUnlessOk(table_->ApplyGradients(keys, gradients, {}, *Executor::Inline()).status());
    LookUp();  // what is kept from call to call is made by the first one
    Apply();
  }

  void LookUp() {
    LookupOptions options;
    options.training = true;
    for (const auto& ids : ids_) {
      ExitUnlessOk(table_->Lookup(ids, options, *Executor::Inline(), floats_));
    }
  }
  void Apply() {
    for (const auto& ids : ids_) {
      ExitUnlessOk(table_->ApplyGradients(ids, floats_, {}, *Executor::Inline()).status());
    }
  }

  Counts Now() const {
    const auto stats = store_->Stats();
    ExitUnlessOk(stats.status());
    return {num_allocations, num_allocated_bytes, storage_->num_reads, storage_->num_keys_read,
            stats->redo_bytes};
  }
  int64_t updated_rows() const { return table_->counters().updated_rows; }

 private:
  CountingStorage* const storage_;  // the store's
  std::unique_ptr<Store> store_;
  std::shared_ptr<EmbeddingTable> table_;
  std::vector<float> floats_ = std::vector<float>(kIdsPerStep * kDim, 0.25f);
  const std::vector<std::vector<uint64_t>> ids_ = {MakeIds(0), MakeIds(1), MakeIds(2), MakeIds(3)};
};

// `ids_before`: of calls that were made before, uncounted here but not by callgrind.
nlohmann::json Difference(const Counts& before, const Counts& after, int64_t num_rows, size_t ids_before) {
  constexpr double kNumIds = static_cast<double>(kIdsPerStep) * kNumSteps;
  return {{"total_ids", kNumIds + static_cast<double>(ids_before)},
          {"allocations_per_step", static_cast<double>(after.allocations - before.allocations) / kNumSteps},
          {"allocated_bytes_per_id",
           static_cast<double>(after.allocated_bytes - before.allocated_bytes) / kNumIds},
          {"multiget_calls", after.reads - before.reads},
          {"keys_read", after.keys_read - before.keys_read},
          {"redo_bytes_per_row",
           num_rows == 0 ? 0.0 : static_cast<double>(after.redo_bytes - before.redo_bytes) / num_rows}};
}

int Main() {
  std::string directory = std::filesystem::temp_directory_path() / "damo_counted_work_XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) return 1;
  nlohmann::json result;
  {
    Work work(directory);
    const Counts start = work.Now();
    work.LookUp();
    const Counts looked_up = work.Now();
    const int64_t rows_before = work.updated_rows();
    work.Apply();
    result["lookup"] = Difference(start, looked_up, 0, kIdsPerStep * kNumSteps);
    result["apply"] = Difference(looked_up, work.Now(), work.updated_rows() - rows_before,
                                 kIdsPerStep * kNumSteps + kNumKeys);
  }
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
  std::printf("%s\n", result.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace damo

int main() { return damo::Main(); }
