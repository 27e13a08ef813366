// SPDX-License-Identifier: Apache-2.0
//
// CachedTableTest: what tests of a CachedTable have in common: the table, and a DirectTable that is its
// oracle.
#ifndef DAMO_TABLE_TEST_CACHED_TABLE_H_
#define DAMO_TABLE_TEST_CACHED_TABLE_H_

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "damo/storage/memory_storage.h"
#include "damo/table/recovery.h"
#include "damo/table/test_tables.h"

namespace damo {

inline constexpr int kGroup = 5;
inline constexpr int64_t kDim = 8;
// Three slabs; of 256 rows each if a row has two slots.
inline constexpr int64_t kFewSlabs = int64_t{100} << 10;
// The index is charged after the slabs, and may go that much beyond the limit.
inline constexpr int64_t kIndexBytes = int64_t{8} << 10;

inline GroupConfig Config(const std::string& initializer = "random_normal", int group = kGroup) {
  return TableConfig(group, kDim, "adam", initializer);
}

// A few keys share all counters: both tables must mistake the same ones.
inline constexpr int64_t kFilterPages = 6;
inline GroupConfig FilteredConfig() {
  GroupConfig config = Config();
  config.min_count = 3;
  config.filter_capacity = 3000;
  return config;
}

// Fails the n-th call of a hook.
template <typename... Args>
std::function<Status(Args...)> FailAt(int n, const char* message) {
  const auto calls = std::make_shared<std::atomic<int>>(0);
  return [=](Args...) { return (*calls)++ == n ? IoError(message) : Status(); };
}

// A clock that lets a test do something at a moment when a call has begun.
class InterruptingClock final : public Clock {
 public:
  int64_t NowMillis() const override {
    if (const auto interrupt = std::exchange(at_next_reading, nullptr)) interrupt();
    return now_millis;
  }
  mutable std::function<void()> at_next_reading;
  int64_t now_millis = 1'000'000;
};

// Each test works on `table_`, and does to `oracle_` what is to have an effect.
class CachedTableTest : public testing::Test {
 protected:
  void Make(const TestTables::Options& options = {}, const GroupConfig& config = Config()) {
    ttl_seconds_ = options.ttl_seconds;
    oracle_tables_.reset();
    tables_.reset();
    TestTables::Options oracle_options = options;
    oracle_options.kind = TableKind::kDirect;
    oracle_tables_ = std::make_unique<TestTables>(oracle_rows_.get(), &clock_, oracle_options);
    oracle_ = oracle_tables_->Add(config);
    tables_ = std::make_unique<TestTables>(rows_.get(), &clock_, options);
    table_ = tables_->Add(config);
  }

  // Little memory, and a flush only where the test or an apply call asks for it.
  static TestTables::Options Small() {
    TestTables::Options options;
    options.cache_bytes = kFewSlabs;
    options.background = false;
    return options;
  }
  static TestTables::Options Foreground() {
    TestTables::Options options;
    options.background = false;
    return options;
  }

  void ApplyToBoth(const Batch& batch) {
    const ApplyResult result = Apply(*table_, batch);
    const ApplyResult expected = Apply(*oracle_, batch);
    EXPECT_EQ(result.num_updated, expected.num_updated);
    EXPECT_EQ(result.num_inserted, expected.num_inserted);
    EXPECT_EQ(result.num_skipped, expected.num_skipped);
    EXPECT_EQ(result.num_blocked, expected.num_blocked);
  }

  Batch NewBatch(size_t size, uint64_t num_keys) { return RandomBatch(random_, size, num_keys, kDim); }
  // One of distinct keys.
  Batch NewBatchOf(const Keys& keys) {
    Batch batch = NewBatch(keys.size(), 1);
    batch.keys = keys;
    return batch;
  }

  // That the storage alone has what the oracle has.
  void ExpectStorageHasAll(const Keys& keys) {
    TestTables::Options options;
    options.kind = TableKind::kDirect;
    options.ttl_seconds = ttl_seconds_;
    TestTables stored(rows_.get(), &clock_, options);
    EXPECT_TRUE(SameTables(*stored.Add(table_->recipe()->config), *oracle_, keys));
  }

  // That a process which finds storage and log as they are now has what the oracle has.
  void ExpectRecoveryHasAll(const Keys& keys) {
    const std::unique_ptr<Storage> copy = CopyOfStorage();
    TestTables::Options options = Foreground();
    options.ttl_seconds = ttl_seconds_;
    TestTables recovered(copy.get(), &clock_, options);
    const EmbeddingTable* const table = recovered.Add(table_->recipe()->config);
    const StatusOr<Manifest> manifest = LoadOrCreateManifest(*copy, std::nullopt, false);
    ASSERT_OK(manifest.status());
    ASSERT_OK(
        ReplayRedoLog(tables_->log_directory(), manifest->redo_lsn, recovered.cached(), *copy).status());
    EXPECT_TRUE(SameTables(*table, *oracle_, keys));
  }

  std::unique_ptr<Storage> CopyOfStorage() {
    std::unique_ptr<Storage> copy = NewMemoryStorage();
    const std::unique_ptr<StorageBatch> batch = copy->NewBatch();
    EXPECT_TRUE(rows_
                    ->Scan(kGroup, [&](uint64_t key,
                                       std::string_view row) { return batch->PutRow(kGroup, key, row); })
                    .ok());
    std::vector<std::string> names{"format", "seed", "redo", "config/005", "state/005"};
    for (int64_t page = 0; page < kFilterPages; ++page) names.push_back(StrCat("filter/005/0000000", page));
    for (const std::string& name : names) {
      const auto value = rows_->GetManifest(name);
      EXPECT_TRUE(value.ok()) << value.status().ToString();
      if (value->has_value()) {
        EXPECT_TRUE(batch->PutManifest(name, **value).ok());
      }
    }
    EXPECT_TRUE(copy->Write(*batch).ok());
    return copy;
  }

  // Applies a batch to a table, and returns it for another one.
  static const Batch& CopyTo(EmbeddingTable& table, const Batch& batch) {
    Apply(table, batch);
    return batch;
  }

  int64_t NumStored() const {
    int64_t num_rows = 0;
    EXPECT_TRUE(IsOk(rows_->Scan(kGroup, [&](uint64_t /*key*/, std::string_view /*row*/) {
      ++num_rows;
      return Status();
    })));
    return num_rows;
  }

  // That two storages count the same, counter by counter.
  static void ExpectSameFilters(const Storage& a, const Storage& b) {
    for (int64_t page = 0; page < kFilterPages; ++page) {
      const auto bytes = GetFilterPage(a, kGroup, page);
      ASSERT_OK(bytes.status());
      EXPECT_TRUE(bytes->has_value()) << page;
      EXPECT_EQ(*bytes, *GetFilterPage(b, kGroup, page)) << page;
    }
  }

  // Fills the cache with other rows, so that every clean one goes.
  void PushOut() {
    for (uint64_t i = 0; i < 16; ++i) LookupToTrain(*table_, KeyRange(1'000'000 + 200 * i, 200));
  }

  // Does something as another thread would while a call is under way: without the locks of the call's thread.
  static void Meanwhile(const std::function<void()>& work) { std::thread(work).join(); }

  // Makes every read count its keys.
  void CountReads() {
    tables_->storage().before_read = [this](Span<const uint64_t> keys) {
      num_read_ += keys.size();
      return Status();
    };
  }

  std::unique_ptr<Storage> rows_ = NewMemoryStorage();
  std::unique_ptr<Storage> oracle_rows_ = NewMemoryStorage();
  std::optional<int64_t> ttl_seconds_;  // of the tables
  InterruptingClock clock_;
  std::mt19937_64 random_{5};
  std::unique_ptr<TestTables> oracle_tables_;
  std::unique_ptr<TestTables> tables_;
  EmbeddingTable* oracle_ = nullptr;
  EmbeddingTable* table_ = nullptr;
  size_t num_read_ = 0;
};

}  // namespace damo

#endif  // DAMO_TABLE_TEST_CACHED_TABLE_H_
