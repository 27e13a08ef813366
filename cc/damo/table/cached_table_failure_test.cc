// SPDX-License-Identifier: Apache-2.0
//
// A CachedTable whose storage, log or memory fails at each point in turn: what failed before the redo record
// has done nothing, and what comes after it is finished later, wholly and once.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/catch_exceptions.h"
#include "damo/base/share_out.h"
#include "damo/base/test_allocations.h"
#include "damo/base/thread_pool.h"
#include "damo/table/test_cached_table.h"

namespace damo {
namespace {

constexpr uint64_t kNumKeys = 2000;  // more than there are slots
constexpr char kStands[] = "the call is in the redo log and must not be repeated";

class CachedTableFailureTest : public CachedTableTest {
 protected:
  // Tables over storages that are empty.
  void MakeEmpty(const TestTables::Options& options, const GroupConfig& config) {
    oracle_tables_.reset();
    tables_.reset();
    rows_ = NewMemoryStorage();
    oracle_rows_ = NewMemoryStorage();
    Make(options, config);
  }

  // The n-th operation of the storage fails, and all after it if that `lasts`.
  void FailOperation(int n, bool lasts) {
    operations_ = 0;
    failures_ = 0;
    const auto operation = [this, n, lasts]() -> Status {
      const int number = operations_++;
      if (number != n && !(lasts && number > n)) return Status();
      ++failures_;
      return IoError("the disk is full");
    };
    TroubledStorage& storage = tables_->storage();
    storage.before_read = [operation](Span<const uint64_t>) { return operation(); };
    storage.before_sorted_batch = operation;
    storage.before_sorted_row = [operation](uint64_t key) { return key % 100 == 0 ? operation() : Status(); };
    storage.before_commit = operation;
  }
  void FailNothing() {
    TroubledStorage& storage = tables_->storage();
    storage.before_read = nullptr;
    storage.before_sorted_batch = nullptr;
    storage.before_sorted_row = nullptr;
    storage.before_commit = nullptr;
  }

  // Makes one kind of operation fail as soon as a call is in the log.
  template <typename... Args>
  void FailOnceLogged(std::function<Status(Args...)>& operation) {
    operation = [this, lsn = tables_->log().next_lsn()](Args...) {
      if (tables_->log().next_lsn() == lsn) return Status();
      ++failures_;
      return IoError("the disk is full");
    };
  }

  // One with every key, and every other key twice more.
  Batch LargeBatch() {
    Keys keys = KeyRange(0, kNumKeys);
    for (int again = 0; again < 2; ++again) {
      for (uint64_t key = 0; key < kNumKeys; key += 2) keys.push_back(key);
    }
    return NewBatchOf(keys);
  }

  // Each row is either as after the whole call, or cannot be read while the trouble lasts.
  void ExpectNoRowOfBefore() {
    int num_read = 0;
    for (uint64_t key = 0; key < kNumKeys; key += 50) {
      const StatusOr<std::optional<Row>> row = table_->GetRow(key);
      if (!row.ok()) {
        EXPECT_TRUE(FailsWith(row.status(), StatusCode::kIoError, "the disk is full"));
        continue;
      }
      ++num_read;
      EXPECT_TRUE(SameRow(*row, *oracle_->GetRow(key))) << "row of key " << key << " is of before the call";
    }
    EXPECT_LT(num_read, 40) << "all of it is done";
  }

  // That table and oracle are the same, and stay so.
  void ExpectSameAndGoOn() {
    const Keys keys = KeyRange(0, kNumKeys);
    EXPECT_TRUE(SameTables(*table_, *oracle_, keys));
    ApplyToBoth(NewBatch(200, kNumKeys));
    EXPECT_EQ(table_->counters().updated_rows, oracle_->counters().updated_rows);
    EXPECT_EQ(table_->counters().blocked_keys, oracle_->counters().blocked_keys);
    ASSERT_OK(tables_->Flush());
    EXPECT_EQ(tables_->log().bytes(), 0U);
    EXPECT_EQ(table_->memory().num_dirty, 0);
    ExpectStorageHasAll(keys);
    if (table_->recipe()->config.min_count > 0) ExpectSameFilters(*rows_, *oracle_rows_);
  }

  int operations_ = 0;
  int failures_ = 0;
};

// ---- storage ----

class HalfDoneCallTest : public CachedTableFailureTest, public testing::WithParamInterface<Durability> {
 protected:
  TestTables::Options Options() {
    TestTables::Options options = Small();
    options.durability = GetParam();
    return options;
  }
};

INSTANTIATE_TEST_SUITE_P(Modes, HalfDoneCallTest,
                         testing::Values(Durability::kWal, Durability::kSync, Durability::kCheckpoint),
                         [](const auto& info) { return std::string(DurabilityName(info.param)); });

TEST_P(HalfDoneCallTest, IsFinishedOnceTheStorageWorksAgain) {
  const Keys keys = KeyRange(0, kNumKeys);
  int num_half_done = 0;
  int num_not_begun = 0;
  for (int n = 0;; ++n) {
    const bool lasts = n % 2 == 1;
    SCOPED_TRACE(StrCat("operation ", n, lasts ? " and all later ones fail" : " fails"));
    MakeEmpty(Options(), n % 3 == 0 ? FilteredConfig() : Config());
    ApplyToBoth(NewBatch(300, kNumKeys));
    const int64_t step = table_->step();
    const Batch batch = LargeBatch();
    FailOperation(n, lasts);
    const Status applied = TryApply(*table_, batch).status();
    const bool stands = applied.message().find(kStands) != std::string::npos;
    if (applied.ok() || stands) {
      Apply(*oracle_, batch);
      ExpectRecoveryHasAll(keys);
    }
    if (stands) {
      ++num_half_done;
      EXPECT_EQ(table_->step(), step) << "not finished";
      if (lasts) {
        ExpectNoRowOfBefore();
        EXPECT_EQ(TryApply(*table_, NewBatchOf({1})).status().code(), StatusCode::kIoError);
        EXPECT_EQ(tables_->Flush().code(), StatusCode::kIoError);
      }
    } else if (!applied.ok()) {
      ++num_not_begun;
      EXPECT_TRUE(FailsWith(applied, StatusCode::kIoError, "the disk is full"));
    }
    FailNothing();
    if (n % 4 < 2) {  // whoever comes next finishes the call
      EXPECT_TRUE(SameBits(LookupToTrain(*table_, keys), Lookup(*oracle_, keys)));
    } else {
      ASSERT_OK(tables_->Flush());
    }
    ExpectSameAndGoOn();
    if (failures_ == 0 || HasFailure()) break;
  }
  EXPECT_GT(num_half_done, 10);
  EXPECT_GT(num_not_begun, 1);
}

TEST_P(HalfDoneCallTest, IsFinishedByTheNextCallAndCountedOnce) {
  MakeEmpty(Options(), Config());
  const Batch batch = LargeBatch();
  FailOnceLogged(tables_->storage().before_commit);
  EXPECT_TRUE(FailsWith(TryApply(*table_, batch).status(), StatusCode::kIoError, kStands));
  const Status next = TryApply(*table_, batch).status();
  EXPECT_EQ(next.code(), StatusCode::kIoError);
  EXPECT_EQ(next.message().find(kStands), std::string::npos) << "the next one has done nothing";
  FailNothing();
  Apply(*oracle_, batch);
  ApplyToBoth(batch);
  EXPECT_EQ(table_->step(), 2);
  ExpectSameAndGoOn();
}

TEST_P(HalfDoneCallTest, KeysThatItHasNothingToDoWithAreReadAsEver) {
  MakeEmpty(Options(), Config());
  ApplyToBoth(NewBatchOf(KeyRange(kNumKeys, 100)));
  const Batch batch = LargeBatch();
  FailOnceLogged(tables_->storage().before_sorted_batch);
  EXPECT_TRUE(FailsWith(TryApply(*table_, batch).status(), StatusCode::kIoError, kStands));
  failures_ = 0;
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(kNumKeys, 200)));
  EXPECT_EQ(failures_, 0) << "a read of other keys tried to finish it";
  EXPECT_EQ(table_->GetRow(kNumKeys - 1).status().code(), StatusCode::kIoError);
  Floats weights(kDim);
  EXPECT_TRUE(FailsWith(table_->Lookup(Keys{kNumKeys - 1}, {}, *Executor::Inline(), weights),
                        StatusCode::kIoError,
                        "finish an earlier call for group 5, which is in the redo log"));
  FailNothing();
  ASSERT_OK(tables_->Flush());
  Apply(*oracle_, batch);
  ExpectSameAndGoOn();
}

// The trouble is a block that only this group reads: the disk is fine.
TEST_P(HalfDoneCallTest, OfOneGroupKeepsNoOtherFromItsWork) {
  MakeEmpty(Options(), Config());
  EmbeddingTable* const other = tables_->Add(Config("random_normal", kGroup + 1));
  EmbeddingTable* const other_oracle = oracle_tables_->Add(Config("random_normal", kGroup + 1));
  const Batch batch = LargeBatch();
  const uint64_t lsn = tables_->log().next_lsn();
  tables_->storage().before_read = [&](Span<const uint64_t> keys) {
    const bool there = std::count(keys.begin(), keys.end(), kNumKeys - 1) > 0;
    return there && tables_->log().next_lsn() > lsn ? IoError("a bad block") : Status();
  };
  EXPECT_TRUE(FailsWith(TryApply(*table_, batch).status(), StatusCode::kIoError, kStands));
  for (int i = 0; i < 3; ++i) {
    const Batch small = NewBatch(200, 1000);
    Apply(*other, small);
    Apply(*other_oracle, small);
  }
  EXPECT_TRUE(SameTables(*other, *other_oracle, KeyRange(0, 1000)));
  EXPECT_TRUE(FailsWith(tables_->Flush(), StatusCode::kIoError, "a bad block"));
  EXPECT_EQ(other->memory().num_dirty, 0) << "everything else is flushed all the same";
  FailNothing();
  Apply(*oracle_, batch);
  ASSERT_OK(tables_->Flush());
  EXPECT_TRUE(SameTables(*other, *other_oracle, KeyRange(0, 1000)));
  ExpectSameAndGoOn();
}

TEST_P(HalfDoneCallTest, OutlivesTheLogThatItIsIn) {
  const Keys keys = KeyRange(0, kNumKeys);
  for (int num_commits = 0; num_commits < 2; ++num_commits) {
    SCOPED_TRACE(StrCat("halted after ", num_commits, " commits"));
    MakeEmpty(Options(), FilteredConfig());
    ApplyToBoth(NewBatch(300, kNumKeys));
    ASSERT_OK(tables_->Flush());
    const Batch batch = LargeBatch();
    const uint64_t lsn = tables_->log().next_lsn();
    tables_->storage().before_commit = [&, left = num_commits]() mutable {
      if (tables_->log().next_lsn() == lsn) return Status();  // it is not in the log yet
      return left-- > 0 ? Status() : IoError("the disk is full");
    };
    tables_->log_files().num_failing_syncs = 1;
    EXPECT_TRUE(FailsWith(TryApply(*table_, batch).status(), StatusCode::kIoError, kStands));
    EXPECT_EQ(tables_->log_files().num_failing_syncs, 0);
    EXPECT_EQ(tables_->log().failure().ok(), num_commits > 0);
    Apply(*oracle_, batch);
    ExpectRecoveryHasAll(keys);
    FailNothing();
    ASSERT_OK(tables_->Flush());
    ExpectRecoveryHasAll(keys);
    ExpectSameAndGoOn();
  }
}

TEST_P(HalfDoneCallTest, KeepsItsRecipeUntilItIsFinished) {
  MakeEmpty(Options(), Config());
  const Batch batch = LargeBatch();
  FailOnceLogged(tables_->storage().before_commit);
  EXPECT_TRUE(FailsWith(TryApply(*table_, batch).status(), StatusCode::kIoError, kStands));
  FailNothing();
  GroupConfig faster = Config();
  faster.optimizer.Insert("gamma", 0.5);
  const auto recipe = MakeGroupRecipe(faster, std::nullopt);
  ASSERT_OK(recipe.status());
  const auto save = [] { return Status(); };
  StatusOr<bool> changed = table_->TryChangeRecipe(*recipe, tables_->storage(), save);
  ASSERT_OK(changed.status());
  EXPECT_FALSE(*changed);
  ASSERT_OK(tables_->Flush());
  changed = table_->TryChangeRecipe(*recipe, tables_->storage(), save);
  ASSERT_OK(changed.status());
  EXPECT_TRUE(*changed);
  Apply(*oracle_, batch);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, kNumKeys)));
}

// Gradients are whole numbers and rows learn at rate 1, so that the sums are exact in whatever order the
// calls come. Meant for ThreadSanitizer as much as for its own sums.
TEST_F(CachedTableFailureTest, NoCallIsLostOrTakenTwiceBesideOthersOnADiskThatFailsNowAndThen) {
  constexpr uint64_t kKeys = 4000;  // more than twice the slots
  GroupConfig config = TableConfig(kGroup, kDim, "sgd", "zeros");
  config.optimizer.Insert("gamma", 1.0);
  TestTables::Options options = Small();
  options.background = true;
  Make(options, config);
  std::atomic<bool> fails{true};
  std::atomic<int> num_commits{0};
  tables_->storage().before_commit = [&] {
    return fails && ++num_commits % 3 == 0 ? IoError("the disk is full") : Status();
  };
  std::atomic<int64_t> num_calls{0};
  std::atomic<int> num_half_done{0};
  const auto apply_all = [&](uint32_t seed, std::vector<int64_t>* sums) {
    std::mt19937_64 random(seed);
    for (int call = 0; call < 12; ++call) {
      Batch batch;
      for (size_t i = 0; i < (call % 2 == 0 ? 6000U : 200U); ++i) {
        batch.keys.push_back(random() % kKeys);
        batch.gradients.insert(batch.gradients.end(), kDim, static_cast<float>(random() % 5));
      }
      const Status applied = TryApply(*table_, batch).status();
      const bool half_done = applied.message().find(kStands) != std::string::npos;
      if (!applied.ok() && !half_done) continue;
      ++num_calls;
      num_half_done += half_done ? 1 : 0;
      for (size_t i = 0; i < batch.keys.size(); ++i) {
        (*sums)[batch.keys[i]] -= static_cast<int64_t>(batch.gradients[i * kDim]);
      }
    }
  };
  std::atomic<bool> done{false};
  const auto read_all = [&](uint32_t seed) {
    std::mt19937_64 random(seed);
    Floats weights(100 * kDim);
    while (!done) {
      LookupOptions lookup;
      lookup.training = random() % 2 == 0;
      const Keys keys = KeyRange(random() % kKeys, 100);
      const Status found = table_->Lookup(keys, lookup, *Executor::Inline(), weights);
      for (size_t i = 0; found.ok() && i < weights.size(); ++i) {
        ASSERT_EQ(weights[i], weights[i / kDim * kDim]) << "a row was seen half updated";
      }
      if (random() % 8 == 0) tables_->Flush().IgnoreError();  // fails now and then
    }
  };
  std::vector<std::vector<int64_t>> sums(2, std::vector<int64_t>(kKeys));
  std::vector<std::thread> writers;
  std::vector<std::thread> readers;
  for (uint32_t i = 0; i < 2; ++i) writers.emplace_back([&, i] { apply_all(i, &sums[i]); });
  for (uint32_t i = 0; i < 2; ++i) readers.emplace_back([&, i] { read_all(100 + i); });
  for (std::thread& writer : writers) writer.join();
  done = true;
  for (std::thread& reader : readers) reader.join();

  EXPECT_GT(num_half_done, 0);
  fails = false;
  ASSERT_OK(tables_->Flush());
  EXPECT_EQ(table_->step(), num_calls);
  const Floats weights = Lookup(*table_, KeyRange(0, kKeys));
  for (uint64_t key = 0; key < kKeys; ++key) {
    ASSERT_EQ(weights[key * kDim], static_cast<float>(sums[0][key] + sums[1][key])) << "key " << key;
  }
}

// ---- reads and appends ----

TEST_F(CachedTableTest, FailedReadAmongManyIsTakenBack) {
  Make();
  const Keys keys = KeyRange(0, 2000);  // several blocks, each a read
  ApplyToBoth(NewBatchOf(keys));
  ASSERT_OK(tables_->Flush());
  ThreadPool pool(3);
  for (int n = 0; n < 4; ++n) {
    Make();
    const Batch batch = NewBatchOf(KeyRange(500, 2000));
    tables_->storage().before_read = FailAt<Span<const uint64_t>>(n, "a bad block");
    const auto failed = table_->ApplyGradients(batch.keys, batch.gradients, {}, pool);
    ASSERT_TRUE(FailsWith(failed.status(), StatusCode::kIoError, "a bad block")) << n;
    EXPECT_EQ(table_->memory().num_rows, 0) << "what had been read and what had not";
    EXPECT_EQ(table_->step(), oracle_->step());
    tables_->storage().before_read = FailAt<Span<const uint64_t>>(n, "a bad block");
    Floats weights(batch.gradients.size());
    LookupOptions training;
    training.training = true;
    EXPECT_FALSE(table_->Lookup(batch.keys, training, pool, weights).ok());
    EXPECT_EQ(table_->memory().num_rows, 0);

    tables_->storage().before_read = nullptr;
    ApplyToBoth(batch);
    EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 2500)));
    ASSERT_OK(tables_->Flush());
  }
}

TEST_F(CachedTableTest, FailedAppendIsTakenBack) {
  Make();
  ApplyToBoth(NewBatchOf(KeyRange(0, 100)));
  ASSERT_OK(tables_->Flush());
  tables_->log_files().full = true;
  const Batch batch = NewBatchOf(KeyRange(50, 100));
  EXPECT_TRUE(FailsWith(TryApply(*table_, batch).status(), StatusCode::kIoError, "No space left"));
  EXPECT_EQ(table_->memory().num_dirty, 0);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 200)));
  tables_->log_files().full = false;
  ApplyToBoth(batch);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 200)));
  ExpectRecoveryHasAll(KeyRange(0, 200));
}

TEST_F(CachedTableTest, FailedAppendOfABatchLargerThanTheCacheIsTakenBack) {
  Make(Small());
  ApplyToBoth(NewBatch(300, 300));
  tables_->log_files().full = true;
  const Batch batch = NewBatchOf(KeyRange(0, 3000));
  EXPECT_TRUE(FailsWith(TryApply(*table_, batch).status(), StatusCode::kIoError, "No space left"));
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 3000)));
  tables_->log_files().full = false;
  ApplyToBoth(batch);
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 3000)));
}

// ---- memory ----

class NoMemoryTest : public CachedTableFailureTest {
 protected:
  void SetUp() override {
    if (!kAllocationsCanFail) GTEST_SKIP() << "no allocation fails under ThreadSanitizer";
  }

  // Runs `work`, during which allocation `n` fails. Returns whether it came to that.
  static bool WithoutMemory(int64_t n, const std::function<Status()>& work, Status* status) {
    const FailingAllocation one(n);
    *status = CatchExceptions(work);
    return one.failed();
  }
  Status TryApplyToTable(const Batch& batch) {
    return table_->ApplyGradients(batch.keys, batch.gradients, {}, *Executor::Inline()).status();
  }
};

TEST_F(NoMemoryTest, CallThatFailsHasDoneNothing) {
  for (const GroupConfig& config : {Config(), FilteredConfig()}) {
    for (const bool log_fails : {false, true}) {
      bool failed = true;
      for (int64_t n = 0; failed && !HasFailure(); ++n) {
        SCOPED_TRACE(
            StrCat("allocation ", n, log_fails ? ", and the log" : "", ", min_count ", config.min_count));
        MakeEmpty(Foreground(), config);
        ApplyToBoth(NewBatch(200, 300));
        if (n % 2 == 1) {
          ASSERT_OK(tables_->Flush());
        }
        const Batch batch = NewBatch(900, 600);
        tables_->log_files().full = log_fails;
        Status applied;
        failed = WithoutMemory(
            n, [&] { return TryApplyToTable(batch); }, &applied);
        tables_->log_files().full = false;
        if (applied.ok()) Apply(*oracle_, batch);
        EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 600)));
        ExpectRecoveryHasAll(KeyRange(0, 600));
        ApplyToBoth(batch);
        ExpectRecoveryHasAll(KeyRange(0, 600));
        ExpectSameAndGoOn();
      }
    }
  }
}

TEST_F(NoMemoryTest, CallLargerThanTheCacheIsFinishedLaterIfItWasLogged) {
  bool failed = true;
  int num_half_done = 0;
  for (int64_t n = 0; failed && !HasFailure(); n += 1 + n / 8) {
    SCOPED_TRACE(StrCat("allocation ", n));
    MakeEmpty(Small(), n % 2 == 0 ? FilteredConfig() : Config());
    ApplyToBoth(NewBatch(300, kNumKeys));
    const Batch batch = LargeBatch();
    const uint64_t lsn = tables_->log().next_lsn();
    Status applied;
    failed = WithoutMemory(
        n, [&] { return TryApplyToTable(batch); }, &applied);
    if (tables_->log().next_lsn() > lsn) {
      Apply(*oracle_, batch);
      num_half_done += applied.ok() ? 0 : 1;
      ExpectRecoveryHasAll(KeyRange(0, kNumKeys));
    } else {
      EXPECT_FALSE(applied.ok());
    }
    if (n % 3 == 0) {
      ASSERT_OK(tables_->Flush());
    }
    ApplyToBoth(NewBatch(300, kNumKeys));
    ExpectSameAndGoOn();
  }
  EXPECT_GT(num_half_done, 10);
}

// Shares work out as TensorFlow's adapter does, to a pool that has no memory for the n-th task.
class PoolWithoutMemory final : public Executor {
 public:
  explicit PoolWithoutMemory(int n) : left_(n) {}
  ~PoolWithoutMemory() override {
    for (std::thread& thread : threads_) thread.join();
  }
  void ParallelFor(int64_t total, int64_t min_block, const Block& block) override {
    ShareOut(total, std::max<int64_t>(min_block, total / 3 + 1), 2, block,
             [this](std::function<void()> task) {
               if (left_-- == 0) throw std::bad_alloc();
               threads_.emplace_back(std::move(task));
             });
  }
  bool failed() const { return left_ < 0; }

 private:
  int left_;
  std::vector<std::thread> threads_;
};

TEST_F(CachedTableFailureTest, WorkThatCannotBeSharedOutIsDoneAllTheSame) {
  bool failed = true;
  int num_failed = 0;
  for (int n = 0; failed && !HasFailure(); ++n) {
    SCOPED_TRACE(StrCat("task ", n));
    TestTables::Options options = Foreground();
    options.cache_bytes = int64_t{64} << 20;  // of many shards
    MakeEmpty(options, FilteredConfig());
    ApplyToBoth(NewBatch(200, 300));
    const Batch batch = NewBatch(8000, 600);
    PoolWithoutMemory pool(n);
    EXPECT_TRUE(IsOk(table_->ApplyGradients(batch.keys, batch.gradients, {}, pool).status()));
    Apply(*oracle_, batch);
    EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 600)));
    ExpectRecoveryHasAll(KeyRange(0, 600));
    failed = pool.failed();
    num_failed += failed ? 1 : 0;
  }
  EXPECT_GE(num_failed, 8) << "the update, which comes last, was not shared out";
}

TEST_F(NoMemoryTest, FlushThatFailsLosesNoRow) {
  bool failed = true;
  for (int64_t n = 0; failed && !HasFailure(); n += 1 + n / 8) {
    SCOPED_TRACE(StrCat("allocation ", n));
    MakeEmpty(Foreground(), n % 2 == 0 ? FilteredConfig() : Config());
    ApplyToBoth(NewBatch(1500, 700));
    Status flushed;
    failed = WithoutMemory(
        n, [&] { return tables_->Flush(); }, &flushed);
    ExpectRecoveryHasAll(KeyRange(0, 700));
    ApplyToBoth(NewBatch(300, 700));
    ExpectSameAndGoOn();
  }
}

TEST_F(NoMemoryTest, LookupThatFailsTakesNoSlotsAndKeepsNoRowFromLeaving) {
  Make(Small());
  const auto fill = [this] {
    ApplyToBoth(NewBatchOf(KeyRange(0, 300)));
    EXPECT_TRUE(tables_->Flush().ok());
    PushOut();
    return table_->memory().num_rows;
  };
  const int64_t num_slots = fill();
  LookupOptions training;
  training.training = true;
  bool failed = true;
  for (int64_t n = 0; failed; ++n) {
    const Keys keys = KeyRange(10'000 * n, 400);
    Floats weights(keys.size() * kDim);
    Status found;
    failed = WithoutMemory(
        n, [&] { return table_->Lookup(keys, training, *Executor::Inline(), weights); }, &found);
    if (n % 16 == 0 || !failed) {
      EXPECT_EQ(fill(), num_slots) << "allocation " << n;
    }
  }
  EXPECT_TRUE(SameTables(*table_, *oracle_, KeyRange(0, 300)));
}

}  // namespace
}  // namespace damo
