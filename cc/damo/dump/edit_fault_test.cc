// SPDX-License-Identifier: Apache-2.0
//
// Rows that change by other ways than apply calls, on a disk that fails: what is deleted, expired or loaded
// is there as a whole or not at all, memory and disk agree on which, and training goes on from that.
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/dump/dump_format.h"
#include "damo/dump/load_dump.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/storage/test_faults.h"
#include "damo/table/delete_rows.h"
#include "damo/table/store.h"
#include "damo/table/test_tables.h"
#include "damo/table/verify_checkpoint.h"

namespace damo {
namespace {

constexpr int64_t kDim = 2;
constexpr uint64_t kNumKeys = 80;

// Every operation on RocksDB's record fails in turn, every third on its other files, and fewer under
// sanitizers, which look for other things than the last operation.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kRecordStride = 3;
constexpr int kOtherStride = 11;
#else
constexpr int kRecordStride = 1;
constexpr int kOtherStride = 3;
#endif

// A change of a store, which may load the file `dump`.
struct Edit {
  std::string name;
  std::function<Status(Store& store, const std::string& dump)> make;
  std::optional<int64_t> ttl_seconds = std::nullopt;
};

void PrintTo(const Edit& edit, std::ostream* out) { *out << edit.name; }

// The keys 30 to 49 and 60 to 69 are in the dump; those below 50 have rows before.
std::vector<Edit> Edits() {
  const auto load = [](ImportMode mode) {
    return [mode](Store& store, const std::string& dump) { return LoadDump(store, dump, mode).status(); };
  };
  return {{"delete",
           [](Store& store, const std::string&) { return DeleteRows(store, 1, KeyRange(5, 30)).status(); }},
          {"merge", load(ImportMode::kMerge)},
          {"replace", load(ImportMode::kReplace)},
          {"expire", [](Store& store, const std::string&) { return store.Expire().status(); }, 10}};
}

// What can be seen of the one group.
struct Content {
  int64_t step;
  int64_t num_rows;  // expired ones included
  int64_t size;
  std::vector<std::optional<Row>> rows;

  bool operator==(const Content& other) const {
    if (step != other.step || num_rows != other.num_rows || size != other.size) return false;
    for (uint64_t key = 0; key < kNumKeys; ++key) {
      if (!SameRow(rows[key], other.rows[key])) return false;
    }
    return true;
  }
};

void PrintTo(const Content& content, std::ostream* out) {
  *out << "step " << content.step << ", " << content.num_rows << " rows, size " << content.size << ", keys";
  for (uint64_t key = 0; key < kNumKeys; ++key) {
    if (content.rows[key]) *out << " " << key << ":" << content.rows[key]->header.update_num;
  }
}

Content ContentOf(Store& store) {
  const EmbeddingTable& table = **store.Table(1);
  Content content{table.step(), table.num_rows(), -1, {}};
  const StatusOr<int64_t> size = table.Size();
  EXPECT_TRUE(IsOk(size.status()));
  if (size.ok()) content.size = *size;
  for (uint64_t key = 0; key < kNumKeys; ++key) {
    const StatusOr<std::optional<Row>> row = table.GetRow(key);
    EXPECT_TRUE(IsOk(row.status()));
    content.rows.push_back(row.ok() ? *row : std::nullopt);
  }
  return content;
}

void WriteDumpOf(const Keys& keys, const std::string& path) {
  DumpHeader header;
  header.dims[1] = kDim;
  header.counts[1] = keys.size();
  std::ofstream file(path, std::ios::binary);
  file << EncodeDumpHeader(header);
  const int32_t group = 1;
  const Floats weights(kDim, 0.5f);
  for (const uint64_t key : keys) {
    file.write(reinterpret_cast<const char*>(&key), sizeof(key));
    file.write(reinterpret_cast<const char*>(&group), sizeof(group));
    file.write(reinterpret_cast<const char*>(weights.data()), sizeof(float) * kDim);
  }
}

class EditFaultTest : public testing::TestWithParam<std::tuple<Edit, bool>> {
 protected:
  // A store that has been trained: the rows of keys below 20 have expired if rows do.
  struct Trained {
    std::shared_ptr<FaultPlan> plan = std::make_shared<FaultPlan>();
    FaultEnv env{plan};
    TestDirectory directory;
    std::unique_ptr<Store> store;

    std::string path() const { return directory / "store"; }
  };

  void SetUp() override {
    Keys keys = KeyRange(30, 20);
    for (const uint64_t key : KeyRange(60, 10)) keys.push_back(key);
    WriteDumpOf(keys, dump_);
  }

  const Edit& edit() const { return std::get<0>(GetParam()); }
  Status MakeEdit(Store& store) const { return edit().make(store, dump_); }

  StatusOr<std::unique_ptr<Store>> Open(const std::string& path, rocksdb::Env* env = nullptr) const {
    RocksDbStorageOptions storage_options;
    storage_options.memory_budget = PlanMemory(StoreOptions::kMinMemoryBudget).storage_bytes;
    storage_options.durability = Durability::kSync;
    storage_options.env_for_test = env;
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenRocksDbStorage(path, storage_options));
    StoreOptions options;
    options.memory_budget = StoreOptions::kMinMemoryBudget;
    options.row_cache = std::get<1>(GetParam());
    options.clock = ClockKind::kEvent;
    options.ttl_seconds = edit().ttl_seconds;
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Store> store,
                          Store::Open(path, options, std::move(storage), Clock::System()));
    DAMO_RETURN_IF_ERROR(store->AddGroup(TableConfig(1, kDim, "adam", "random_normal")).status());
    return store;
  }

  // Updates rows that stand, are gone, are loaded or are new.
  static Status TrainAgain(Store& store) {
    const Keys keys = KeyRange(10, 55);
    return TryApply(**store.Table(1), {keys, Floats(keys.size() * kDim, 0.25f)}).status();
  }
  void Train(Trained& trained) const {
    StatusOr<std::unique_ptr<Store>> store = Open(trained.path(), &trained.env);
    ASSERT_OK(store.status());
    trained.store = std::move(*store);
    EmbeddingTable& table = **trained.store->Table(1);
    ASSERT_OK(trained.store->AdvanceClock(1'000));
    Apply(table, {KeyRange(0, 50), Floats(50 * kDim, 1.0f)});
    ASSERT_OK(trained.store->AdvanceClock(9'000));
    Apply(table, {KeyRange(20, 30), Floats(30 * kDim, 1.0f)});
    ASSERT_OK(trained.store->AdvanceClock(12'000));
  }

  // What a store is to be, on a sound disk.
  Content Expected(bool edited, bool trained_again) const {
    Trained trained;
    Train(trained);
    if (edited) {
      EXPECT_TRUE(IsOk(MakeEdit(*trained.store)));
    }
    if (trained_again) {
      EXPECT_TRUE(IsOk(TrainAgain(*trained.store)));
    }
    return ContentOf(*trained.store);
  }

  void ExpectSound(Store& store) const {
    const StatusOr<Verification> found = store.Verify();
    ASSERT_OK(found.status());
    EXPECT_TRUE(found->ok()) << found->problems().front();
    const TestDirectory directory;
    ASSERT_OK(store.Checkpoint(directory / "checkpoint"));
    const StatusOr<Verification> verified = VerifyCheckpoint(directory / "checkpoint", nullptr);
    ASSERT_OK(verified.status());
    EXPECT_TRUE(verified->ok()) << verified->problems().front();
    const StatusOr<std::unique_ptr<Store>> other = Open(directory / "other");
    ASSERT_OK(other.status());
    ASSERT_OK((*other)->Restore({directory / "checkpoint"}));
    EXPECT_EQ(ContentOf(**other), ContentOf(store));
  }

  // What the next process finds where this one ends now, or the power is lost.
  void ExpectFound(const Trained& trained, const Content& content) const {
    for (const bool power_lost : {false, true}) {
      const TestDirectory crashed;
      CopyLiveDirectory(trained.path(), crashed / "store");
      if (power_lost) trained.plan->LosePower(trained.path(), crashed / "store");
      const StatusOr<std::unique_ptr<Store>> store = Open(crashed / "store");
      ASSERT_OK(store.status());
      EXPECT_EQ(ContentOf(**store), content) << (power_lost ? "power lost" : "killed");
    }
  }

  const TestDirectory directory_;
  const std::string dump_ = directory_ / "rows.dump";
};

INSTANTIATE_TEST_SUITE_P(Edits, EditFaultTest, testing::Combine(testing::ValuesIn(Edits()), testing::Bool()),
                         [](const auto& info) {
                           return std::get<0>(info.param).name +
                                  (std::get<1>(info.param) ? "_cached" : "_direct");
                         });

TEST_P(EditFaultTest, MemoryAndDiskAgreeWhetherAnEditThatFailedIsThere) {
  const Content before[] = {Expected(false, false), Expected(false, true)};
  const Content after[] = {Expected(true, false), Expected(true, true)};
  ASSERT_FALSE(before[1] == after[1]) << "nothing can be seen of it";
  int num_there = 0;
  const auto run = [&](const FaultPlan::Fault& fault) {
    Trained trained;
    Train(trained);
    Store& store = *trained.store;
    trained.plan->Set(fault);
    const Status edited = MakeEdit(store);
    const bool met = trained.plan->num_failed() > 0;
    trained.plan->Set(std::nullopt);
    const Status applied = TrainAgain(store);
    const Content now = ContentOf(store);
    if (!applied.ok()) {
      // Nobody could find out, so nothing is written.
      EXPECT_TRUE(
          FailsWith(applied, StatusCode::kFailedPrecondition, "a change of rows failed as it was recorded ("))
          << edited.ToString();
      EXPECT_FALSE(edited.ok());
      EXPECT_EQ(now, before[0]);
      trained.store->Close().IgnoreError();
      const StatusOr<std::unique_ptr<Store>> again = Open(trained.path());
      EXPECT_TRUE(IsOk(again.status()));
      if (!again.ok()) return met;
      const Content found = ContentOf(**again);
      EXPECT_TRUE(found == before[0] || found == after[0]) << testing::PrintToString(found);
      EXPECT_TRUE(IsOk(TrainAgain(**again)));
      EXPECT_EQ(ContentOf(**again), found == before[0] ? before[1] : after[1]);
      ExpectSound(**again);
      return met;
    }
    EXPECT_TRUE(now == after[1] || (now == before[1] && !edited.ok())) << testing::PrintToString(now);
    num_there += now == after[1] && !edited.ok() ? 1 : 0;
    ExpectFound(trained, now);
    EXPECT_TRUE(IsOk(store.Flush()));
    ExpectSound(store);
    EXPECT_EQ(ContentOf(store), now);
    return met;
  };
  for (const std::string path_part : {"MANIFEST", ".log", ".sst"}) {
    const int stride = path_part == "MANIFEST" ? kRecordStride : kOtherStride;
    for (const FileOperation operation : {FileOperation::kWrite, FileOperation::kSync}) {
      for (const bool lasts : {false, true}) {
        bool met = true;
        for (int at = 0; met && !HasFailure(); at += stride) {
          SCOPED_TRACE(StrCat("operation ", static_cast<int>(operation), " of ", path_part, ", number ", at,
                              lasts ? " and all later ones fail" : " fails"));
          met =
              run({operation, at, lasts, at % 2 == 0 ? FaultKind::kIoError : FaultKind::kNoSpace, path_part});
        }
      }
    }
  }
  if (kRecordStride == 1) {
    EXPECT_GT(num_there, 0) << "no fault left an edit that failed on disk";
  }
}

}  // namespace
}  // namespace damo
