// SPDX-License-Identifier: Apache-2.0
//
// What the machine and RocksDB allow, beside what the engine makes of it: the rows of a batch with nothing to
// find, bytes to a file with no log around them, MultiGet with no engine around it.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "damo/optimizer/optimizer_factory.h"
#include "damo/redo/apply_record.h"
#include "damo/row/key.h"
#include "damo/row/row_codec.h"
#include "inputs.h"
#include "tables.h"

namespace damo {
namespace {

// Rows as wide as the table's, in places drawn by lot, in huge pages if there are any. Where each is, is
// known.
class BareRows {
 public:
  static constexpr size_t kFloats = 3 * kDim;  // weights and Adam's slots
  static constexpr size_t kStride = kRowHeaderBytes + sizeof(float) * kFloats;
  static constexpr size_t kAhead = 12;  // rows for which memory has been asked
  static constexpr size_t kCacheLine = 64;

  static BareRows& Get() {
    static BareRows rows;
    return rows;
  }

  float* row(size_t rank) const { return reinterpret_cast<float*>(places_[rank]); }

  // Rows of each batch.
  std::vector<std::vector<float*>> Batches(size_t batch_size) const {
    std::vector<std::vector<float*>> batches;
    for (const auto& ranks : ZipfBatches(batch_size)) {
      std::vector<float*>& rows = batches.emplace_back();
      for (const size_t rank : ranks) rows.push_back(row(rank));
    }
    return batches;
  }

  template <bool write>
  static void AskFor(const std::vector<float*>& rows, size_t i, size_t num_floats) {
    if (i >= rows.size()) return;
    for (size_t offset = 0; offset < num_floats * sizeof(float); offset += kCacheLine) {
      __builtin_prefetch(reinterpret_cast<const char*>(rows[i]) + offset, write ? 1 : 0);
    }
  }

 private:
  BareRows() : places_(NumRows()) {
    const size_t bytes = NumRows() * kStride;
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) Die("no memory for the bare rows");
    (void)madvise(memory, bytes, MADV_HUGEPAGE);
    std::memset(memory, 0, bytes);
    std::vector<size_t> order(NumRows());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(3));
    for (size_t rank = 0; rank < order.size(); ++rank) {
      places_[rank] = static_cast<char*>(memory) + order[rank] * kStride + kRowHeaderBytes;
    }
  }

  std::vector<char*> places_;  // stay mapped until the process ends
};

// What is left of a lookup if nothing has to be found: each id's row, copied.
void BM_BareLookup(benchmark::State& state) {
  const auto batches = BareRows::Get().Batches(state.range(0));
  const Tensor weights(state.range(0) * kDim, 0.0f);
  size_t next = 0;
  for (auto _ : state) {
    const auto& rows = batches[next++ % kNumBatches];
    for (size_t i = 0; i < BareRows::kAhead; ++i) BareRows::AskFor<false>(rows, i, kDim);
    for (size_t i = 0; i < rows.size(); ++i) {
      std::memcpy(weights.span().data() + i * kDim, rows[i], kDim * sizeof(float));
      BareRows::AskFor<false>(rows, i + BareRows::kAhead, kDim);
    }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_BareLookup)->Arg(4096)->Arg(65536)->Unit(benchmark::kMillisecond);

// What is left of an apply call: gradients of equal ids summed where each is known to belong, and Adam.
void BM_BareApply(benchmark::State& state) {
  struct Batch {
    std::vector<float*> rows;       // distinct
    std::vector<uint32_t> indices;  // of each id, in rows
  };
  std::vector<Batch> batches;
  for (const auto& ids : BareRows::Get().Batches(state.range(0))) {
    Batch& batch = batches.emplace_back();
    std::unordered_map<float*, uint32_t> indices;
    for (float* const row : ids) {
      const auto [it, is_new] = indices.emplace(row, batch.rows.size());
      if (is_new) batch.rows.push_back(row);
      batch.indices.push_back(it->second);
    }
  }
  const Tensor gradients(state.range(0) * kDim, 1e-3f);
  const Tensor sums(state.range(0) * kDim, 0.0f);
  const auto optimizer = ValueOrDie(MakeOptimizer(Parameters("adam")));
  Optimizer::Step step{optimizer->learning_rate(), 0};
  size_t next = 0;
  for (auto _ : state) {
    const Batch& batch = batches[next++ % kNumBatches];
    ++step.update_num;
    std::fill_n(sums.span().data(), batch.rows.size() * kDim, 0.0f);
    for (size_t i = 0; i < batch.indices.size(); ++i) {
      float* const sum = sums.span().data() + batch.indices[i] * kDim;
      for (int64_t j = 0; j < kDim; ++j) sum[j] += gradients.span()[i * kDim + j];
    }
    for (size_t i = 0; i < BareRows::kAhead; ++i) BareRows::AskFor<true>(batch.rows, i, BareRows::kFloats);
    for (size_t i = 0; i < batch.rows.size(); ++i) {
      optimizer->Update(step, sums.span().subspan(i * kDim, kDim), {batch.rows[i], kDim},
                        {batch.rows[i] + kDim, BareRows::kFloats - kDim});
      BareRows::AskFor<true>(batch.rows, i + BareRows::kAhead, BareRows::kFloats);
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_BareApply)->Arg(4096)->Arg(65536)->Unit(benchmark::kMillisecond);

// How fast memory is read from end to end.
void BM_MemoryRead(benchmark::State& state) {
  const Tensor floats(size_t{64} << 20, 1.0f);
  for (auto _ : state) {
    std::array<float, kDim> sums{};
    for (size_t i = 0; i < floats.span().size(); i += kDim) {
      for (int64_t j = 0; j < kDim; ++j) sums[j] += floats.span()[i + j];
    }
    benchmark::DoNotOptimize(sums);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(floats.span().size() * sizeof(float)));
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(floats.span().size() / kDim));
}
BENCHMARK(BM_MemoryRead)->Unit(benchmark::kMillisecond);

// As many bytes as BM_LogAppend's, by write(2), to a file that nobody waits for.
void BM_BareLogAppend(benchmark::State& state) {
  const std::string record(state.range(0) * ApplyRowBytes(kDim), 'r');
  const std::string path = std::string(Environment("DAMO_BENCH_STORE")) + "-file";
  const int file = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (file < 0) Die("cannot open " + path);
  uint64_t num_bytes = 0;
  for (auto _ : state) {
    if (write(file, record.data(), record.size()) != static_cast<ssize_t>(record.size()))
      Die("cannot write " + path);
    num_bytes += record.size();
    if (num_bytes > kMostLogBytes) {
      state.PauseTiming();
      if (ftruncate(file, 0) != 0 || lseek(file, 0, SEEK_SET) != 0) Die("cannot cut " + path);
      num_bytes = 0;
      state.ResumeTiming();
    }
  }
  close(file);
  unlink(path.c_str());
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_BareLogAppend)->Arg(kHotRows)->Unit(benchmark::kMillisecond);

// The rows of BM_MissedLookup by RocksDB alone: one MultiGet of sorted keys, the values left where they are.
void BM_BareMissedLookup(benchmark::State& state) {
  constexpr size_t kBlockCacheBytes = size_t{192} << 20;  // the share of 1 GiB that a store gives to RocksDB
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.cache_index_and_filter_blocks = true;
  rocksdb::ColumnFamilyOptions family;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  rocksdb::DB* opened = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*> families;
  const rocksdb::Status status = rocksdb::DB::OpenForReadOnly(
      rocksdb::DBOptions(), ClosedStore(), {{rocksdb::kDefaultColumnFamilyName, family}}, &families, &opened);
  if (!status.ok()) Die(status.ToString());
  const std::unique_ptr<rocksdb::DB> database(opened);
  std::vector<std::vector<RowKey>> batches;
  for (std::vector<uint64_t>& keys : KeysOf(DistinctBatches(state.range(0)))) {
    std::sort(keys.begin(), keys.end());
    std::vector<RowKey>& rows = batches.emplace_back();
    for (const uint64_t key : keys) rows.emplace_back(0, key);
  }
  const size_t size = batches.front().size();
  std::vector<rocksdb::Slice> slices(size);
  std::vector<rocksdb::PinnableSlice> values(size);
  std::vector<rocksdb::Status> statuses(size);
  size_t next = 0;
  for (auto _ : state) {
    const std::vector<RowKey>& keys = batches[next++ % kNumBatches];
    for (size_t i = 0; i < size; ++i) slices[i] = rocksdb::Slice(keys[i].bytes().data(), kRowKeyBytes);
    database->MultiGet(rocksdb::ReadOptions(), families[0], size, slices.data(), values.data(),
                       statuses.data(),
                       /*sorted_input=*/true);
    for (size_t i = 0; i < size; ++i) {
      if (!statuses[i].ok()) Die(statuses[i].ToString());
      values[i].Reset();
    }
  }
  database->DestroyColumnFamilyHandle(families[0]);
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(size));
}
BENCHMARK(BM_BareMissedLookup)->Arg(4096)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace damo
