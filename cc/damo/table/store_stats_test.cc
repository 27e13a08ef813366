// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/storage/memory_storage.h"
#include "damo/table/store.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

constexpr int kForMinutes = 0;  // groups: rows of one live for a minute, of the other for ever
constexpr int kForEver = 1;

// A store, with and without row cache, that counts how often somebody sets about reading its rows.
class StoreStatsTest : public testing::TestWithParam<bool> {
 protected:
  void Open(std::optional<int64_t> ttl_seconds) {
    store_.reset();
    auto storage = std::make_unique<TroubledStorage>(rows_.get());
    const auto count = [this] {
      ++num_reads_;
      return Status();
    };
    storage->before_snapshot = count;
    storage->before_read = [count](Span<const uint64_t> /*keys*/) { return count(); };
    StoreOptions options;
    options.row_cache = GetParam();
    StatusOr<std::unique_ptr<Store>> store =
        Store::Open(directory_.path(), options, std::move(storage), &clock_);
    ASSERT_OK(store.status());
    store_ = std::move(*store);
    for (const int number : {kForMinutes, kForEver}) {
      GroupConfig config = TableConfig(number, 2, "sgd", "zeros");
      if (number == kForMinutes) config.ttl_seconds = ttl_seconds;
      ASSERT_OK(store_->AddGroup(config).status());
    }
  }
  void ApplyTo(int group, const Keys& keys) const {
    Apply(**store_->Table(group), {keys, Floats(keys.size() * 2, 1.0f)});
  }
  GroupStats Stats(int group, bool count_rows = false) const {
    const StatusOr<StoreStats> stats = store_->Stats(count_rows);
    EXPECT_TRUE(IsOk(stats.status()));
    return stats->groups[group];
  }

  const TestDirectory directory_;
  FakeClock clock_{1'000'000'000};
  const std::unique_ptr<Storage> rows_ = NewMemoryStorage();
  std::atomic<int> num_reads_{0};
  std::unique_ptr<Store> store_;
};

TEST_P(StoreStatsTest, ReadNoRowUnlessRowsAreToBeCounted) {
  Open(60);
  ApplyTo(kForMinutes, {1, 2, 3});
  ApplyTo(kForEver, {1, 2});
  ASSERT_OK(store_->Flush());
  clock_.AdvanceMillis(60'000);
  num_reads_ = 0;
  EXPECT_EQ(Stats(kForMinutes).num_rows, 3) << "expired, and not removed";
  EXPECT_FALSE(Stats(kForMinutes).num_rows_exact);
  EXPECT_EQ(Stats(kForEver).num_rows, 2);
  EXPECT_TRUE(Stats(kForEver).num_rows_exact);
  EXPECT_EQ(num_reads_, 0);

  const GroupStats counted = Stats(kForMinutes, true);
  EXPECT_EQ(counted.num_rows, 0);
  EXPECT_TRUE(counted.num_rows_exact);
  EXPECT_EQ(num_reads_, 1) << "of the group whose rows expire";
  EXPECT_EQ(Stats(kForEver, true).num_rows, 2);
}

TEST_P(StoreStatsTest, AreNotExactWhereRowsMayHaveGoneUncounted) {
  Open(60);
  ApplyTo(kForMinutes, {1, 2, 3});
  clock_.AdvanceMillis(60'000);
  ASSERT_OK(store_->Flush());
  ApplyTo(kForMinutes, {4});
  ASSERT_OK(store_->Flush());  // compactions may drop 1, 2 and 3 from now on
  Open(std::nullopt);
  const GroupStats stats = Stats(kForMinutes);
  EXPECT_EQ(stats.num_rows, 4);
  EXPECT_FALSE(stats.num_rows_exact);
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutRowCache, StoreStatsTest, testing::Bool());

}  // namespace
}  // namespace damo
