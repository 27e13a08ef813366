// SPDX-License-Identifier: Apache-2.0
//
// What a table of either kind refuses, and what fails, changes nothing.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "damo/base/thread_pool.h"
#include "damo/table/test_embedding_table.h"

namespace damo {
namespace {

TEST_P(EmbeddingTableTest, FailedReadFailsTheStepAndChangesNothing) {
  auto table = NewTable(Config());
  Apply(*table, {1}, {1, 1});
  Reopen(&table, Config());
  tables_->storage().before_read = [](Span<const uint64_t>) { return IoError("the disk is on fire"); };
  Floats weights(kTableDim);
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
  ASSERT_OK(batch->PutRow(kTableGroup, 1, "not a row"));
  ASSERT_OK(rows_->Write(*batch));

  Floats weights(kTableDim);
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
  Floats weights(keys.size() * kTableDim);
  const Status status = table->Lookup(keys, {}, pool, weights);
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_NE(status.message().find("bad_alloc"), std::string::npos) << status.message();
}

TEST_P(EmbeddingTableTest, ClosedSessionRefusesEveryCall) {
  const auto table = NewTable(Config());
  ASSERT_OK(tables_->session().Close());
  Floats weights(kTableDim);
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
  const Span<const float> gradients(nullptr, num_keys * kTableDim);
  constexpr char kRule[] = "must be fewer than 2^32";
  EXPECT_TRUE(FailsWith(table->ApplyGradients(keys, gradients, {}, *Executor::Inline()).status(),
                        StatusCode::kInvalidArgument, kRule));
  const int64_t splits[] = {0, static_cast<int64_t>(num_keys)};
  const Combiner combiners[] = {Combiner::kSum};
  const float gradient[kTableDim] = {};
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
      Floats weights(1000 * kTableDim);
      const Keys keys(1000, 7);
      while (table->Lookup(keys, {}, *Executor::Inline(), weights).ok()) ++calls;
    });
  }
  while (calls < 100) std::this_thread::yield();
  ASSERT_OK(tables_->session().Close());
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace damo
