// SPDX-License-Identifier: Apache-2.0
//
// Bags of keys, looked up and trained, of either kind of table: the bits must be those that come out where
// every key's row, and every key's gradient, is written out.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "damo/base/test_status.h"
#include "damo/base/thread_pool.h"
#include "damo/storage/memory_storage.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

constexpr int kGroup = 5;
constexpr uint64_t kPadding = 0;

GroupConfig Config(int64_t dim, const std::string& optimizer = "adagrad") {
  GroupConfig config;
  config.group = kGroup;
  config.dim = dim;
  config.optimizer = Parameters(optimizer);
  config.initializer = Parameters("random_normal");
  return config;
}

// The bags of one call, with what they point to.
struct Batch {
  Keys keys;
  std::vector<int64_t> splits = {0};
  std::vector<Combiner> combiners;
  Floats weights;
  Floats gradients;  // of the bags

  Bags bags() const { return {splits, combiners, weights}; }
  void AddBag(Combiner combiner, const Keys& its_keys) {
    keys.insert(keys.end(), its_keys.begin(), its_keys.end());
    splits.push_back(static_cast<int64_t>(keys.size()));
    combiners.push_back(combiner);
  }
};

// Bags of all sizes from none to more than a piece, of few keys that occur again and again.
Batch RandomBatch(std::mt19937_64& random, int64_t dim, int num_bags, bool weighted) {
  Batch batch;
  std::normal_distribution<float> normal;
  for (int b = 0; b < num_bags; ++b) {
    const auto combiner = static_cast<Combiner>(random() % 3);
    Keys keys(b % 97 == 50 ? 2500 : random() % 6);
    for (uint64_t& key : keys) key = random() % 700;
    batch.AddBag(combiner, keys);
  }
  for (size_t i = 0; weighted && i < batch.keys.size(); ++i) batch.weights.push_back(normal(random));
  for (int64_t i = 0; i < num_bags * dim; ++i) batch.gradients.push_back(normal(random));
  return batch;
}

// The definition, on rows and gradients of each key.
class Plain {
 public:
  Plain(EmbeddingTable* table, const Batch& batch, std::optional<uint64_t> padding_key)
      : batch_(batch), padding_key_(padding_key), dim_(table->dim()) {
    rows_.resize(batch.keys.size() * dim_);
    LookupOptions options;
    options.padding_key = padding_key;
    EXPECT_TRUE(IsOk(table->Lookup(batch.keys, options, *Executor::Inline(), rows_)));
  }

  Floats Combined() const {
    Floats combined(batch_.combiners.size() * dim_, 0.0f);
    ForEachKey([&](size_t b, size_t i, float /*denominator*/, bool first) {
      for (int64_t j = 0; j < dim_; ++j) {
        const float product = rows_[i * dim_ + j] * weight(i);
        float& sum = combined[b * dim_ + j];
        sum = first ? product : sum + product;
      }
    });
    for (size_t b = 0; b < batch_.combiners.size(); ++b) {
      for (int64_t j = 0; j < dim_; ++j) {
        float& sum = combined[b * dim_ + j];
        sum = Denominator(b) == 0 ? 0 : sum / Denominator(b);
      }
    }
    return combined;
  }

  // The gradient of each key's row. Those of padding are left out by the table.
  Floats RowGradients() const {
    Floats gradients(rows_.size(), 0.0f);
    ForEachKey([&](size_t b, size_t i, float denominator, bool /*first*/) {
      const float factor = denominator == 0 ? 0 : weight(i) / denominator;
      for (int64_t j = 0; j < dim_; ++j) gradients[i * dim_ + j] = batch_.gradients[b * dim_ + j] * factor;
    });
    return gradients;
  }

 private:
  float weight(size_t i) const { return batch_.weights.empty() ? 1.0f : batch_.weights[i]; }
  float Denominator(size_t b) const {
    double sum = 0, squares = 0;
    for (auto i = static_cast<size_t>(batch_.splits[b]); i < static_cast<size_t>(batch_.splits[b + 1]); ++i) {
      if (batch_.keys[i] == padding_key_) continue;
      sum += weight(i);
      squares += static_cast<double>(weight(i)) * weight(i);
    }
    if (batch_.combiners[b] == Combiner::kMean) return static_cast<float>(sum);
    return batch_.combiners[b] == Combiner::kSqrtn ? static_cast<float>(std::sqrt(squares)) : 1.0f;
  }
  template <typename Visit>
  void ForEachKey(const Visit& visit) const {
    for (size_t b = 0; b < batch_.combiners.size(); ++b) {
      const float denominator = Denominator(b);
      bool first = true;
      for (auto i = static_cast<size_t>(batch_.splits[b]); i < static_cast<size_t>(batch_.splits[b + 1]);
           ++i) {
        if (batch_.keys[i] == padding_key_) continue;
        visit(b, i, denominator, first);
        first = false;
      }
    }
  }

  const Batch& batch_;
  const std::optional<uint64_t> padding_key_;
  const int64_t dim_;
  Floats rows_;
};

class CombinedRowsTest : public testing::TestWithParam<TableKind> {
 protected:
  // A new table with no rows, in stores of its own.
  EmbeddingTable* NewTable(const GroupConfig& config, int64_t cache_bytes = int64_t{1} << 22) {
    TestTables::Options options;
    options.kind = GetParam();
    options.cache_bytes = cache_bytes;
    storages_.push_back(NewMemoryStorage());
    tables_.push_back(std::make_unique<TestTables>(storages_.back().get(), &clock_, options));
    return tables_.back()->Add(config);
  }

  static Floats Combined(const EmbeddingTable& table, const Batch& batch, Executor& executor,
                         const LookupOptions& options = {}) {
    Floats combined(batch.combiners.size() * table.dim(), std::nanf(""));
    EXPECT_TRUE(IsOk(table.LookupCombined(batch.keys, batch.bags(), options, executor, combined)));
    return combined;
  }

  static ApplyResult Apply(EmbeddingTable& table, const Batch& batch, Executor& executor,
                           const ApplyOptions& options = {}) {
    const auto result =
        table.ApplyCombinedGradients(batch.keys, batch.bags(), batch.gradients, options, executor);
    EXPECT_TRUE(IsOk(result.status()));
    return result.ok() ? *result : ApplyResult();
  }

  static Floats RowsOf(const EmbeddingTable& table) {
    Keys keys(700);
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = i;
    Floats rows(keys.size() * table.dim());
    EXPECT_TRUE(IsOk(table.Lookup(keys, {}, *Executor::Inline(), rows)));
    return rows;
  }

  FakeClock clock_{1'000};
  std::vector<std::unique_ptr<Storage>> storages_;
  std::vector<std::unique_ptr<TestTables>> tables_;
};

TEST_P(CombinedRowsTest, BitsAreThoseOfRowsAndGradientsWrittenOut) {
  std::mt19937_64 random(7);
  ThreadPool threads(3);
  for (const int64_t dim : {1, 16, 33}) {
    for (const bool weighted : {false, true}) {
      EmbeddingTable* const fused = NewTable(Config(dim));
      EmbeddingTable* const plain = NewTable(Config(dim));
      for (int step = 0; step < 3; ++step) {
        const Batch batch = RandomBatch(random, dim, 300, weighted);
        const Plain expected(plain, batch, kPadding);
        LookupOptions lookup;
        lookup.padding_key = kPadding;
        lookup.training = true;
        EXPECT_EQ(Combined(*fused, batch, threads, lookup), expected.Combined());
        ApplyOptions apply;
        apply.padding_key = kPadding;
        Apply(*fused, batch, threads, apply);
        ASSERT_OK(
            plain->ApplyGradients(batch.keys, expected.RowGradients(), apply, *Executor::Inline()).status());
        ASSERT_EQ(RowsOf(*fused), RowsOf(*plain)) << "dim " << dim << ", step " << step;
      }
      EXPECT_EQ(fused->step(), 3);
    }
  }
}

TEST_P(CombinedRowsTest, ThreadsAndRoomInTheCacheChangeNoBit) {
  std::mt19937_64 random(8);
  const Batch batch = RandomBatch(random, 16, 400, /*weighted=*/true);
  std::vector<Floats> rows, combined, weights_gradients;
  // The smallest cache has no room for the call's rows, which then go through one record, part by part.
  for (const int64_t cache_bytes : {int64_t{1} << 22, int64_t{1} << 16}) {
    for (const int num_threads : {1, 2, 5}) {
      ThreadPool threads(num_threads);
      EmbeddingTable* const table = NewTable(Config(16), cache_bytes);
      Apply(*table, batch, threads);
      Floats of_weights(batch.keys.size());
      ASSERT_OK(
          table->ComputeWeightsGradient(batch.keys, batch.bags(), batch.gradients, {}, threads, of_weights));
      weights_gradients.push_back(of_weights);
      combined.push_back(Combined(*table, batch, threads));
      Apply(*table, batch, threads);
      rows.push_back(RowsOf(*table));
    }
  }
  for (size_t i = 1; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i], rows[0]) << i;
    EXPECT_EQ(combined[i], combined[0]) << i;
    EXPECT_EQ(weights_gradients[i], weights_gradients[0]) << i;
  }
}

TEST_P(CombinedRowsTest, WeightsGetTheirGradient) {
  EmbeddingTable* const table = NewTable(Config(2));
  Batch batch;
  batch.AddBag(Combiner::kSum, {3, kPadding, 4});
  batch.AddBag(Combiner::kMean, {});
  batch.AddBag(Combiner::kSum, {4});
  batch.weights = {2, 5, -1, 7};
  batch.gradients = {1, 10, 8, 8, -1, 0.5f};
  Floats rows(4);
  ASSERT_OK(table->Lookup(Keys{3, 4}, {}, *Executor::Inline(), rows));
  LookupOptions options;
  options.padding_key = kPadding;
  Floats gradient(4, std::nanf(""));
  ASSERT_OK(table->ComputeWeightsGradient(batch.keys, batch.bags(), batch.gradients, options,
                                          *Executor::Inline(), gradient));
  const auto dot = [&](float a, float b, int row) {
    return static_cast<float>(static_cast<double>(a) * rows[row * 2] +
                              static_cast<double>(b) * rows[row * 2 + 1]);
  };
  EXPECT_EQ(gradient, (Floats{dot(1, 10, 0), 0, dot(1, 10, 1), dot(-1, 0.5f, 1)}));
  EXPECT_EQ(table->step(), 0);
}

TEST_P(CombinedRowsTest, NoKeysAreZerosAndAStep) {
  EmbeddingTable* const table = NewTable(Config(2));
  Batch batch;
  EXPECT_EQ(Combined(*table, batch, *Executor::Inline()), Floats());
  batch.AddBag(Combiner::kMean, {});
  batch.AddBag(Combiner::kSum, {});
  batch.gradients = {1, 1, 1, 1};
  EXPECT_EQ(Combined(*table, batch, *Executor::Inline()), (Floats{0, 0, 0, 0}));
  EXPECT_EQ(Apply(*table, batch, *Executor::Inline()).num_updated, 0);
  EXPECT_EQ(table->step(), 1);
}

TEST_P(CombinedRowsTest, BagWithoutDenominatorIsZerosAndItsRowsStepByNothing) {
  EmbeddingTable* const table = NewTable(Config(2, "sgd"));
  Batch batch;
  batch.AddBag(Combiner::kMean, {3, 4});
  batch.weights = {1, -1};
  batch.gradients = {5, 5};
  EXPECT_EQ(Combined(*table, batch, *Executor::Inline()), (Floats{0, 0}));
  const Floats before = RowsOf(*table);
  EXPECT_EQ(Apply(*table, batch, *Executor::Inline()).num_updated, 2);
  EXPECT_EQ(RowsOf(*table), before);
}

TEST_P(CombinedRowsTest, GradientThatIsNotFiniteSkipsTheRowsOfItsBagAlone) {
  EmbeddingTable* const table = NewTable(Config(1, "sgd"));
  Batch batch;
  batch.AddBag(Combiner::kMean, {3, 4});
  batch.AddBag(Combiner::kMean, {5});
  batch.gradients = {std::numeric_limits<float>::infinity(), 1};
  const ApplyResult result = Apply(*table, batch, *Executor::Inline());
  EXPECT_EQ(result.num_skipped, 2);
  EXPECT_EQ(result.num_updated, 1);
}

TEST_P(CombinedRowsTest, WrongSizesAreRefusedWithBothSizes) {
  EmbeddingTable* const table = NewTable(Config(2));
  Batch batch;
  batch.AddBag(Combiner::kSum, {1, 2, 3});
  Floats floats(3);
  Executor& executor = *Executor::Inline();
  const std::string where = " group 5 of store '/rows': ";
  EXPECT_EQ(table->LookupCombined(batch.keys, batch.bags(), {}, executor, floats).message(),
            "lookup in" + where + "`combined` must hold bags.size() * dim = 1 * 2 = 2 floats. Received: 3");
  EXPECT_EQ(table->ApplyCombinedGradients(batch.keys, batch.bags(), floats, {}, executor).status().message(),
            "apply gradients to" + where +
                "`gradients` must hold bags.size() * dim = 1 * 2 = 2 floats. Received: 3");
  Floats two(2);
  EXPECT_EQ(table->ComputeWeightsGradient(batch.keys, batch.bags(), two, {}, executor, two).message(),
            "compute the gradient of weights in" + where +
                "`weights_gradient` must hold one float for each of 3 keys. Received: 2");
  batch.splits = {0, 2};
  EXPECT_EQ(table->LookupCombined(batch.keys, batch.bags(), {}, executor, two).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(table->step(), 0);
}

TEST_P(CombinedRowsTest, ClosedSessionRefusesEveryCall) {
  EmbeddingTable* const table = NewTable(Config(2));
  ASSERT_OK(tables_.back()->session().Close());
  Batch batch;
  batch.AddBag(Combiner::kSum, {});
  Floats two(2);
  Floats none;
  Executor& executor = *Executor::Inline();
  EXPECT_EQ(table->LookupCombined(batch.keys, batch.bags(), {}, executor, two).code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(table->ApplyCombinedGradients(batch.keys, batch.bags(), two, {}, executor).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(table->ComputeWeightsGradient(batch.keys, batch.bags(), two, {}, executor, none).code(),
            StatusCode::kFailedPrecondition);
}

INSTANTIATE_TEST_SUITE_P(Kinds, CombinedRowsTest, testing::Values(TableKind::kDirect, TableKind::kCached),
                         [](const testing::TestParamInfo<TableKind>& info) {
                           return std::string(info.param == TableKind::kDirect ? "Direct" : "Cached");
                         });

}  // namespace
}  // namespace damo
