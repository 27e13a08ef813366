// SPDX-License-Identifier: Apache-2.0
//
// Many threads on one store with little memory. Gradients are whole numbers and rows learn at rate 1, so that
// the sums are exact in whatever order the calls come. Meant for ThreadSanitizer as much as for its own sums.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/base/thread_pool.h"
#include "damo/config/store_options.h"
#include "damo/table/delete_rows.h"
#include "damo/table/store_registry.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

constexpr int kNumGroups = 3;
constexpr int64_t kDim = 24;
constexpr uint64_t kNumKeys = 30'000;  // about twice what the cache has room for
constexpr int kCalls = 15;             // of each thread that applies
constexpr size_t kBatchSize = 1000;
constexpr size_t kNumOwnKeys = 50;  // of the thread that deletes, behind the others

GroupConfig SummingGroup(int group) {
  GroupConfig config = TableConfig(group, kDim, "sgd", "zeros");
  config.optimizer.Insert("gamma", 1.0);
  config.min_count = group % 2;                 // every other group counts its keys, and lets them all pass
  if (group == 2) config.ttl_seconds = 86'400;  // its rows are looked through for expired ones; none is
  return config;
}

class StoreHammerTest : public testing::TestWithParam<Durability> {
 protected:
  void SetUp() override {
    StoreOptions options;
    options.memory_budget = StoreOptions::kMinMemoryBudget;
    options.durability = GetParam();
    const auto store = StoreRegistry::Global().Open(directory_ / "store", options);
    ASSERT_OK(store.status());
    store_ = *store;
    for (int group = 0; group < kNumGroups; ++group) {
      const auto table = store_->AddGroup(SummingGroup(group));
      ASSERT_OK(table.status());
      tables_.push_back(*table);
    }
  }

  // Two of these for each group. Every tenth batch is larger than the cache's share.
  void ApplyAll(int group, uint32_t seed, std::vector<int64_t>* sums) {
    std::mt19937_64 random(seed);
    ThreadPool pool(1);
    for (int call = 0; call < kCalls; ++call) {
      Batch batch;
      const size_t size = call % 10 == 5 ? 12 * kBatchSize : kBatchSize;
      for (size_t i = 0; i < size; ++i) {
        const uint64_t key = random() % kNumKeys;
        const auto gradient = static_cast<int>(random() % 7) - 3;
        batch.keys.push_back(key);
        batch.gradients.insert(batch.gradients.end(), kDim, static_cast<float>(gradient));
        (*sums)[key] -= gradient;
      }
      if (call % 3 == 0) LookupToTrain(*tables_[group], batch.keys);
      Executor& executor = call % 2 == 0 ? pool : *Executor::Inline();
      const Status applied =
          tables_[group]->ApplyGradients(batch.keys, batch.gradients, {}, executor).status();
      EXPECT_TRUE(applied.ok()) << applied.ToString();
    }
  }

  // Until the others have done: reads of all kinds, flushes, statistics.
  void ReadAll(uint32_t seed) {
    std::mt19937_64 random(seed);
    while (!done_) {
      const EmbeddingTable& table = *tables_[random() % kNumGroups];
      const Batch batch = RandomBatch(random, 200, kNumKeys, kDim);
      switch (random() % 6) {
        case 0:
          EXPECT_TRUE(table.Prefetch(batch.keys, std::nullopt, *Executor::Inline()).ok());
          break;
        case 1:
          Lookup(table, batch.keys);
          break;
        case 2:
        case 3:
          ExpectWholeRows(LookupToTrain(table, batch.keys));
          break;
        case 4:
          EXPECT_TRUE(table.GetRow(batch.keys[0]).ok());
          EXPECT_TRUE(store_->Stats().ok());
          break;
        default:
          if (random() % 4 == 0) {
            EXPECT_TRUE(store_->Flush().ok());
          }
          EXPECT_TRUE(store_->Size().ok());
      }
    }
  }

  // Until the others have done, and once at least: rows come and go, checkpoints are taken, expired rows are
  // looked for.
  void ChangeAll() {
    do {
      for (int group = 0; group < kNumGroups; ++group) ApplyAndDelete(group);
      std::filesystem::remove_all(checkpoint_);
      const Status taken = store_->Checkpoint(checkpoint_);
      EXPECT_TRUE(taken.ok()) << taken.ToString();
      const StatusOr<int64_t> num_expired = store_->Expire();
      ASSERT_TRUE(num_expired.ok()) << num_expired.status().ToString();
      EXPECT_EQ(*num_expired, 0);
    } while (!done_);
  }

  // Nobody else has to do with these keys.
  void ApplyAndDelete(int group) {
    const Keys keys = KeyRange(kNumKeys, kNumOwnKeys);
    EmbeddingTable& table = *tables_[group];
    const Status applied = TryApply(table, {keys, Floats(keys.size() * kDim, -1.0F)}).status();
    EXPECT_TRUE(applied.ok()) << applied.ToString();
    ++num_own_calls_;
    EXPECT_EQ(Lookup(table, keys), Floats(keys.size() * kDim, 1.0F)) << "they did not begin anew";
    const StatusOr<int64_t> num_deleted = DeleteRows(*store_, group, keys);
    ASSERT_TRUE(num_deleted.ok()) << num_deleted.status().ToString();
    EXPECT_EQ(*num_deleted, static_cast<int64_t>(kNumOwnKeys));
    EXPECT_EQ(Lookup(table, keys), Floats(keys.size() * kDim, 0.0F));
  }

  // The last checkpoint holds whole calls, and none of the rows that had been deleted.
  void ExpectWholeCheckpoint() {
    StoreOptions options;
    options.memory_budget = StoreOptions::kMinMemoryBudget;
    options.read_only = true;
    const auto store = StoreRegistry::Global().Open(checkpoint_, options);
    ASSERT_OK(store.status());
    for (int group = 0; group < kNumGroups; ++group) {
      const auto table = (*store)->Table(group);
      ASSERT_OK(table.status());
      ExpectWholeRows(Lookup(**table, KeyRange(0, kNumKeys)));
      EXPECT_EQ(Lookup(**table, KeyRange(kNumKeys, kNumOwnKeys)), Floats(kNumOwnKeys * kDim, 0.0F));
    }
    ASSERT_OK((*store)->Close());
  }

  // All weights of a row have had the same gradients.
  static void ExpectWholeRows(const Floats& weights) {
    for (size_t i = 0; i < weights.size(); ++i) {
      ASSERT_EQ(weights[i], weights[i / kDim * kDim]) << "a row was seen half updated";
    }
  }

  void ExpectSums(const std::vector<std::vector<int64_t>>& sums) {
    for (int group = 0; group < kNumGroups; ++group) {
      EXPECT_EQ(tables_[group]->step(), 2 * kCalls + num_own_calls_ / kNumGroups);
      const Floats weights = Lookup(*tables_[group], KeyRange(0, kNumKeys));
      for (uint64_t key = 0; key < kNumKeys; ++key) {
        const int64_t sum = sums[2 * group][key] + sums[2 * group + 1][key];
        ASSERT_EQ(weights[key * kDim], static_cast<float>(sum)) << "group " << group << ", key " << key;
      }
      ExpectWholeRows(weights);
    }
  }

  const TestDirectory directory_;
  std::shared_ptr<Store> store_;
  std::vector<std::shared_ptr<EmbeddingTable>> tables_;
  const std::string checkpoint_ = directory_ / "checkpoint";
  int64_t num_own_calls_ = 0;  // in all groups
  std::atomic<bool> done_{false};
};

INSTANTIATE_TEST_SUITE_P(Modes, StoreHammerTest,
                         testing::Values(Durability::kWal, Durability::kSync, Durability::kCheckpoint),
                         [](const auto& info) { return std::string(DurabilityName(info.param)); });

TEST_P(StoreHammerTest, SumsAreExactWhateverHappensAtTheSameTime) {
  std::vector<std::vector<int64_t>> sums(2 * kNumGroups, std::vector<int64_t>(kNumKeys));
  std::vector<std::thread> writers;
  std::vector<std::thread> readers;
  for (int i = 0; i < 2 * kNumGroups; ++i) {
    writers.emplace_back([&, i] { ApplyAll(i / 2, i, &sums[i]); });
  }
  for (uint32_t i = 0; i < 2; ++i) {
    readers.emplace_back([&, i] { ReadAll(100 + i); });
  }
  std::thread changer([&] { ChangeAll(); });
  for (std::thread& writer : writers) writer.join();
  done_ = true;
  for (std::thread& reader : readers) reader.join();
  changer.join();

  int64_t num_evicted = 0;
  for (const auto& table : tables_) num_evicted += table->memory().num_evicted;
  EXPECT_GT(num_evicted, 1000);
  ExpectSums(sums);
  ExpectWholeCheckpoint();
  ASSERT_OK(store_->Close());
  tables_.clear();
  store_.reset();
  SetUp();
  ExpectSums(sums);
}

}  // namespace
}  // namespace damo
