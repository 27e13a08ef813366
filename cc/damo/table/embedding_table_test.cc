// SPDX-License-Identifier: Apache-2.0
//
// What a table does, of either kind.
#include "damo/table/embedding_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "damo/base/thread_pool.h"
#include "damo/table/test_embedding_table.h"

namespace damo {
namespace {

std::string KindName(const testing::TestParamInfo<TableKind>& info) {
  return info.param == TableKind::kDirect ? "Direct" : "Cached";
}

INSTANTIATE_TEST_SUITE_P(Tables, EmbeddingTableTest, testing::Values(TableKind::kDirect, TableKind::kCached),
                         KindName);

TEST_P(EmbeddingTableTest, GradientsOfEqualKeysAreSummedAndTakeOneStep) {
  const auto table = NewTable(Config());
  const ApplyResult result = Apply(*table, {7, 9, 7}, {1, 2, 10, 20, 100, 200});
  EXPECT_EQ(result.num_updated, 2);
  EXPECT_EQ(result.num_inserted, 2);
  EXPECT_EQ(Lookup(*table, {7, 9}), (Floats{-101, -202, -10, -20}));
  EXPECT_EQ(GetRow(*table, 7).header.update_num, 1);
  EXPECT_EQ(table->step(), 1);
}

TEST_P(EmbeddingTableTest, EachStepCountsAndIsDated) {
  const auto table = NewTable(Config());
  Apply(*table, {7}, {1, 1});
  clock_.AdvanceMillis(5);
  Apply(*table, {7, 8}, {1, 1, 1, 1});
  EXPECT_EQ(GetRow(*table, 7).header.update_num, 2);
  EXPECT_EQ(GetRow(*table, 7).header.update_time, 1'000'005);
  EXPECT_EQ(GetRow(*table, 8).header.update_num, 1);
  EXPECT_EQ(table->step(), 2);
}

TEST_P(EmbeddingTableTest, LookupOfUnknownKeyReturnsWhatItsFirstUpdateStartsFrom) {
  const auto table = NewTable(Config("sgd", "random_uniform"));
  const Floats before = Lookup(*table, {42, 42});
  EXPECT_EQ((Floats{before[0], before[1]}), (Floats{before[2], before[3]}));
  EXPECT_EQ(Size(*table), 0);
  Apply(*table, {42}, {0.5f, 0});
  EXPECT_EQ(Lookup(*table, {42}), (Floats{before[0] - 0.5f, before[1]}));
}

TEST_P(EmbeddingTableTest, CallsAreCountedAndTimed) {
  const auto table = NewTable(Config());
  EXPECT_EQ(table->counters().lookup_calls + table->counters().apply_calls, 0);
  Lookup(*table, {1, 2, 3});
  Lookup(*table, {});
  Apply(*table, {1}, {1, 1});
  const TableCounters counters = table->counters();
  EXPECT_EQ(counters.lookup_calls, 2);
  EXPECT_EQ(counters.apply_calls, 1);
  EXPECT_GT(counters.lookup_nanos, 0);  // each reads the store
  EXPECT_GT(counters.apply_nanos, 0);
}

TEST_P(EmbeddingTableTest, LookupOfUnknownKeyReturnsZerosWhereAsked) {
  const auto table = NewTable(Config("sgd", "ones"));
  LookupOptions options;
  options.missing = MissingRow::kZeros;
  Apply(*table, {1}, {0, 0});
  EXPECT_EQ(Lookup(*table, {1, 2}, options), (Floats{1, 1, 0, 0}));
}

TEST_P(EmbeddingTableTest, PaddingKeyReadsAsZerosAndIsLeftOutOfUpdates) {
  const auto table = NewTable(Config("sgd", "ones"));
  LookupOptions lookup;
  lookup.padding_key = 0;
  ApplyOptions apply;
  apply.padding_key = 0;
  EXPECT_EQ(Apply(*table, {0, 3}, {9, 9, 1, 1}, apply).num_updated, 1);
  EXPECT_EQ(Lookup(*table, {0, 3}, lookup), (Floats{0, 0, 0, 0}));
  EXPECT_EQ(Lookup(*table, {0}), (Floats{1, 1})) << "0 is an ordinary key where it is not the padding key";
  EXPECT_EQ(Size(*table), 1);
}

TEST_P(EmbeddingTableTest, ExtremeKeysAreOrdinary) {
  const auto table = NewTable(Config());
  const uint64_t last = std::numeric_limits<uint64_t>::max();
  Apply(*table, {last, 0}, {1, 1, 2, 2});
  EXPECT_EQ(Lookup(*table, {0, last}), (Floats{-2, -2, -1, -1}));
}

TEST_P(EmbeddingTableTest, RowWithGradientThatIsNotFiniteIsLeftAloneAndCounted) {
  const auto table = NewTable(Config());
  Apply(*table, {1}, {1, 1});
  const float nan = std::nanf("");
  const float inf = std::numeric_limits<float>::infinity();
  const float huge = std::numeric_limits<float>::max();
  const ApplyResult result = Apply(*table, {1, 2, 3, 4, 4}, {nan, 0, 0, inf, 5, 5, huge, 0, huge, 0});
  EXPECT_EQ(result.num_skipped, 3) << "keys 1, 2, and 4, whose sum overflows";
  EXPECT_EQ(result.num_inserted, 1);
  EXPECT_EQ(Lookup(*table, {1, 2, 3, 4}), (Floats{-1, -1, 0, 0, -5, -5, 0, 0}));
  EXPECT_EQ(GetRow(*table, 1).header.update_num, 1);
  EXPECT_EQ(Size(*table), 2);
  EXPECT_EQ(table->counters().skipped_rows, 3);
}

TEST_P(EmbeddingTableTest, RowWhoseStepWouldNotBeFiniteIsLeftAloneAndCounted) {
  GroupConfig config = Config("sgd", "ones");
  config.optimizer.Insert("gamma", 1e30);
  const auto table = NewTable(config);
  const ApplyResult result = Apply(*table, {1, 2}, {1e20f, 0, 1e-30f, 0});
  EXPECT_EQ(result.num_skipped, 1);
  EXPECT_EQ(Lookup(*table, {1, 2}), (Floats{1, 1, 0, 1}));
}

TEST_P(EmbeddingTableTest, LearningRateThatIsNotFiniteFailsTheCallAndChangesNothing) {
  GroupConfig config = Config();
  config.schedule = Parameters("exponential_decay");
  config.schedule->Insert("decay_steps", 1.0);
  config.schedule->Insert("decay_rate", 1e30);
  const auto table = NewTable(config);
  Apply(*table, {1}, {1, 0});
  Apply(*table, {2}, {0, 0});
  const Status status = table->ApplyGradients(Keys{1}, Floats{1, 1}, {}, *Executor::Inline()).status();
  EXPECT_TRUE(FailsWith(status, StatusCode::kFailedPrecondition, "at step 2 the schedule gives 1e+60"));
  EXPECT_EQ(Lookup(*table, {1}), (Floats{-1, 0}));
  EXPECT_EQ(table->step(), 2);
}

TEST_P(EmbeddingTableTest, LearningRateOfACallReplacesTheGroups) {
  GroupConfig config = Config();
  config.schedule = Parameters("inverse_time_decay");
  config.schedule->Insert("decay_steps", 1.0);
  config.schedule->Insert("decay_rate", 1.0);
  const auto table = NewTable(config);
  ApplyOptions options;
  options.learning_rate = 0.25;
  Apply(*table, {1}, {4, 0}, options);
  options.learning_rate = 0;
  Apply(*table, {1}, {4, 0}, options);
  EXPECT_EQ(Lookup(*table, {1}), (Floats{-1, 0}));
  Apply(*table, {1}, {6, 0});
  EXPECT_EQ(Lookup(*table, {1}), (Floats{-3, 0})) << "the schedule goes by all calls";
}

TEST_P(EmbeddingTableTest, LearningRateThatNoStepCanBeTakenWithIsRefusedAndChangesNothing) {
  const auto table = NewTable(Config());
  for (const double rate : {-0.5, std::nan(""), 1e39, std::numeric_limits<double>::infinity()}) {
    ApplyOptions options;
    options.learning_rate = rate;
    const Status status = table->ApplyGradients(Keys{1}, Floats{1, 1}, options, *Executor::Inline()).status();
    EXPECT_TRUE(FailsWith(status, StatusCode::kInvalidArgument,
                          "`learning_rate` must be >= 0 and finite in float32. Received: learning_rate="));
  }
  EXPECT_EQ(table->step(), 0);
  EXPECT_EQ(Size(*table), 0);
}

TEST_P(EmbeddingTableTest, RowsAreClippedOnceByTheirSummedScaledGradient) {
  GroupConfig config = Config();
  config.optimizer.Insert("clipnorm", 5.0);
  const auto table = NewTable(config);
  ApplyOptions options;
  options.gradient_scale = 0.5f;
  // 1: summed and scaled (6, 8), of norm 10. 2: (3, 4), of norm 5. 3: summed to nothing from long parts.
  Apply(*table, {1, 2, 1, 3, 3}, {6, 8, 6, 8, 6, 8, 200, 200, -200, -200}, options);
  EXPECT_EQ(Lookup(*table, {1, 2, 3}), (Floats{-3, -4, -3, -4, 0, 0}));
}

TEST_P(EmbeddingTableTest, RowsWithoutAGradientDoNotDecay) {
  GroupConfig config = Config("sgd", "ones");
  config.optimizer.Insert("weight_decay", 0.5);
  const auto table = NewTable(config);
  Apply(*table, {1, 2}, {0, 0, 0, 0});
  Apply(*table, {1}, {0, 0});
  EXPECT_EQ(Lookup(*table, {1, 2}), (Floats{0.25f, 0.25f, 0.5f, 0.5f}));
}

TEST_P(EmbeddingTableTest, GradientsAreScaledBeforeTheyAreSummed) {
  const auto table = NewTable(Config());
  ApplyOptions options;
  options.gradient_scale = 0.25f;
  const float huge = std::numeric_limits<float>::max();
  Apply(*table, {1, 1}, {huge, 4, huge, 8}, options);
  EXPECT_EQ(Lookup(*table, {1}), (Floats{-huge / 2, -3})) << "the unscaled sum would have overflowed";
}

TEST_P(EmbeddingTableTest, EmptyCallsAreLegalAndAnEmptyApplyIsAStep) {
  const auto table = NewTable(Config());
  EXPECT_EQ(Lookup(*table, {}), Floats());
  Apply(*table, {}, {});
  EXPECT_EQ(table->step(), 1);
  EXPECT_EQ(Size(*table), 0);
}

TEST_P(EmbeddingTableTest, WrongSizesAreRefusedWithBothSizes) {
  const auto table = NewTable(Config());
  Floats weights(3);
  const Status lookup = table->Lookup(Keys{1, 2}, {}, *Executor::Inline(), weights);
  EXPECT_EQ(lookup.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(lookup.message(),
            "lookup in group 5 of store '/rows': `weights` must hold keys.size() * dim = 2 * 2 = 4 floats. "
            "Received: 3");
  const Status apply = table->ApplyGradients(Keys{1}, weights, {}, *Executor::Inline()).status();
  EXPECT_EQ(apply.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(table->step(), 0);
}

TEST_P(EmbeddingTableTest, RowsAndStepOutliveTheTable) {
  auto table = NewTable(Config());
  Apply(*table, {1, 2}, {1, 1, 2, 2});
  Apply(*table, {1}, {1, 1});
  Reopen(&table, Config());
  EXPECT_EQ(table->step(), 2);
  EXPECT_EQ(Size(*table), 2);
  EXPECT_EQ(Lookup(*table, {1, 2}), (Floats{-2, -2, -2, -2}));
}

TEST_P(EmbeddingTableTest, ExpiredRowReadsAsMissingAndStartsAfresh) {
  const auto table = NewTable(Config("adagrad", "ones"), /*ttl_seconds=*/10);
  Apply(*table, {1, 2}, {1, 1, 1, 1});
  clock_.AdvanceMillis(9'999);
  Apply(*table, {2}, {1, 1});
  EXPECT_EQ(Size(*table), 2);
  clock_.AdvanceMillis(1);
  EXPECT_EQ(Lookup(*table, {1}), (Floats{1, 1}));
  EXPECT_EQ(Size(*table), 1);
  const StatusOr<std::optional<Row>> expired = table->GetRow(1);
  ASSERT_OK(expired.status());
  EXPECT_FALSE(expired->has_value());

  const ApplyResult result = Apply(*table, {1}, {2, 2});
  EXPECT_EQ(result.num_updated, 1);
  EXPECT_EQ(result.num_inserted, 0) << "its old row is written over";
  EXPECT_EQ(GetRow(*table, 1).header.update_num, 1);
  EXPECT_EQ(GetRow(*table, 1).slots, (Floats{4, 4})) << "the old sum of squares is gone";
  EXPECT_EQ(GetRow(*table, 2).header.update_num, 2);
  EXPECT_EQ(Size(*table), 2);
}

// Contract C5: the same batches give the same bits, however the work is split.
TEST_P(EmbeddingTableTest, ThreadsDoNotChangeTheResult) {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal;
  std::vector<Keys> batches(5);
  std::vector<Floats> gradients(batches.size());
  for (size_t b = 0; b < batches.size(); ++b) {
    for (int i = 0; i < 4000; ++i) batches[b].push_back(random() % 3000);
    for (size_t i = 0; i < batches[b].size() * kTableDim; ++i) gradients[b].push_back(normal(random));
  }
  Keys all(3000);
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;

  ThreadPool pool(3);
  std::vector<Floats> results;
  for (Executor* const executor : {Executor::Inline(), static_cast<Executor*>(&pool)}) {
    tables_.reset();
    rows_ = NewMemoryStorage();
    const auto table = NewTable(Config("adam", "random_normal"));
    for (size_t b = 0; b < batches.size(); ++b) {
      ASSERT_OK(table->ApplyGradients(batches[b], gradients[b], {}, *executor).status());
    }
    Floats weights(all.size() * kTableDim);
    ASSERT_OK(table->Lookup(all, {}, *executor, weights));
    results.push_back(weights);
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST_P(EmbeddingTableTest, ConcurrentApplyCallsLoseNoUpdate) {
  const auto table = NewTable(Config());
  constexpr int kThreads = 4;
  constexpr int kCalls = 100;
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop) Lookup(*table, {1, 2, 3});
  });
  std::vector<std::thread> writers;
  for (int t = 0; t < kThreads; ++t) {
    writers.emplace_back([&, t] {
      for (int i = 0; i < kCalls; ++i) Apply(*table, {1, static_cast<uint64_t>(t + 10)}, {1, 2, 1, 1});
    });
  }
  for (std::thread& writer : writers) writer.join();
  stop = true;
  reader.join();
  EXPECT_EQ(Lookup(*table, {1, 10}), (Floats{-kThreads * kCalls, -2 * kThreads * kCalls, -kCalls, -kCalls}));
  EXPECT_EQ(GetRow(*table, 1).header.update_num, kThreads * kCalls);
  EXPECT_EQ(table->step(), kThreads * kCalls);
  EXPECT_EQ(Size(*table), 1 + kThreads);
}

}  // namespace
}  // namespace damo
