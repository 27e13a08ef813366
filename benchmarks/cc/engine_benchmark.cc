// SPDX-License-Identifier: Apache-2.0
//
// Micro-benchmarks of the engine alone, without TensorFlow: lookups and applies of hot rows, lookups of rows
// on the disk, the redo log, the optimizers' arithmetic. bare_benchmark.cc has what each can at most reach.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "damo/base/executor.h"
#include "damo/base/thread_pool.h"
#include "damo/optimizer/optimizer_factory.h"
#include "damo/redo/apply_record.h"
#include "damo/redo/redo_log.h"
#include "inputs.h"
#include "tables.h"

namespace damo {
namespace {

// A table whose rows exist and have been touched, opened once for all benchmarks.
class HotTable {
 public:
  static HotTable& Get() {
    static HotTable table;
    return table;
  }

  EmbeddingTable& table() { return *table_; }
  Executor& executor() { return threads_; }

 private:
  HotTable()
      : threads_(NumThreads() - 1),
        store_(OpenStore(Environment("DAMO_BENCH_STORE"))),
        table_(OpenTable(*store_)) {
    Fill(*table_, threads_);
  }

  static int NumThreads() {
    const char* const value = std::getenv("DAMO_BENCH_THREADS");
    return value == nullptr ? 1 : std::atoi(value);
  }

  ThreadPool threads_;  // besides the calling one
  std::shared_ptr<Store> store_;
  std::shared_ptr<EmbeddingTable> table_;
};

void BM_Lookup(benchmark::State& state) {
  HotTable& hot = HotTable::Get();
  const auto batches = KeysOf(ZipfBatches(state.range(0)));
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
  const auto batches = KeysOf(ZipfBatches(state.range(0)));
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

// Rows that are not in memory, and do not come there: a lookup that is not for training.
void BM_MissedLookup(benchmark::State& state) {
  const std::shared_ptr<Store> store = OpenStore(ClosedStore());
  const std::shared_ptr<EmbeddingTable> table = OpenTable(*store);
  ThreadPool no_threads(0);
  const auto batches = KeysOf(DistinctBatches(state.range(0)));
  const size_t size = batches.front().size();
  const Tensor weights(size * kDim, 0.0f);
  size_t next = 0;
  for (auto _ : state) {
    const auto& keys = batches[next++ % kNumBatches];
    CheckOk(table->Lookup({keys.data(), size}, {}, no_threads, weights.span()));
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(size));
}
BENCHMARK(BM_MissedLookup)->Arg(4096)->Unit(benchmark::kMillisecond);

// The redo record of a hot step. Items are rows.
void BM_LogAppend(benchmark::State& state) {
  const std::string record(state.range(0) * ApplyRowBytes(kDim), 'r');
  RedoLog::Options options;
  options.directory = std::string(Environment("DAMO_BENCH_STORE")) + "-log";
  const std::unique_ptr<RedoLog> log = ValueOrDie(OpenRedoLog(options));
  const std::string_view piece(record);
  for (auto _ : state) {
    CheckOk(log->Append({&piece, 1}).status());
    if (log->bytes() > kMostLogBytes) {
      state.PauseTiming();
      CheckOk(log->Trim(log->next_lsn()));
      state.ResumeTiming();
    }
  }
  CheckOk(log->Trim(log->next_lsn()));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_LogAppend)->Arg(kHotRows)->Unit(benchmark::kMillisecond);

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
