// SPDX-License-Identifier: Apache-2.0
//
// Random operations on a store on disk and on its model, direct tables in memory, which must agree in every
// bit: over many lives of the store, each in a process of its own that closes it or dies with it open. Now
// and then the store goes astray and is restored from a checkpoint.
//
// Operation i of a seed is the same in every process, so each brings its model up by doing again what came
// before; how much that is, the steps of the store tell.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_process.h"
#include "damo/base/test_status.h"
#include "damo/base/thread_pool.h"
#include "damo/storage/memory_storage.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/table/delete_rows.h"
#include "damo/table/store.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

constexpr int kApplyPercent = 50;
constexpr uint64_t kNumKeys = 12'000;  // more than the cache of the least memory budget has room for

std::vector<GroupConfig> Groups() {
  // Its filter is too small for the keys: what it mistakes must be the same in both.
  GroupConfig filtered = TableConfig(9, 4, "adam", "random_uniform");
  filtered.min_count = 3;
  filtered.filter_capacity = 4000;
  filtered.filter_fpr = 1e-2;
  return {TableConfig(0, 16, "adam", "random_normal"), TableConfig(3, 5, "adagrad", "random_uniform"),
          filtered, TableConfig(200, 1, "ftrl", "ones")};
}

// What a process is to do with the store.
struct Life {
  Durability durability;
  int64_t memory_budget;
  int64_t ttl_seconds;  // 0: none
  uint64_t seed;
  int64_t min_steps;  // of all groups together, that the store must have
  int64_t max_steps;
  int num_operations;
  bool close;
  bool compare_all;

  std::string ToText() const {
    return StrCat(static_cast<int>(durability), " ", memory_budget, " ", ttl_seconds, " ", seed, " ",
                  min_steps, " ", max_steps, " ", num_operations, " ", close ? 1 : 0, " ",
                  compare_all ? 1 : 0);
  }
  static Life FromText(const std::string& text) {
    Life life{};
    int durability = 0;
    int close = 0;
    int compare_all = 0;
    long long budget = 0, ttl = 0, min_steps = 0, max_steps = 0;
    unsigned long long seed = 0;
    EXPECT_EQ(std::sscanf(text.c_str(), "%d %lld %lld %llu %lld %lld %d %d %d", &durability, &budget, &ttl,
                          &seed, &min_steps, &max_steps, &life.num_operations, &close, &compare_all),
              9);
    life.durability = static_cast<Durability>(durability);
    life.memory_budget = budget;
    life.ttl_seconds = ttl;
    life.seed = seed;
    life.min_steps = min_steps;
    life.max_steps = max_steps;
    life.close = close != 0;
    life.compare_all = compare_all != 0;
    return life;
  }
};

Status Check(bool condition, const std::string& what) { return condition ? Status() : Internal(what); }

// Store and model in one process. Never destroyed: the store is to be closed by Close() alone.
class World {
 public:
  World(std::string path, const Life& life) : path_(std::move(path)), life_(life), pool_(1) {}

  Status Live() {
    DAMO_RETURN_IF_ERROR(Open());
    DAMO_RETURN_IF_ERROR(CatchUp());
    for (int i = 0; i < life_.num_operations; ++i) {
      DAMO_RETURN_IF_ERROR(
          Operate(next_operation_, /*both=*/true).WithContext(StrCat("operation ", next_operation_)));
      ++next_operation_;
    }
    if (life_.compare_all) DAMO_RETURN_IF_ERROR(CompareRows(KeyRange(0, kNumKeys)));
    return life_.close ? store_->Close() : Status();
  }

  int64_t steps() const { return Steps(model_); }
  int64_t flushed_steps() const { return life_.close ? steps() : flushed_steps_; }

 private:
  Status Open() {
    StoreOptions options;
    options.memory_budget = life_.memory_budget;
    options.durability = life_.durability;
    if (life_.ttl_seconds > 0) options.ttl_seconds = life_.ttl_seconds;
    RocksDbStorageOptions storage_options;
    storage_options.memory_budget = PlanMemory(life_.memory_budget).storage_bytes;
    storage_options.memtable_bytes = 64 << 10;
    storage_options.durability = Durability::kSync;
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenRocksDbStorage(path_, storage_options));
    DAMO_ASSIGN_OR_RETURN(store_, Store::Open(path_, options, std::move(storage), &clock_));
    TestTables::Options model_options;
    model_options.kind = TableKind::kDirect;
    model_options.ttl_seconds = options.ttl_seconds;
    model_tables_ = std::make_unique<TestTables>(model_rows_.get(), &clock_, model_options);
    for (const GroupConfig& config : Groups()) {
      DAMO_ASSIGN_OR_RETURN(std::shared_ptr<EmbeddingTable> table, store_->AddGroup(config));
      owners_.push_back(table);
      real_.push_back(table.get());
      model_.push_back(model_tables_->Add(config));
    }
    return Status();
  }

  // Brings the model to where the store is.
  Status CatchUp() {
    const int64_t found = Steps(real_);
    DAMO_RETURN_IF_ERROR(Check(
        life_.min_steps <= found && found <= life_.max_steps,
        StrCat("the store has ", found, " steps, expected ", life_.min_steps, " to ", life_.max_steps)));
    while (steps() < found) DAMO_RETURN_IF_ERROR(Operate(next_operation_++, /*both=*/false));
    // The clock does not go back: it may have moved on after the last step, and rows expired and been
    // dropped.
    while (!IsApply(next_operation_)) DAMO_RETURN_IF_ERROR(Operate(next_operation_++, /*both=*/false));
    flushed_steps_ = found;
    std::mt19937_64 random(life_.seed + found);
    Keys keys;
    for (int i = 0; i < 300; ++i) keys.push_back(random() % kNumKeys);
    DAMO_RETURN_IF_ERROR(CompareRows(keys).WithContext("after opening"));
    return CompareLookups(KeyRange(0, kNumKeys), {}).WithContext("after opening");
  }

  static int64_t Steps(const std::vector<EmbeddingTable*>& tables) {
    int64_t steps = 0;
    for (const EmbeddingTable* const table : tables) steps += table->step();
    return steps;
  }

  std::mt19937_64 RandomOf(uint64_t number) const { return std::mt19937_64(life_.seed * 1'000'003 + number); }
  bool IsApply(uint64_t number) const {
    std::mt19937_64 random = RandomOf(number);
    random.discard(1);
    return random() % 100 < kApplyPercent;
  }

  Status Operate(uint64_t number, bool both) {
    std::mt19937_64 random = RandomOf(number);
    const size_t g = random() % real_.size();
    const auto kind = static_cast<int>(random() % 100);
    if (kind < kApplyPercent) return Apply(g, random, both);
    if (kind < 55) {
      clock_.AdvanceMillis(static_cast<int64_t>(random() % 4'000));
      return Status();
    }
    if (kind < 60) return Delete(g, SomeKeys(random), both);
    if (!both) return Status();
    const Keys keys = SomeKeys(random);
    if (kind < 85) {
      LookupOptions options;
      options.training = kind < 70;
      if (random() % 3 == 0) options.missing = MissingRow::kZeros;
      if (random() % 3 == 0) options.padding_key = keys[0];
      return CompareLookup(g, keys, options);
    }
    if (kind < 90) return real_[g]->Prefetch(keys, std::nullopt, pool_);
    if (kind < 94) return CompareRows({keys.begin(), keys.begin() + std::min<size_t>(keys.size(), 50)});
    if (kind == 94) return CompareRows({});
    if (kind == 95) return GoAstrayAndReturn(number, random);
    if (kind == 96) return store_->Expire().status();
    DAMO_RETURN_IF_ERROR(store_->Flush());
    // In the model expired rows lie where they are; nobody can tell.
    if (kind == 97) DAMO_RETURN_IF_ERROR(store_->Compact());
    flushed_steps_ = steps();
    return Status();
  }

  // What was deleted stays so whatever happens. Of a life that ended here it is not known whether it has come
  // to that; deleting again does no harm.
  Status Delete(size_t g, const Keys& keys, bool both) {
    DAMO_ASSIGN_OR_RETURN(const int64_t expected, DeleteFromModel(g, keys));
    if (steps() < Steps(real_)) return Status();  // the store has done that, and more
    DAMO_ASSIGN_OR_RETURN(const int64_t num_deleted, DeleteRows(*store_, real_[g]->group(), keys));
    flushed_steps_ = steps();
    return Check(!both || num_deleted == expected, StrCat("deleted ", num_deleted, ", expected ", expected));
  }

  // Returns how many of the rows a lookup would have found.
  StatusOr<int64_t> DeleteFromModel(size_t g, const Keys& keys) {
    EmbeddingTable& table = *model_[g];
    const auto group = static_cast<uint8_t>(table.group());
    const std::set<uint64_t> distinct(keys.begin(), keys.end());
    const Keys sorted(distinct.begin(), distinct.end());
    int64_t num_live = 0;
    for (const uint64_t key : sorted) {
      DAMO_ASSIGN_OR_RETURN(const std::optional<Row> row, table.GetRow(key));
      num_live += row ? 1 : 0;
    }
    GroupState state = table.state();
    const std::unique_ptr<StorageBatch> batch = model_rows_->NewBatch();
    DAMO_RETURN_IF_ERROR(
        model_rows_->MultiGet(group, sorted, [&](size_t i, std::optional<std::string_view> row) {
          if (!row) return Status();
          --state.num_rows;
          return batch->DeleteRow(group, sorted[i]);
        }));
    DAMO_RETURN_IF_ERROR(model_rows_->Write(*batch));
    table.TakeFromStorage(state, sorted);
    return num_live;
  }

  // Takes a checkpoint, full or of what has changed since the last one, updates rows and counts of the store
  // alone, and restores it.
  Status GoAstrayAndReturn(uint64_t number, std::mt19937_64& random) {
    const std::string checkpoint = StrCat(path_, "-checkpoint-", number);
    const bool is_delta = !last_checkpoint_.empty() && random() % 3 != 0;
    DAMO_RETURN_IF_ERROR(is_delta ? store_->CheckpointDelta(checkpoint, last_checkpoint_)
                                  : store_->Checkpoint(checkpoint));
    last_checkpoint_ = checkpoint;
    for (EmbeddingTable* const table : real_) {
      const Keys keys = SomeKeys(random);
      const Floats gradients(keys.size() * table->dim(), 0.5F);
      DAMO_RETURN_IF_ERROR(table->ApplyGradients(keys, gradients, {}, pool_).status());
    }
    DAMO_RETURN_IF_ERROR(store_->Restore({checkpoint}));
    flushed_steps_ = steps();
    return CompareRows(KeyRange(0, 300)).WithContext("after a restore");
  }

  // Now and then more than there is room for.
  static Keys SomeKeys(std::mt19937_64& random) {
    const size_t kind = random() % 20;
    const size_t size = kind == 0 ? 15'000 : 1 + random() % (kind < 5 ? 1500 : 300);
    const uint64_t first = random() % kNumKeys;
    const uint64_t range = random() % 2 == 0 ? kNumKeys : 500;
    Keys keys;
    for (size_t i = 0; i < size; ++i) keys.push_back((first + random() % range) % kNumKeys);
    return keys;
  }

  Status Apply(size_t g, std::mt19937_64& random, bool both) {
    Batch batch{SomeKeys(random), {}};
    std::uniform_real_distribution<float> gradient(-1, 1);
    for (size_t i = 0; i < batch.keys.size() * model_[g]->dim(); ++i)
      batch.gradients.push_back(gradient(random));
    if (random() % 5 == 0) {
      batch.gradients[random() % batch.gradients.size()] = std::numeric_limits<float>::quiet_NaN();
      batch.gradients[random() % batch.gradients.size()] = 1e30F;
    }
    ApplyOptions options;
    if (random() % 4 == 0) options.padding_key = batch.keys[0];
    if (random() % 4 == 0) options.gradient_scale = 0.5F;
    DAMO_ASSIGN_OR_RETURN(const ApplyResult expected, TryApply(*model_[g], batch, options));
    if (!both) return Status();
    DAMO_ASSIGN_OR_RETURN(const ApplyResult result,
                          real_[g]->ApplyGradients(batch.keys, batch.gradients, options, pool_));
    // An expired row is written over if it is still there, else inserted.
    const bool same_inserted = life_.ttl_seconds > 0 || result.num_inserted == expected.num_inserted;
    return Check(
        result.num_updated == expected.num_updated && same_inserted &&
            result.num_skipped == expected.num_skipped && result.num_blocked == expected.num_blocked,
        StrCat("updated ", result.num_updated, ", inserted ", result.num_inserted, ", skipped ",
               result.num_skipped, ", blocked ", result.num_blocked, "; expected ", expected.num_updated,
               ", ", expected.num_inserted, ", ", expected.num_skipped, ", ", expected.num_blocked));
  }

  Status CompareLookup(size_t g, const Keys& keys, const LookupOptions& options) {
    Floats actual(keys.size() * real_[g]->dim());
    Floats expected(actual.size());
    DAMO_RETURN_IF_ERROR(real_[g]->Lookup(keys, options, pool_, actual));
    DAMO_RETURN_IF_ERROR(model_[g]->Lookup(keys, options, *Executor::Inline(), expected));
    return Check(SameBits(actual, expected), StrCat("a lookup in group ", real_[g]->group(), " differs"));
  }

  Status CompareLookups(const Keys& keys, const LookupOptions& options) {
    for (size_t g = 0; g < real_.size(); ++g) DAMO_RETURN_IF_ERROR(CompareLookup(g, keys, options));
    return Status();
  }

  // Rows with their slots, steps and sizes, of all groups.
  Status CompareRows(const Keys& keys) {
    for (size_t g = 0; g < real_.size(); ++g) {
      const testing::AssertionResult same = SameTables(*real_[g], *model_[g], keys);
      DAMO_RETURN_IF_ERROR(Check(same, StrCat("group ", real_[g]->group(), ": ", same.message())));
    }
    return Status();
  }

  const std::string path_;
  const Life life_;
  ThreadPool pool_;
  FakeClock clock_{1'000'000};
  std::unique_ptr<Storage> model_rows_ = NewMemoryStorage();
  std::unique_ptr<TestTables> model_tables_;
  std::unique_ptr<Store> store_;
  std::vector<std::shared_ptr<EmbeddingTable>> owners_;
  std::vector<EmbeddingTable*> real_;
  std::vector<EmbeddingTable*> model_;
  uint64_t next_operation_ = 0;
  int64_t flushed_steps_ = 0;
  std::string last_checkpoint_;  // of this life
};

// `arguments`: the path, a line break, a Life. Reports steps applied and steps flushed, or what went wrong.
std::string LiveOnce(const std::string& arguments) {
  const size_t line_break = arguments.find('\n');
  auto* const world =
      new World(arguments.substr(0, line_break), Life::FromText(arguments.substr(line_break + 1)));
  const Status status = world->Live();
  return status.ok() ? StrCat(world->steps(), " ", world->flushed_steps()) : status.ToString();
}

struct ModelConfig {
  Durability durability;
  int64_t memory_budget;
  int64_t ttl_seconds;
};

// With a seed, for which DAMO_TEST_SEED puts another.
class StoreModelTest : public testing::TestWithParam<std::tuple<ModelConfig, uint64_t>> {};

std::string ModelConfigName(const testing::TestParamInfo<StoreModelTest::ParamType>& info) {
  const auto& [config, seed] = info.param;
  return StrCat(DurabilityName(config.durability), "_", config.memory_budget >> 20, "MiB",
                config.ttl_seconds > 0 ? "_ttl" : "", "_seed", seed);
}

INSTANTIATE_TEST_SUITE_P(Configs, StoreModelTest,
                         testing::Combine(testing::Values(ModelConfig{Durability::kWal, 4 << 20, 0},
                                                          ModelConfig{Durability::kWal, 64 << 20, 20},
                                                          ModelConfig{Durability::kWal, 4 << 20, 20},
                                                          ModelConfig{Durability::kSync, 4 << 20, 0},
                                                          ModelConfig{Durability::kCheckpoint, 4 << 20, 20},
                                                          ModelConfig{Durability::kCheckpoint, 64 << 20, 0}),
                                          testing::Values(6, 38)),
                         ModelConfigName);

TEST_P(StoreModelTest, AgreesWithItsModelOverManyLives) {
  const auto& [config, own_seed] = GetParam();
  const char* const chosen = std::getenv("DAMO_TEST_SEED");
  const uint64_t seed = chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : own_seed;
  SCOPED_TRACE(StrCat("DAMO_TEST_SEED=", seed));
  const TestDirectory directory;
  std::mt19937_64 random(seed);
  Life life{config.durability, config.memory_budget, config.ttl_seconds, seed, 0, 0, 0, false, false};
  constexpr int kLives = 4;
  for (int i = 0; i < kLives; ++i) {
    life.num_operations = static_cast<int>(5 + random() % 30);
    life.close = i % 3 == 2;
    life.compare_all = i == kLives - 1;
    const std::string report = RunInFreshProcess(LiveOnce, StrCat(directory / "store", "\n", life.ToText()));
    long long steps = 0;
    long long flushed_steps = 0;
    ASSERT_EQ(std::sscanf(report.c_str(), "%lld %lld", &steps, &flushed_steps), 2)
        << "life " << i << ": " << report;
    life.max_steps = steps;
    life.min_steps = config.durability == Durability::kCheckpoint ? flushed_steps : steps;
  }
}

}  // namespace
}  // namespace damo
