// SPDX-License-Identifier: Apache-2.0
//
// Time of one update of one row, for each optimizer, dim and SIMD level: once on rows that stay in the
// first-level cache ("hot"), once on rows spread over 200 MB, visited in random order and prefetched as the
// row cache would ("spread"). Then the operations of base/float_math.h on one row.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "damo/base/float_math.h"
#include "damo/base/simd_level.h"
#include "damo/optimizer/optimizer_factory.h"

namespace damo {
namespace {

constexpr size_t kHeaderFloats = 4;  // a stored row's header lies before its floats
constexpr size_t kSpreadBytes = 200 << 20;
constexpr size_t kHotRows = 16;
constexpr size_t kPrefetchDistance = 8;
constexpr size_t kGradients = 64;
constexpr int64_t kMaxUpdateNum = 10000;

class Rows {
 public:
  Rows(size_t dim, size_t num_slots, bool hot)
      : dim_(dim), num_slots_(num_slots), stride_(kHeaderFloats + dim * (1 + num_slots)) {
    const size_t num_rows = hot ? kHotRows : kSpreadBytes / (sizeof(float) * stride_);
    floats_.resize(num_rows * stride_);
    order_.resize(num_rows);
    std::iota(order_.begin(), order_.end(), 0);
    std::shuffle(order_.begin(), order_.end(), std::mt19937(7));
  }

  size_t size() const { return order_.size(); }
  float* row(size_t i) { return floats_.data() + order_[i] * stride_; }
  Span<float> weights(float* row) const { return {row + kHeaderFloats, dim_}; }
  Span<float> slots(float* row) const { return {row + kHeaderFloats + dim_, dim_ * num_slots_}; }
  void Prefetch(size_t i) {
    if (i >= size()) return;
    for (size_t j = 0; j < stride_; j += 16) __builtin_prefetch(row(i) + j, /*rw=*/1);
  }

 private:
  const size_t dim_;
  const size_t num_slots_;
  const size_t stride_;
  std::vector<float> floats_;
  std::vector<size_t> order_;
};

// The rows of the last call if they were alike: making them takes longer than a benchmark.
Rows& RowsFor(size_t dim, size_t num_slots, bool hot) {
  static std::unique_ptr<Rows> rows;
  static std::array<size_t, 3> made_for;
  if (const std::array<size_t, 3> wanted{dim, num_slots, hot}; rows == nullptr || made_for != wanted) {
    rows = std::make_unique<Rows>(dim, num_slots, hot);
    made_for = wanted;
  }
  return *rows;
}

std::vector<float> RandomGradients(size_t dim) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.1F);
  std::vector<float> gradients(kGradients * dim);
  for (float& value : gradients) value = normal(random);
  return gradients;
}

void UpdateRows(benchmark::State& state, const std::string& name, size_t dim, SimdLevel level, bool hot) {
  if (!SetSimdLevelForTesting(level)) return state.SkipWithError("not supported by this machine");
  const auto made = MakeOptimizer(Parameters(name));
  const Optimizer& optimizer = **made;
  std::vector<float> gradients = RandomGradients(dim);
  Rows& rows = RowsFor(dim, optimizer.slot_names().size(), hot);
  size_t next = 0;
  size_t update = 0;
  for (auto _ : state) {
    rows.Prefetch(next + kPrefetchDistance);
    float* const row = rows.row(next);
    const Span<float> gradient(gradients.data() + update % kGradients * dim, dim);
    const Optimizer::Step step{optimizer.learning_rate(), 1 + static_cast<int64_t>(update % kMaxUpdateNum)};
    optimizer.Update(step, gradient, rows.weights(row), rows.slots(row));
    benchmark::ClobberMemory();
    next = next + 1 == rows.size() ? 0 : next + 1;
    ++update;
  }
  SetSimdLevelForTesting(SupportedSimdLevel());
}

// One row of `dim` floats, in the first-level cache.
template <typename Operation>
void RunOnRow(benchmark::State& state, Operation operation, size_t dim, SimdLevel level) {
  if (!SetSimdLevelForTesting(level)) return state.SkipWithError("not supported by this machine");
  const std::vector<float> source = RandomGradients(dim);
  std::vector<float> destination(dim);
  for (auto _ : state) {
    operation(source.data(), destination.data(), dim);
    benchmark::ClobberMemory();
  }
  SetSimdLevelForTesting(SupportedSimdLevel());
}

std::string Title(const std::string& name, size_t dim, SimdLevel level) {
  return name + "/dim:" + std::to_string(dim) + "/" + SimdLevelName(level);
}

template <typename Operation>
void RegisterOnRow(const std::string& name, Operation operation) {
  for (const size_t dim : {8, 16, 48, 192}) {
    for (const SimdLevel level : kSimdLevels) {
      benchmark::RegisterBenchmark(Title(name, dim, level).c_str(), RunOnRow<Operation>, operation, dim,
                                   level);
    }
  }
}

void RegisterUpdates(const std::string& name) {
  for (const size_t dim : {1, 4, 8, 16, 32, 64}) {
    for (const bool hot : {true, false}) {
      for (const SimdLevel level : kSimdLevels) {
        const std::string title = Title("Update/" + name, dim, level) + (hot ? "/hot" : "/spread");
        benchmark::RegisterBenchmark(title.c_str(), UpdateRows, name, dim, level, hot);
      }
    }
  }
}

const bool kRegistered = [] {
  for (const char* name : {"sgd", "adagrad", "adam", "adamw", "ftrl", "lion"}) RegisterUpdates(name);
  RegisterOnRow("AllFinite", [](const float* source, float* /*destination*/, size_t dim) {
    benchmark::DoNotOptimize(AllFinite({source, dim}));
  });
  RegisterOnRow("CopyScaled", [](const float* source, float* destination, size_t dim) {
    CopyScaled(source, 0.5F, destination, dim);
  });
  RegisterOnRow("AddScaled", [](const float* source, float* destination, size_t dim) {
    AddScaled(source, 0.5F, destination, dim);
  });
  return true;
}();

}  // namespace
}  // namespace damo
