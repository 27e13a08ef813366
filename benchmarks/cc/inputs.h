// SPDX-License-Identifier: Apache-2.0
//
// What the micro-benchmarks of the engine and those of the bare machine work on: the same ids, tensors and
// numbers of rows. The environment variable DAMO_BENCH_STORE names a folder for stores, which must be empty
// or absent; DAMO_BENCH_ROWS the number of rows in each; DAMO_BENCH_THREADS how many threads a call may use,
// 1 if it is not set.
#ifndef BENCHMARKS_CC_INPUTS_H_
#define BENCHMARKS_CC_INPUTS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/span.h"
#include "damo/base/status.h"

namespace damo {

inline constexpr int64_t kDim = 16;
inline constexpr double kZipfExponent = 1.05;
inline constexpr int64_t kHotRows = 21'600;  // distinct ones among 65,536 Zipf ids over 1,000,000
inline constexpr uint64_t kMostLogBytes = uint64_t{128} << 20;  // then a log begins anew
inline constexpr int kNumBatches = 8;  // different batches, so that no branch predictor learns one by heart

[[noreturn]] inline void Die(const std::string& message) {
  std::fprintf(stderr, "engine_benchmark: %s\n", message.c_str());
  std::exit(1);
}

template <typename T>
T ValueOrDie(StatusOr<T> result) {
  if (!result.ok()) Die(result.status().ToString());
  return std::move(*result);
}

inline void CheckOk(const Status& status) {
  if (!status.ok()) Die(status.ToString());
}

// The finalizer of SplitMix64: distinct keys for distinct ranks, spread over all 64 bits.
inline uint64_t Scatter(uint64_t rank) {
  uint64_t x = rank + 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

inline const char* Environment(const char* name) {
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

inline size_t NumRows() { return std::atoll(Environment("DAMO_BENCH_ROWS")); }

// Ranks drawn from Zipf's law, duplicates included; the same ones each time.
inline std::vector<std::vector<size_t>> ZipfBatches(size_t batch_size) {
  std::vector<double> cdf;
  double sum = 0;
  for (size_t rank = 1; rank <= NumRows(); ++rank) {
    sum += std::pow(static_cast<double>(rank), -kZipfExponent);
    cdf.push_back(sum);
  }
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> uniform(0, sum);
  std::vector<std::vector<size_t>> batches(kNumBatches, std::vector<size_t>(batch_size));
  for (auto& batch : batches) {
    for (size_t& rank : batch) {
      rank = std::lower_bound(cdf.begin(), cdf.end(), uniform(random)) - cdf.begin();
    }
  }
  return batches;
}

// Ranks of which none occurs twice in a batch, drawn evenly.
inline std::vector<std::vector<size_t>> DistinctBatches(size_t batch_size) {
  std::vector<size_t> ranks(NumRows());
  std::iota(ranks.begin(), ranks.end(), 0);
  std::mt19937_64 random(11);
  std::vector<std::vector<size_t>> batches;
  for (int i = 0; i < kNumBatches; ++i) {
    std::shuffle(ranks.begin(), ranks.end(), random);
    batches.emplace_back(ranks.begin(), ranks.begin() + std::min(batch_size, ranks.size()));
  }
  return batches;
}

inline std::vector<std::vector<uint64_t>> KeysOf(const std::vector<std::vector<size_t>>& batches) {
  std::vector<std::vector<uint64_t>> keys;
  for (const auto& ranks : batches) {
    std::vector<uint64_t>& of_batch = keys.emplace_back();
    for (const size_t rank : ranks) of_batch.push_back(Scatter(rank));
  }
  return keys;
}

}  // namespace damo

#endif  // BENCHMARKS_CC_INPUTS_H_
