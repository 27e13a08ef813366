// SPDX-License-Identifier: Apache-2.0
//
// Which keys get a row in a table of either kind, where a group has a min_count.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "damo/table/test_embedding_table.h"

namespace damo {
namespace {

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

// A table without memory sees a few of the filter's 18 pages in each call.
TEST_P(EmbeddingTableTest, AFilterThatIsTooFullIsToldOfOnce) {
  const auto table = NewTable(FilteredConfig(/*min_count=*/3));
  const auto count = [&](uint64_t begin, uint64_t end) {
    constexpr uint64_t kKeysPerCall = 5;
    for (uint64_t first = begin; first < end; first += kKeysPerCall) {
      Apply(*table, KeyRange(first, kKeysPerCall), Floats(kKeysPerCall * kTableDim, 1.0f));
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

}  // namespace
}  // namespace damo
