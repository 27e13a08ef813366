// SPDX-License-Identifier: Apache-2.0
//
// What a table does, of either kind, over storage in memory. tests/ checks the optimizers' numbers; here rows
// start at zero and learn by plain gradient descent at rate 1, so that a row is minus the sum of its
// gradients.
#include "damo/table/embedding_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "damo/base/test_status.h"
#include "damo/base/thread_pool.h"
#include "damo/storage/memory_storage.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

constexpr int64_t kDim = 2;
constexpr int kGroup = 5;

GroupConfig Config(const std::string& optimizer = "sgd", const std::string& initializer = "zeros") {
  GroupConfig config;
  config.group = kGroup;
  config.dim = kDim;
  config.optimizer = Parameters(optimizer);
  config.optimizer.Insert("gamma", 1.0);
  config.initializer = Parameters(initializer);
  return config;
}

GroupConfig FilteredConfig(int64_t min_count, const std::string& initializer = "ones") {
  GroupConfig config = Config("sgd", initializer);
  config.min_count = min_count;
  config.filter_capacity = 10'000;
  return config;
}

std::string KindName(const testing::TestParamInfo<TableKind>& info) {
  return info.param == TableKind::kDirect ? "Direct" : "Cached";
}

class EmbeddingTableTest : public testing::TestWithParam<TableKind> {
 protected:
  // A table as after opening: same rows and state as the one before, which is gone.
  EmbeddingTable* NewTable(const GroupConfig& config, std::optional<int64_t> ttl_seconds = std::nullopt) {
    TestTables::Options options;
    options.kind = GetParam();
    options.ttl_seconds = ttl_seconds;
    tables_.reset();
    tables_ = std::make_unique<TestTables>(rows_.get(), &clock_, options);
    return tables_->Add(config);
  }

  // The pages of the table's filter as the storage has them.
  std::vector<std::string> FilterPages() {
    EXPECT_TRUE(IsOk(tables_->Flush()));
    std::vector<std::string> pages;
    for (int64_t page = 0; page < 18; ++page) {  // of 10,000 keys
      const auto bytes = GetFilterPage(*rows_, kGroup, page);
      EXPECT_TRUE(IsOk(bytes.status()));
      pages.push_back(bytes->value_or(""));
    }
    return pages;
  }

  // Brings everything into the storage and the table as it stands there into `table`.
  void Reopen(EmbeddingTable** table, const GroupConfig& config) {
    ASSERT_OK(tables_->Flush());
    *table = NewTable(config);
  }

  Floats Lookup(const EmbeddingTable& table, const Keys& keys, const LookupOptions& options = {}) {
    Floats weights(keys.size() * kDim, std::nanf(""));
    const Status status = table.Lookup(keys, options, *Executor::Inline(), weights);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return weights;
  }

  ApplyResult Apply(EmbeddingTable& table, const Keys& keys, const Floats& gradients,
                    const ApplyOptions& options = {}) {
    const StatusOr<ApplyResult> result = table.ApplyGradients(keys, gradients, options, *Executor::Inline());
    EXPECT_TRUE(result.ok()) << result.status().ToString();
    return result.ok() ? *result : ApplyResult();
  }

  Row GetRow(const EmbeddingTable& table, uint64_t key) {
    const StatusOr<std::optional<Row>> row = table.GetRow(key);
    EXPECT_TRUE(row.ok()) << row.status().ToString();
    EXPECT_TRUE(row->has_value());
    return row->value_or(Row());
  }

  int64_t Size(const EmbeddingTable& table) {
    const StatusOr<int64_t> size = table.Size();
    EXPECT_TRUE(size.ok()) << size.status().ToString();
    return *size;
  }

  std::unique_ptr<Storage> rows_ = NewMemoryStorage();
  FakeClock clock_{1'000'000};
  std::unique_ptr<TestTables> tables_;
};

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

TEST_P(EmbeddingTableTest, FailedReadFailsTheStepAndChangesNothing) {
  auto table = NewTable(Config());
  Apply(*table, {1}, {1, 1});
  Reopen(&table, Config());
  tables_->storage().before_read = [](Span<const uint64_t>) { return IoError("the disk is on fire"); };
  Floats weights(kDim);
  const Status lookup = table->Lookup(Keys{1}, {}, *Executor::Inline(), weights);
  EXPECT_EQ(lookup.code(), StatusCode::kIoError);
  EXPECT_EQ(lookup.message(), "lookup in group 5 of store '/rows': the disk is on fire");
  const Status apply = table->ApplyGradients(Keys{1, 2}, Floats(4, 1.0f), {}, *Executor::Inline()).status();
  EXPECT_EQ(apply.code(), StatusCode::kIoError);

  tables_->storage().before_read = nullptr;
  EXPECT_EQ(Lookup(*table, {1, 2}), (Floats{-1, -1, 0, 0}));
  EXPECT_EQ(Size(*table), 1);
  EXPECT_EQ(table->step(), 1);
}

TEST_P(EmbeddingTableTest, FailedWriteChangesNothingAndTheNextStepGoesOn) {
  const auto table = NewTable(Config());
  Apply(*table, {1}, {1, 1});
  tables_->storage().write_status = IoError("No space left");
  tables_->log_files().full = true;
  const Status apply = table->ApplyGradients(Keys{1, 2}, Floats(4, 1.0f), {}, *Executor::Inline()).status();
  EXPECT_TRUE(FailsWith(apply, StatusCode::kIoError, "apply gradients to group 5 of store '/rows': "));
  EXPECT_TRUE(FailsWith(apply, StatusCode::kIoError, "No space left"));
  EXPECT_EQ(table->step(), 1);
  EXPECT_EQ(table->counters().updated_rows, 1);

  tables_->storage().write_status = Status();
  tables_->log_files().full = false;
  Apply(*table, {1, 2}, {1, 1, 1, 1});
  EXPECT_EQ(Lookup(*table, {1, 2}), (Floats{-2, -2, -1, -1}));
  EXPECT_EQ(table->step(), 2);
  EXPECT_EQ(Size(*table), 2);
}

TEST_P(EmbeddingTableTest, CorruptRowIsDataLossNeverAFreshRow) {
  auto table = NewTable(Config());
  Apply(*table, {1, 2}, {1, 1, 2, 2});
  Reopen(&table, Config());
  const std::unique_ptr<StorageBatch> batch = rows_->NewBatch();
  ASSERT_OK(batch->PutRow(kGroup, 1, "not a row"));
  ASSERT_OK(rows_->Write(*batch));

  Floats weights(kDim);
  const Status lookup = table->Lookup(Keys{1}, {}, *Executor::Inline(), weights);
  EXPECT_EQ(lookup.code(), StatusCode::kDataLoss);
  EXPECT_EQ(lookup.message(), "lookup in group 5 of store '/rows': row of key 1 has 9 bytes, expected 40");
  EXPECT_EQ(table->GetRow(1).status().code(), StatusCode::kDataLoss);
  const Status apply = table->ApplyGradients(Keys{1, 2}, Floats(4, 1.0f), {}, *Executor::Inline()).status();
  EXPECT_EQ(apply.code(), StatusCode::kDataLoss);
  EXPECT_EQ(Lookup(*table, {2}), (Floats{-2, -2}));
}

TEST_P(EmbeddingTableTest, ExceptionOnAnotherThreadIsAnError) {
  const auto table = NewTable(Config());
  tables_->storage().before_read = [](Span<const uint64_t>) -> Status { throw std::bad_alloc(); };
  ThreadPool pool(2);
  Keys keys(10'000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = i;
  Floats weights(keys.size() * kDim);
  const Status status = table->Lookup(keys, {}, pool, weights);
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_NE(status.message().find("bad_alloc"), std::string::npos) << status.message();
}

TEST_P(EmbeddingTableTest, ClosedSessionRefusesEveryCall) {
  const auto table = NewTable(Config());
  ASSERT_OK(tables_->session().Close());
  Floats weights(kDim);
  EXPECT_EQ(table->Lookup(Keys{1}, {}, *Executor::Inline(), weights).message(),
            "lookup in group 5 of store '/rows': store '/rows' is closed");
  EXPECT_EQ(table->ApplyGradients(Keys{1}, weights, {}, *Executor::Inline()).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(table->GetRow(1).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(table->Size().status().code(), StatusCode::kFailedPrecondition);
}

TEST(CheckNumKeysTest, PositionsMustFitInto32Bits) {
  EXPECT_TRUE(CheckNumKeys(0).ok());
  EXPECT_TRUE(CheckNumKeys((uint64_t{1} << 32) - 1).ok());
  EXPECT_TRUE(
      FailsWith(CheckNumKeys(uint64_t{1} << 32), StatusCode::kInvalidArgument,
                "`keys` of one call must be fewer than 2^32 = 4294967296. Received: 4294967296 keys"));
}

TEST_P(EmbeddingTableTest, CallOfTooManyKeysIsRefusedBeforeAnyIsLookedAt) {
  const auto table = NewTable(Config());
  const size_t num_keys = size_t{1} << 32;
  const Span<const uint64_t> keys(nullptr, num_keys);
  const Span<const float> gradients(nullptr, num_keys * kDim);
  constexpr char kRule[] = "must be fewer than 2^32";
  EXPECT_TRUE(FailsWith(table->ApplyGradients(keys, gradients, {}, *Executor::Inline()).status(),
                        StatusCode::kInvalidArgument, kRule));
  const int64_t splits[] = {0, static_cast<int64_t>(num_keys)};
  const Combiner combiners[] = {Combiner::kSum};
  const float gradient[kDim] = {};
  EXPECT_TRUE(FailsWith(
      table->ApplyCombinedGradients(keys, {splits, combiners, {}}, gradient, {}, *Executor::Inline())
          .status(),
      StatusCode::kInvalidArgument, kRule));
  EXPECT_EQ(table->step(), 0);
}

// Calls that overlap without a gap must not keep Close() waiting for ever.
TEST_P(EmbeddingTableTest, ClosingComesToItsEndUnderConstantUse) {
  const auto table = NewTable(Config());
  std::atomic<int> calls{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t) {
    readers.emplace_back([&] {
      Floats weights(1000 * kDim);
      const Keys keys(1000, 7);
      while (table->Lookup(keys, {}, *Executor::Inline(), weights).ok()) ++calls;
    });
  }
  while (calls < 100) std::this_thread::yield();
  ASSERT_OK(tables_->session().Close());
  for (std::thread& reader : readers) reader.join();
}

// ---- admission ----

TEST_P(EmbeddingTableTest, KeyGetsItsRowInTheCallThatBringsItsCountToMinCount) {
  const auto table = NewTable(FilteredConfig(3));
  ApplyResult result = Apply(*table, {7, 8}, {1, 1, 1, 1});
  EXPECT_EQ(result.num_blocked, 2);
  EXPECT_EQ(result.num_updated, 0);
  Apply(*table, {7}, {1, 1});
  EXPECT_EQ(Size(*table), 0);
  clock_.AdvanceMillis(5);
  result = Apply(*table, {7, 8}, {0.5f, 0.25f, 1, 1});
  EXPECT_EQ(result.num_updated, 1);
  EXPECT_EQ(result.num_inserted, 1);
  EXPECT_EQ(result.num_blocked, 1);
  EXPECT_EQ(Lookup(*table, {7, 8}), (Floats{0.5f, 0.75f, 0, 0})) << "from its initial value, one step";
  EXPECT_EQ(GetRow(*table, 7).header.update_num, 1);
  EXPECT_EQ(GetRow(*table, 7).header.update_time, 1'000'005);
  result = Apply(*table, {7}, {1, 1});
  EXPECT_EQ(result.num_blocked, 0);
  EXPECT_EQ(GetRow(*table, 7).header.update_num, 2);
  EXPECT_EQ(table->counters().blocked_keys, 4);
  EXPECT_EQ(table->step(), 4);
}

TEST_P(EmbeddingTableTest, BlockedKeyReadsAsZerosHoweverItIsAskedFor) {
  const auto table = NewTable(FilteredConfig(2));
  Apply(*table, {1}, {1, 1});
  for (const bool training : {true, false}) {
    for (const MissingRow missing : {MissingRow::kInitial, MissingRow::kZeros}) {
      LookupOptions options;
      options.training = training;
      options.missing = missing;
      for (int i = 0; i < 2; ++i) EXPECT_EQ(Lookup(*table, {1, 2, 1}, options), Floats(6, 0.0f));
    }
  }
  EXPECT_EQ(Apply(*table, {1}, {1, 1}).num_inserted, 1);
}

TEST_P(EmbeddingTableTest, RepetitionsAreOccurrencesAndPaddingIsNone) {
  const auto table = NewTable(FilteredConfig(3));
  ApplyOptions options;
  options.padding_key = 9;
  EXPECT_EQ(Apply(*table, {9, 9, 9, 5, 5}, Floats(10, 1.0f), options).num_blocked, 1);
  EXPECT_EQ(Apply(*table, {9}, {1, 1}).num_blocked, 1) << "padding was not counted";
  EXPECT_EQ(Apply(*table, {4, 4, 4, 4}, Floats(8, 1.0f)).num_inserted, 1);
  EXPECT_EQ(Lookup(*table, {4}), (Floats{-3, -3}));
  EXPECT_EQ(Apply(*table, {5}, {1, 1}).num_inserted, 1);
}

TEST_P(EmbeddingTableTest, GradientsThatAreNotFiniteAreNoOccurrences) {
  const auto table = NewTable(FilteredConfig(3));
  const float nan = std::nanf("");
  const ApplyResult result = Apply(*table, {1, 1, 1, 1, 2}, {nan, 0, 1, 1, 1, 1, 1, 1, 1, 1});
  EXPECT_EQ(result.num_skipped, 1);
  EXPECT_EQ(result.num_blocked, 1);
  EXPECT_EQ(Apply(*table, {1, 1}, Floats(4, 1.0f)).num_blocked, 1);
  EXPECT_EQ(Apply(*table, {1}, {1, 1}).num_inserted, 1);
}

TEST_P(EmbeddingTableTest, AdmittedKeyWhoseStepWouldNotBeFiniteIsCountedAndHasNoRow) {
  GroupConfig config = FilteredConfig(2);
  config.optimizer.Insert("gamma", 1e30);
  const auto table = NewTable(config);
  EXPECT_EQ(Apply(*table, {1, 1}, {1e20f, 0, 0, 0}).num_skipped, 1);
  EXPECT_EQ(Size(*table), 0);
  EXPECT_EQ(Lookup(*table, {1}), (Floats{0, 0}));
  EXPECT_EQ(Apply(*table, {1}, {0, 0}).num_inserted, 1);
}

TEST_P(EmbeddingTableTest, KeysWithARowAreNotCounted) {
  const auto table = NewTable(FilteredConfig(2));
  Apply(*table, {1, 1}, Floats(4, 1.0f));
  const std::vector<std::string> before = FilterPages();
  for (int i = 0; i < 5; ++i) Apply(*table, {1, 1, 1}, Floats(6, 1.0f));
  EXPECT_EQ(FilterPages(), before);
  Apply(*table, {2}, Floats(2, 1.0f));
  EXPECT_NE(FilterPages(), before);
}

TEST_P(EmbeddingTableTest, ExpiredRowIsNoneAndItsCountStands) {
  const auto table = NewTable(FilteredConfig(3), /*ttl_seconds=*/10);
  Apply(*table, {1, 1, 1, 2, 2}, Floats(10, 1.0f));
  EXPECT_EQ(Lookup(*table, {1}), (Floats{-2, -2}));
  clock_.AdvanceMillis(10'000);
  EXPECT_EQ(Lookup(*table, {1}), (Floats{0, 0}));
  const ApplyResult result = Apply(*table, {1, 2}, {1, 1, 1, 1});
  EXPECT_EQ(result.num_blocked, 0) << "each has occurred three times by now";
  EXPECT_EQ(Lookup(*table, {1, 2}), (Floats{0, 0, 0, 0})) << "ones less a step";
  EXPECT_EQ(GetRow(*table, 1).header.update_num, 1);
  EXPECT_EQ(Size(*table), 2);
}

TEST_P(EmbeddingTableTest, CountsOutliveTheTable) {
  auto table = NewTable(FilteredConfig(3));
  Apply(*table, {1, 2, 2}, Floats(6, 1.0f));
  Reopen(&table, FilteredConfig(3));
  EXPECT_EQ(Apply(*table, {1, 2}, Floats(4, 1.0f)).num_inserted, 1);
  Reopen(&table, FilteredConfig(2));
  EXPECT_EQ(Apply(*table, {1}, Floats(2, 1.0f)).num_inserted, 1) << "another min_count counts on";
}

TEST_P(EmbeddingTableTest, FailedCallCountsNothing) {
  const auto table = NewTable(FilteredConfig(3));
  Apply(*table, {1}, {1, 1});
  tables_->storage().write_status = IoError("No space left");
  tables_->log_files().full = true;
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(table->ApplyGradients(Keys{1, 1}, Floats(4, 1.0f), {}, *Executor::Inline()).ok());
  }
  tables_->storage().write_status = Status();
  tables_->log_files().full = false;
  EXPECT_EQ(Apply(*table, {1}, {1, 1}).num_blocked, 1);
  EXPECT_EQ(Apply(*table, {1}, {1, 1}).num_inserted, 1);
  EXPECT_EQ(table->counters().blocked_keys, 2);
}

// Contract C5: the same batches give the same bits, however the work is split.
// A table without memory sees a few of the filter's 18 pages in each call.
TEST_P(EmbeddingTableTest, AFilterThatIsTooFullIsToldOfOnce) {
  const auto table = NewTable(FilteredConfig(/*min_count=*/3));
  const auto count = [&](uint64_t begin, uint64_t end) {
    constexpr uint64_t kKeysPerCall = 5;
    for (uint64_t first = begin; first < end; first += kKeysPerCall) {
      Apply(*table, KeyRange(first, kKeysPerCall), Floats(kKeysPerCall * kDim, 1.0f));
    }
  };
  testing::internal::CaptureStderr();
  count(0, 15'000);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "it is at 0.64";
  testing::internal::CaptureStderr();
  count(15'000, 22'000);
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(told.begin(), told.end(), '\n'), 1) << told;
  for (const char* const part : {"damo_tf: warning: group 5 of store '/rows'", "filter_capacity=10000",
                                 "min_count=3", "min_count=0", "docs/admission.md"}) {
    EXPECT_NE(told.find(part), std::string::npos) << part << " in " << told;
  }
}

TEST_P(EmbeddingTableTest, ThreadsDoNotChangeTheResult) {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal;
  std::vector<Keys> batches(5);
  std::vector<Floats> gradients(batches.size());
  for (size_t b = 0; b < batches.size(); ++b) {
    for (int i = 0; i < 4000; ++i) batches[b].push_back(random() % 3000);
    for (size_t i = 0; i < batches[b].size() * kDim; ++i) gradients[b].push_back(normal(random));
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
    Floats weights(all.size() * kDim);
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
