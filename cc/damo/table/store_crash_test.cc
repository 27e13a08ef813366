// SPDX-License-Identifier: Apache-2.0
//
// A store whose process dies, or whose machine loses power, before each change that it makes to the disk and
// in the midst of each write: as it is created, trains, evicts rows, flushes, takes a checkpoint, compacts,
// is closed, recovers, and goes on after its redo log has failed. What is left is opened and compared with a
// model, and every other time trained on to the end and closed.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_disk_history.h"
#include "damo/base/test_status.h"
#include "damo/redo/test_history_log_files.h"
#include "damo/storage/memory_storage.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/storage/test_faults.h"
#include "damo/storage/test_history_env.h"
#include "damo/table/store.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

// Calls go to two groups in turn. Rows of the first are large: the cache of the least budget has room for
// 200. The other one has a filter: its counts must survive exactly, too.
constexpr int kNumCalls = 12;
constexpr int kNumGroups = 2;
constexpr uint64_t kNumKeys = 350;
constexpr size_t kBatch = 100;

// Sanitizers look for other things than the last moment.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kEvery = 10;
#else
constexpr int kEvery = 1;
#endif

std::vector<GroupConfig> Groups() {
  GroupConfig filtered = TableConfig(7, 4, "adagrad", "random_uniform");
  filtered.min_count = 2;
  filtered.filter_capacity = 2000;
  return {TableConfig(0, 512, "adam", "random_normal"), filtered};
}

void CallTable(EmbeddingTable& table, int number, Status* status) {
  std::mt19937_64 random(number);
  *status = TryApply(table, RandomBatch(random, kBatch, kNumKeys, table.dim())).status();
}

// The time at which a call is made.
void AdvanceTo(int call, FakeClock* clock) { clock->AdvanceMillis(1000 * (call + 1) - clock->NowMillis()); }

// What the groups are after each number of calls.
class Model {
 public:
  Model() {
    const std::unique_ptr<Storage> storage = NewMemoryStorage();
    FakeClock clock(0);
    TestTables::Options options;
    options.kind = TableKind::kDirect;
    TestTables tables(storage.get(), &clock, options);
    std::vector<EmbeddingTable*> groups;
    for (const GroupConfig& config : Groups()) groups.push_back(tables.Add(config));
    for (int call = 0;; ++call) {
      states_.emplace_back();
      for (const EmbeddingTable* const group : groups) states_.back().push_back(ContentOf(*group));
      if (call == kNumCalls) break;
      AdvanceTo(call, &clock);
      Status status;
      CallTable(*groups[call % kNumGroups], call, &status);
      EXPECT_TRUE(IsOk(status));
    }
  }

  void ExpectSame(const std::vector<std::shared_ptr<EmbeddingTable>>& tables, int num_calls) const {
    for (int group = 0; group < kNumGroups; ++group) {
      const Content& expected = states_[num_calls][group];
      const Content actual = ContentOf(*tables[group]);
      EXPECT_EQ(actual.size, expected.size) << "rows of group " << group;
      for (uint64_t key = 0; key < kNumKeys; ++key) {
        ASSERT_TRUE(SameRow(actual.rows[key], expected.rows[key])) << "row " << key << " of group " << group;
      }
    }
  }

 private:
  struct Content {
    int64_t size;
    std::vector<std::optional<Row>> rows;
  };

  static Content ContentOf(const EmbeddingTable& table) {
    const StatusOr<int64_t> size = table.Size();
    EXPECT_TRUE(IsOk(size.status()));
    Content content{size.ok() ? *size : -1, {}};
    for (uint64_t key = 0; key < kNumKeys; ++key) {
      StatusOr<std::optional<Row>> row = table.GetRow(key);
      EXPECT_TRUE(IsOk(row.status()));
      content.rows.push_back(row.ok() ? std::move(*row) : std::nullopt);
    }
    return content;
  }

  std::vector<std::vector<Content>> states_;
};

const Model& TheModel() {
  static const Model* const model = new Model;
  return *model;
}

// One life of a store.
class Life {
 public:
  explicit Life(Durability durability, int64_t memory_budget = StoreOptions::kMinMemoryBudget)
      : durability_(durability), memory_budget_(memory_budget) {}

  // All are borrowed.
  Status Open(const std::string& path, rocksdb::Env* env, LogFileSystem* log_files) {
    RocksDbStorageOptions storage_options;
    storage_options.memory_budget = PlanMemory(memory_budget_).storage_bytes;
    storage_options.memtable_bytes = 64 << 10;
    storage_options.durability = Durability::kSync;
    storage_options.env_for_test = env;
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenRocksDbStorage(path, storage_options));
    StoreOptions options;
    options.memory_budget = memory_budget_;
    options.durability = durability_;
    DAMO_ASSIGN_OR_RETURN(store_, Store::Open(path, options, std::move(storage), &clock_, log_files));
    for (const GroupConfig& config : Groups()) {
      DAMO_ASSIGN_OR_RETURN(std::shared_ptr<EmbeddingTable> table, store_->AddGroup(config));
      tables_.push_back(std::move(table));
    }
    return Status();
  }

  Store& store() { return *store_; }
  const std::vector<std::shared_ptr<EmbeddingTable>>& tables() const { return tables_; }

  // How many calls the store has the effects of; -1 if they are not the first ones.
  int num_calls() const {
    const int64_t first = tables_[0]->step();
    const int64_t second = tables_[1]->step();
    return first == second || first == second + 1 ? static_cast<int>(first + second) : -1;
  }

  Status Call(int number) {
    AdvanceTo(number, &clock_);
    Status status;
    CallTable(*tables_[number % kNumGroups], number, &status);
    return status;
  }

 private:
  const Durability durability_;
  const int64_t memory_budget_;
  FakeClock clock_{0};
  std::unique_ptr<Store> store_;
  std::vector<std::shared_ptr<EmbeddingTable>> tables_;
};

// Something that befell a store, and what it must have afterwards.
struct Calamity {
  std::string what;
  std::string disk;  // what is left
  bool lost_power;
  int least_calls;
  int most_calls;
};

// A phase in which nothing is noted.
constexpr char kUnnoted[] = "unnoted";

// Notes all that may befall a store while it does what the test tells it to.
class Recorder {
 public:
  // `directory`: an empty one, but for "disk/store", if that is to exist already.
  Recorder(std::string directory, Durability durability)
      : directory_(std::move(directory)), durability_(durability), life_(durability) {
    fs::create_directories(disk());
    fs::create_directories(directory_ + "/links");
    history_ = std::make_unique<DiskHistory>(disk(), directory_ + "/links");
    env_ = std::make_unique<HistoryEnv>(history_.get());
    log_files_ = std::make_unique<HistoryLogFiles>("the first boot", history_.get());
    history_->set_observer([this](const std::string& change) { Note(change); });
  }
  ~Recorder() { history_->set_observer(nullptr); }

  std::string disk() const { return directory_ + "/disk"; }
  Life& life() { return life_; }
  const std::vector<Calamity>& calamities() const { return calamities_; }
  // The next sync of the redo log fails and loses what it was about. Until everything has been brought to the
  // disk in another way the death of the process may lose what loss of power may.
  void FailNextSyncOfLog() {
    log_files_->FailNextSync();
    log_lost_ = true;
  }
  void ExpectLogHasFailed() {
    EXPECT_TRUE(log_files_->sync_has_failed());
    log_lost_ = false;
  }
  // How many moments there were in a phase.
  int num_in(const std::string& phase) const {
    const auto it = num_in_phase_.find(phase);
    return it == num_in_phase_.end() ? 0 : it->second;
  }

  void Open(const char* phase, int num_calls) {
    phase_ = phase;
    acknowledged_ = begun_ = durable_ = num_calls;
    ASSERT_OK(life_.Open(disk() + "/store", env_.get(), log_files_.get()));
    ASSERT_EQ(life_.num_calls(), num_calls);
  }

  void Call(const char* phase, int num_calls) {
    phase_ = phase;
    for (int i = 0; i < num_calls; ++i) {
      evicted_before_ = NumEvicted();
      begun_ = acknowledged_ + 1;
      ASSERT_OK(life_.Call(acknowledged_));
      acknowledged_ = begun_.load();
      if (durability_ == Durability::kSync) durable_ = acknowledged_.load();
    }
  }

  // What brings everything to the disk.
  template <typename Act>
  void Flushing(const char* phase, const Act& act) {
    phase_ = phase;
    ASSERT_OK(act(life_.store()));
    durable_ = acknowledged_.load();
  }

 private:
  // Called under the history's lock, by whichever thread makes the change.
  void Note(const std::string& change) {
    if (phase_ == kUnnoted) return;
    std::string phase = phase_.load();
    // What only apply calls do, which hold no lock of the cache then.
    const bool is_record = change.rfind("write ", 0) == 0 && change.find(".redo") != std::string::npos;
    if (is_record && !life_.tables().empty() && NumEvicted() > evicted_before_) phase = "eviction";
    ++num_in_phase_[phase];
    if (++num_changes_ % kEvery != 0) return;
    const auto before = [&](const char* calamity) {
      return StrCat(phase, ": ", calamity, " before change ", num_changes_, ", ", change);
    };
    const bool only_synced = std::exchange(is_sync_, change.rfind("sync", 0) == 0);
    if (!only_synced) {  // else the death of the process would leave what it would have left before
      Add(before("death"), /*lost_power=*/false);
      history_->CopyTo(calamities_.back().disk);
    }
    const auto certain = std::make_pair(history_->num_syncs(), durable_.load());
    if (std::exchange(certain_, certain) != certain) {
      Add(before("loss of power"), /*lost_power=*/true);
      history_->CopyAfterPowerLoss(calamities_.back().disk, nullptr);
    }
    if (num_changes_ % 4 == 0) {
      Add(before("loss of power with writes out of order"), /*lost_power=*/true);
      history_->CopyAfterPowerLoss(calamities_.back().disk, &random_);
    }
  }

  void Add(const std::string& what, bool lost_power) {
    const bool all_kept = !lost_power && !log_lost_ && durability_ != Durability::kCheckpoint;
    calamities_.push_back({what, directory_ + "/left-" + std::to_string(calamities_.size()), lost_power,
                           all_kept ? acknowledged_ : durable_, begun_});
  }

  int64_t NumEvicted() const { return life_.tables()[0]->memory().num_evicted; }

  const std::string directory_;
  const Durability durability_;
  std::mt19937 random_{5};
  std::unique_ptr<DiskHistory> history_;
  std::unique_ptr<HistoryEnv> env_;
  std::unique_ptr<HistoryLogFiles> log_files_;
  Life life_;
  // Written by the test, between calls.
  std::atomic<const char*> phase_{""};
  std::atomic<int> begun_{0};
  std::atomic<int> acknowledged_{0};
  std::atomic<int> durable_{0};
  std::atomic<bool> log_lost_{false};
  std::atomic<int64_t> evicted_before_{0};
  // Written by Note().
  int num_changes_ = 0;
  bool is_sync_ = false;                 // the last change
  std::pair<int, int> certain_{-1, -1};  // syncs and calls when a loss of power was last noted
  std::map<std::string, int> num_in_phase_;
  std::vector<Calamity> calamities_;
};

class StoreCrashTest : public testing::TestWithParam<Durability> {
 protected:
  // A life on what a calamity left. If it is to go on, there are all calls afterwards, and no redo log.
  void LiveOn(const Calamity& calamity, bool go_on) {
    SCOPED_TRACE(calamity.what);
    FaultEnv env(std::make_shared<FaultPlan>());  // syncs nothing
    SyncFreeLogFiles log_files(calamity.lost_power ? "the second boot" : "the first boot");
    const std::string path = calamity.disk + "/store";
    Life life(GetParam());
    ASSERT_OK(life.Open(path, &env, &log_files));
    const int found = life.num_calls();
    ASSERT_GE(found, calamity.least_calls);
    ASSERT_LE(found, calamity.most_calls);
    ASSERT_NO_FATAL_FAILURE(TheModel().ExpectSame(life.tables(), found));
    if (!go_on) return;
    for (int call = found; call < kNumCalls; ++call) ASSERT_OK(life.Call(call));
    ASSERT_NO_FATAL_FAILURE(TheModel().ExpectSame(life.tables(), kNumCalls));
    ASSERT_OK(life.store().Close());
    EXPECT_EQ(RedoSegments(path), std::vector<std::string>());
  }

  // A store of some calls whose process died with the last ones in its log, and another one half written.
  void LeaveStore(const std::string& path, int num_calls) {
    FaultEnv env(std::make_shared<FaultPlan>());
    SyncFreeLogFiles log_files("the first boot");
    Life life(GetParam(), int64_t{64} << 20);  // it flushes nothing in the background
    ASSERT_OK(life.Open(directory_ / "first", &env, &log_files));
    for (int call = 0; call < num_calls; ++call) ASSERT_OK(life.Call(call));
    fs::create_directories(fs::path(path).parent_path());
    CopyLiveDirectory(directory_ / "first", path);
    std::vector<std::string> segments = RedoSegments(path);
    ASSERT_FALSE(segments.empty()) << "everything was flushed";
    std::ofstream(*std::max_element(segments.begin(), segments.end()), std::ios::app) << "half a frame";
  }

  void LiveOnAfterAll(const Recorder& recorder) {
    RecordProperty("calamities", static_cast<int>(recorder.calamities().size()));
    bool go_on = false;
    for (const Calamity& calamity : recorder.calamities()) {
      go_on =
          !go_on;  // after every other one: that takes its time, and the next one has left nearly the same
      LiveOn(calamity, go_on);
      if (HasFailure()) return;
      fs::remove_all(calamity.disk);
    }
  }

  const TestDirectory directory_;
};

INSTANTIATE_TEST_SUITE_P(Modes, StoreCrashTest,
                         testing::Values(Durability::kWal, Durability::kSync, Durability::kCheckpoint),
                         [](const auto& info) { return std::string(DurabilityName(info.param)); });

TEST_P(StoreCrashTest, EveryMomentOfALifeLeavesTheFirstCallsAndNoOthers) {
  Recorder recorder(directory_.path(), GetParam());
  recorder.Open("creation", 0);
  recorder.Call("call", 1);
  recorder.Flushing("flush", [](Store& store) { return store.Flush(); });
  recorder.Call("call", 7);
  const std::string checkpoint = recorder.disk() + "/checkpoint";
  recorder.Flushing("checkpoint", [&](Store& store) { return store.Checkpoint(checkpoint); });
  recorder.Call("call", 1);
  recorder.Flushing("compaction", [](Store& store) {
    DAMO_RETURN_IF_ERROR(store.Flush());
    return store.Compact();
  });
  recorder.Call("call", 2);
  recorder.Flushing("close", [](Store& store) { return store.Close(); });
  if (HasFatalFailure()) return;
  for (const char* const phase : {"creation", "call", "flush", "checkpoint", "compaction", "close"}) {
    EXPECT_GE(recorder.num_in(phase), 10) << phase;
  }
  if (GetParam() != Durability::kCheckpoint) {
    EXPECT_GE(recorder.num_in("eviction"), 4);
  }
  LiveOnAfterAll(recorder);
}

// In "checkpoint" there is no log to recover from.
class StoreRecoveryCrashTest : public StoreCrashTest {};

INSTANTIATE_TEST_SUITE_P(Modes, StoreRecoveryCrashTest, testing::Values(Durability::kWal, Durability::kSync),
                         [](const auto& info) { return std::string(DurabilityName(info.param)); });

TEST_P(StoreRecoveryCrashTest, EveryMomentOfARecoveryLeavesTheFirstCallsAndNoOthers) {
  constexpr int kCallsBefore = 6;
  ASSERT_NO_FATAL_FAILURE(LeaveStore(directory_ / "recorded/disk/store", kCallsBefore));
  Recorder recorder(directory_ / "recorded", GetParam());
  recorder.Open("recovery", kCallsBefore);
  recorder.Call("call", 1);
  recorder.Flushing("close", [](Store& store) { return store.Close(); });
  if (HasFatalFailure()) return;
  EXPECT_GE(recorder.num_in("recovery"), 30);
  LiveOnAfterAll(recorder);
}

TEST_P(StoreRecoveryCrashTest, EveryMomentOfARenewalOfTheLogLeavesTheFirstCallsAndNoOthers) {
  Recorder recorder(directory_.path(), GetParam());
  recorder.Open(kUnnoted, 0);
  recorder.Call(kUnnoted, 2);
  recorder.FailNextSyncOfLog();
  recorder.Call("renewal", 1);  // in "sync" it comes to the failure, and survives
  recorder.Flushing("renewal", [](Store& store) { return store.Flush(); });
  recorder.ExpectLogHasFailed();
  recorder.Call("call", 1);
  recorder.Flushing(kUnnoted, [](Store& store) { return store.Close(); });
  if (HasFatalFailure()) return;
  EXPECT_GE(recorder.num_in("renewal"), 10);
  LiveOnAfterAll(recorder);
}

}  // namespace
}  // namespace damo
