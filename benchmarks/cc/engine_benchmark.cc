// SPDX-License-Identifier: Apache-2.0
//
// Micro-benchmarks of the engine alone, without TensorFlow: lookups and applies of hot rows, and the
// optimizers' arithmetic. The environment variable DAMO_BENCH_STORE names the folder of the store, which must
// be empty or absent; DAMO_BENCH_ROWS the number of rows in it; DAMO_BENCH_THREADS how many threads a call
// may use, 1 if it is not set.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "damo/base/executor.h"
#include "damo/base/thread_pool.h"
#include "damo/config/group_config.h"
#include "damo/config/store_options.h"
#include "damo/optimizer/optimizer_factory.h"
#include "damo/table/embedding_table.h"
#include "damo/table/store_registry.h"

namespace damo {
namespace {

constexpr int64_t kDim = 16;
constexpr double kZipfExponent = 1.05;
constexpr size_t kPrefillBatch = 1 << 18;
constexpr int kNumBatches = 8;  // different batches, so that no branch predictor learns one by heart

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "engine_benchmark: %s\n", message.c_str());
  std::exit(1);
}

template <typename T>
T ValueOrDie(StatusOr<T> result) {
  if (!result.ok()) Die(result.status().ToString());
  return std::move(*result);
}

void CheckOk(const Status& status) {
  if (!status.ok()) Die(status.ToString());
}

// The finalizer of SplitMix64: distinct keys for distinct ranks, spread over all 64 bits.
uint64_t Scatter(uint64_t rank) {
  uint64_t x = rank + 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

const char* Environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) Die(std::string("set ") + name);
  return value;
}

// Floats where TensorFlow would put them: its tensors begin at multiples of a cache line.
class Tensor {
 public:
  Tensor(size_t size, float value) : size_(size), floats_(Allocate(size)) {
    std::fill_n(floats_.get(), size, value);
  }

  Span<float> span() const { return {floats_.get(), size_}; }

 private:
  static constexpr size_t kAlignment = 64;

  struct Free {
    void operator()(float* floats) const { std::free(floats); }
  };

  static float* Allocate(size_t size) {
    const size_t bytes = (size * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
    return static_cast<float*>(std::aligned_alloc(kAlignment, bytes));
  }

  size_t size_;
  std::unique_ptr<float[], Free> floats_;
};

// A table whose rows exist and have been touched, opened once for all benchmarks.
class HotTable {
 public:
  static HotTable& Get() {
    static HotTable table;
    return table;
  }

  EmbeddingTable& table() { return *table_; }
  Executor& executor() { return threads_; }

  // Zipf keys, duplicates included.
  std::vector<std::vector<uint64_t>> Batches(size_t batch_size) const {
    std::mt19937_64 random(7);
    std::uniform_real_distribution<double> uniform(0, cdf_.back());
    std::vector<std::vector<uint64_t>> batches(kNumBatches, std::vector<uint64_t>(batch_size));
    for (auto& batch : batches) {
      for (uint64_t& key : batch) {
        key = Scatter(std::lower_bound(cdf_.begin(), cdf_.end(), uniform(random)) - cdf_.begin());
      }
    }
    return batches;
  }

 private:
  HotTable() : num_rows_(std::atoll(Environment("DAMO_BENCH_ROWS"))), threads_(NumThreads() - 1) {
    StoreOptions options;
    options.durability = Durability::kCheckpoint;
    store_ = ValueOrDie(StoreRegistry::Global().Open(Environment("DAMO_BENCH_STORE"), options));
    GroupConfig config;
    config.dim = kDim;
    config.optimizer = Parameters("adam");
    config.initializer = Parameters("random_uniform");
    table_ = ValueOrDie(store_->AddGroup(config));
    Fill();
    double sum = 0;
    for (size_t rank = 1; rank <= num_rows_; ++rank) {
      sum += std::pow(static_cast<double>(rank), -kZipfExponent);
      cdf_.push_back(sum);
    }
  }

  static int NumThreads() {
    const char* const value = std::getenv("DAMO_BENCH_THREADS");
    return value == nullptr ? 1 : std::atoi(value);
  }

  void Fill() {
    std::vector<uint64_t> keys(num_rows_);
    for (size_t rank = 0; rank < num_rows_; ++rank) keys[rank] = Scatter(rank);
    std::sort(keys.begin(), keys.end());
    const std::vector<float> gradients(kPrefillBatch * kDim, 1e-3f);
    for (size_t begin = 0; begin < num_rows_; begin += kPrefillBatch) {
      const size_t size = std::min(kPrefillBatch, num_rows_ - begin);
      CheckOk(
          table_->ApplyGradients({keys.data() + begin, size}, {gradients.data(), size * kDim}, {}, threads_)
              .status());
    }
  }

  const size_t num_rows_;
  ThreadPool threads_;  // besides the calling one
  std::shared_ptr<Store> store_;
  std::shared_ptr<EmbeddingTable> table_;
  std::vector<double> cdf_;
};

void BM_Lookup(benchmark::State& state) {
  HotTable& hot = HotTable::Get();
  const auto batches = hot.Batches(state.range(0));
  const Tensor weights(state.range(0) * kDim, 0.0f);
  size_t next = 0;
  for (auto _ : state) {
    const auto& keys = batches[next++ % kNumBatches];
    CheckOk(hot.table().Lookup({keys.data(), keys.size()}, {}, hot.executor(), weights.span()));
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Lookup)->Arg(4096)->Arg(65536)->Unit(benchmark::kMillisecond);

void BM_Apply(benchmark::State& state) {
  HotTable& hot = HotTable::Get();
  const auto batches = hot.Batches(state.range(0));
  const Tensor gradients(state.range(0) * kDim, 1e-3f);
  size_t next = 0;
  for (auto _ : state) {
    const auto& keys = batches[next++ % kNumBatches];
    CheckOk(hot.table()
                .ApplyGradients({keys.data(), keys.size()}, gradients.span(), {}, hot.executor())
                .status());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Apply)->Arg(4096)->Arg(65536)->Unit(benchmark::kMillisecond);

// Rows take turns, as in a batch: an update that waited for the one before would be measured by its latency.
void BM_OptimizerUpdate(benchmark::State& state, const char* name) {
  constexpr size_t kNumRows = 64;
  const auto optimizer = ValueOrDie(MakeOptimizer(Parameters(name)));
  const size_t num_slots = kDim * optimizer->slot_names().size();
  std::vector<float> gradient(kDim, 1e-3f);
  const Tensor weights(kNumRows * kDim, 0.1f);
  const Tensor slots(kNumRows * num_slots, 0.0f);
  Optimizer::Step step{optimizer->learning_rate(), 0};
  for (auto _ : state) {
    ++step.update_num;
    for (size_t row = 0; row < kNumRows; ++row) {
      optimizer->Update(step, {gradient.data(), gradient.size()}, weights.span().subspan(row * kDim, kDim),
                        slots.span().subspan(row * num_slots, num_slots));
    }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kNumRows);
}
BENCHMARK_CAPTURE(BM_OptimizerUpdate, sgd, "sgd");
BENCHMARK_CAPTURE(BM_OptimizerUpdate, adagrad, "adagrad");
BENCHMARK_CAPTURE(BM_OptimizerUpdate, adam, "adam");
BENCHMARK_CAPTURE(BM_OptimizerUpdate, adamw, "adamw");
BENCHMARK_CAPTURE(BM_OptimizerUpdate, ftrl, "ftrl");
BENCHMARK_CAPTURE(BM_OptimizerUpdate, lion, "lion");

}  // namespace
}  // namespace damo

BENCHMARK_MAIN();
