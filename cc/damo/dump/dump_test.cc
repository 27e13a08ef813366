// SPDX-License-Identifier: Apache-2.0
//
// Rows out of a store and into one: WriteDump(), LoadDump(), GroupImport.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/dump/dump_format.h"
#include "damo/dump/group_import.h"
#include "damo/dump/load_dump.h"
#include "damo/dump/output_file.h"
#include "damo/dump/write_dump.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/table/delete_rows.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

constexpr int64_t kDayMillis = 24 * 60 * 60 * 1000;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string Record(int32_t group, uint64_t key, const Floats& weights) {
  std::string bytes(12 + 4 * weights.size(), '\0');
  std::memcpy(&bytes[0], &key, 8);
  std::memcpy(&bytes[8], &group, 4);
  std::memcpy(&bytes[12], weights.data(), 4 * weights.size());
  return bytes;
}

// A dump of group 1, dim 2, with `num_rows` records.
std::string DumpOfGroup1(uint64_t num_rows, const std::string& records) {
  DumpHeader header;
  header.dims[1] = 2;
  header.counts[1] = num_rows;
  return EncodeDumpHeader(header) + records;
}

// A store with the groups 1, dim 2, adam, and 200, dim 1, sgd.
class DumpTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { store_ = Open("store"); }

  std::shared_ptr<Store> Open(const std::string& name, StoreOptions options = {}) {
    options.row_cache = GetParam();
    RocksDbStorageOptions storage_options;
    storage_options.memory_budget = 8 << 20;
    storage_options.read_only = options.read_only.value_or(false);
    const std::string path = directory_ / name;
    const auto open = [&]() -> StatusOr<std::unique_ptr<Store>> {
      DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenRocksDbStorage(path, storage_options));
      return Store::Open(path, options, std::move(storage), &clock_);
    };
    StatusOr<std::unique_ptr<Store>> store = open();
    // A writer that tidies up may move on while a reader opens.
    for (int i = 0; i < 100 && store.status().code() == StatusCode::kIoError; ++i) store = open();
    EXPECT_TRUE(IsOk(store.status()));
    if (!storage_options.read_only) {
      EXPECT_TRUE(IsOk((*store)->AddGroup(TableConfig(1, 2, "adam", "ones")).status()));
      EXPECT_TRUE(IsOk((*store)->AddGroup(TableConfig(200, 1, "sgd", "zeros")).status()));
    }
    return std::move(*store);
  }
  static EmbeddingTable& Table(const std::shared_ptr<Store>& store, int group) {
    return **store->Table(group);
  }
  void ApplyTo(int group, const Keys& keys) {
    EmbeddingTable& table = Table(store_, group);
    Apply(table, {keys, Floats(keys.size() * table.dim(), 1.0f)});
  }
  static std::optional<Row> RowOf(const std::shared_ptr<Store>& store, int group, uint64_t key) {
    return *Table(store, group).GetRow(key);
  }
  StatusOr<int64_t> Dump(const RowFilter& filter = {}, std::optional<int64_t> group = std::nullopt) {
    return WriteDump(*store_, file_, group, filter);
  }
  StatusOr<int64_t> Load(const std::string& bytes, ImportMode mode = ImportMode::kMerge) {
    WriteFile(file_, bytes);
    return LoadDump(*store_, file_, mode);
  }

  TestDirectory directory_;
  const std::string file_ = directory_ / "rows.dump";
  FakeClock clock_{100 * kDayMillis};
  std::shared_ptr<Store> store_;
};

// ---- dump ----

TEST_P(DumpTest, HasTheRowsOfAllGroupsInOrder) {
  ApplyTo(200, {UINT64_MAX, 3});
  ApplyTo(1, {7});
  EXPECT_EQ(*Dump(), 3);
  DumpHeader header;
  header.dims[1] = 2;
  header.dims[200] = 1;
  header.counts[1] = 1;
  header.counts[200] = 2;
  const Floats weights = RowOf(store_, 1, 7)->weights;
  EXPECT_EQ(ReadFile(file_), EncodeDumpHeader(header) + Record(1, 7, weights) + Record(200, 3, {-1e-3f}) +
                                 Record(200, UINT64_MAX, {-1e-3f}));
}

TEST_P(DumpTest, OfOneGroupHasNoOther) {
  ApplyTo(1, {7});
  ApplyTo(200, {3});
  EXPECT_EQ(*Dump({}, 200), 1);
  DumpHeader header;
  header.dims[200] = 1;
  header.counts[200] = 1;
  EXPECT_EQ(ReadFile(file_), EncodeDumpHeader(header) + Record(200, 3, {-1e-3f}));
}

TEST_P(DumpTest, LeavesOutRowsThatAreRareOrOld) {
  ApplyTo(200, {1, 2});
  clock_.AdvanceMillis(2 * kDayMillis);
  ApplyTo(200, {2, 3});
  EXPECT_EQ(*Dump(), 3);
  EXPECT_EQ(*Dump({2, std::nullopt}), 1);
  EXPECT_EQ(*Dump({0, 1.5}), 2);
  EXPECT_EQ(*Dump({0, 2.0}), 3);  // not older than that
  EXPECT_EQ(*Dump({3, std::nullopt}), 0);
}

TEST_P(DumpTest, LeavesOutRowsPastTheirTimeToLive) {
  ApplyTo(200, {1});
  store_.reset();
  StoreOptions options;
  options.ttl_seconds = 60;
  store_ = Open("store", options);
  clock_.AdvanceMillis(59'999);
  EXPECT_EQ(*Dump(), 1);
  clock_.AdvanceMillis(1);
  ApplyTo(200, {2});
  EXPECT_EQ(*Dump(), 1);
}

TEST_P(DumpTest, AgesAreThoseOfTheMomentHoweverLongItTakesToWrite) {
  ApplyTo(1, {1});
  ApplyTo(200, {1});
  store_.reset();
  StoreOptions options;
  options.ttl_seconds = 60;
  store_ = Open("store", options);
  clock_.AdvanceMillis(59'999);
  const StatusOr<std::unique_ptr<StoreSnapshot>> snapshot = store_->TakeSnapshot();
  ASSERT_OK(snapshot.status());
  int num_rows = 0;
  const auto visit = [&](const RowHeader& /*header*/, std::string_view /*row*/) {
    ++num_rows;
    clock_.AdvanceMillis(1000);  // so long does it take to write the row
    return Status();
  };
  for (const int group : {1, 200}) ASSERT_OK(VisitRows(**snapshot, group, {0, 1.0}, visit));
  EXPECT_EQ(num_rows, 2);
}

TEST_P(DumpTest, IsOfOneMomentWhileTrainingGoesOn) {
  // Each call updates all keys by the same step: in a dump of one moment all weights are equal.
  const Keys keys = KeyRange(0, 3000);
  ApplyTo(200, keys);
  std::thread trainer([&] {
    for (int i = 0; i < 20; ++i) ApplyTo(200, keys);
  });
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(*Dump(), 3000);
    const std::string bytes = ReadFile(file_);
    const std::string weight = bytes.substr(kDumpHeaderBytes + 12, 4);
    for (size_t k = 0; k < 3000; ++k) ASSERT_EQ(bytes.substr(kDumpHeaderBytes + 16 * k + 12, 4), weight);
  }
  trainer.join();
}

TEST_P(DumpTest, OfAReadOnlyStoreHasWhatTheWriterHadApplied) {
  ApplyTo(200, {1});
  StoreOptions options;
  options.read_only = true;
  const std::shared_ptr<Store> reader = Open("store", options);
  EXPECT_EQ(*WriteDump(*reader, file_, std::nullopt, {}), 1);
}

TEST_P(DumpTest, ThatFailsLeavesTheFileThatWasThereAndNoOther) {
  WriteFile(file_, "of yesterday");
  EXPECT_TRUE(FailsWith(Dump({-1, std::nullopt}).status(), StatusCode::kInvalidArgument,
                        "`min_count` must be >= 0. Received: min_count=-1"));
  EXPECT_TRUE(FailsWith(Dump({0, -0.5}).status(), StatusCode::kInvalidArgument,
                        "`expire_days` must be a finite number >= 0. Received: expire_days=-0.5"));
  EXPECT_TRUE(FailsWith(Dump({}, 9).status(), StatusCode::kNotFound, "has no group 9"));
  ASSERT_OK(store_->Close());
  EXPECT_TRUE(FailsWith(Dump().status(), StatusCode::kFailedPrecondition, "is closed"));
  EXPECT_EQ(ReadFile(file_), "of yesterday");
  EXPECT_FALSE(std::filesystem::exists(file_ + ".partial"));
}

TEST_P(DumpTest, PlaceThatCannotBeWrittenIsNamed) {
  const std::string path = directory_ / "absent/rows.dump";
  EXPECT_TRUE(FailsWith(WriteDump(*store_, path, std::nullopt, {}).status(), StatusCode::kIoError,
                        "create file '" + path + ".partial': No such file or directory"));
  EXPECT_TRUE(FailsWith(WriteDump(*store_, directory_.path(), std::nullopt, {}).status(),
                        StatusCode::kIoError, "it exists and is not a regular file"));
}

TEST_P(DumpTest, PlaceInsideTheStoreIsRefusedAndTheStoreStaysWhole) {
  ApplyTo(200, {1});
  ASSERT_OK(store_->Flush());
  const std::string link = directory_ / "link";
  std::filesystem::create_symlink(directory_ / "store", link);
  const std::string current = ReadFile(directory_ / "store/CURRENT");
  for (const char* const path :
       {"store/CURRENT", "store/rows.dump", "store/x/../redo/rows.dump", "link/CURRENT"}) {
    EXPECT_TRUE(FailsWith(WriteDump(*store_, directory_ / path, std::nullopt, {}).status(),
                          StatusCode::kInvalidArgument,
                          StrCat(path, "' must lie outside the store's own directory '")));
  }
  EXPECT_EQ(ReadFile(directory_ / "store/CURRENT"), current);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "store/CURRENT.partial"));
  EXPECT_EQ(*WriteDump(*store_, directory_ / "store-beside", std::nullopt, {}), 1);
  store_.reset();
  store_ = Open("store");
  EXPECT_TRUE(RowOf(store_, 200, 1).has_value());
}

TEST(OutputFileTest, OneNameIsWrittenOnceAtATime) {
  const TestDirectory directory;
  const std::string path = directory / "file";
  auto first = OutputFile::Create(path);
  ASSERT_OK(first.status());
  EXPECT_TRUE(FailsWith(OutputFile::Create(path).status(), StatusCode::kFailedPrecondition,
                        "create file '" + path + "': it is being written already"));
  ASSERT_OK((*first)->Append("one"));
  ASSERT_OK((*first)->Finish());
  EXPECT_EQ(ReadFile(path), "one");
  WriteFile(path + ".partial", "what a process that died has left");
  const auto second = OutputFile::Create(path);
  ASSERT_OK(second.status());
  const std::string large(3 << 20, 'x');
  ASSERT_OK((*second)->Append("?"));
  ASSERT_OK((*second)->Append(large));
  ASSERT_OK((*second)->Overwrite(0, "y"));
  ASSERT_OK((*second)->Append("z"));
  EXPECT_EQ(ReadFile(path), "one");
  ASSERT_OK((*second)->Finish());
  EXPECT_EQ(ReadFile(path), "y" + large + "z");
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
}

// ---- load ----

TEST_P(DumpTest, LoadedIntoAnotherStoreGivesTheSameWeights) {
  ApplyTo(1, KeyRange(0, 5000));
  ApplyTo(200, KeyRange(3, 10));
  EXPECT_EQ(*Dump(), 5010);
  const std::shared_ptr<Store> other = Open("other");
  EXPECT_EQ(*LoadDump(*other, file_, ImportMode::kMerge), 5010);
  EXPECT_EQ(*other->Size(), 5010);
  const Keys keys = KeyRange(0, 6000);
  EXPECT_TRUE(SameBits(Lookup(Table(other, 1), keys), Lookup(Table(store_, 1), keys)));
  EXPECT_TRUE(SameBits(Lookup(Table(other, 200), keys), Lookup(Table(store_, 200), keys)));
}

TEST_P(DumpTest, LoadedRowsBeginWithFreshStateAndAreUpdatedNow) {
  ApplyTo(1, {7});
  ApplyTo(1, {7});
  clock_.AdvanceMillis(5);
  EXPECT_EQ(*Load(DumpOfGroup1(1, Record(1, 7, {2, 3}))), 1);
  const Row row = *RowOf(store_, 1, 7);
  EXPECT_EQ(row.weights, (Floats{2, 3}));
  EXPECT_EQ(row.slots, (Floats{0, 0, 0, 0}));
  EXPECT_EQ(row.header.update_num, 1);
  EXPECT_EQ(row.header.update_time, clock_.NowMillis());
  EXPECT_EQ(*Table(store_, 1).Size(), 1);
}

TEST_P(DumpTest, LoadMergesOrReplaces) {
  ApplyTo(1, {1, 2, 3});
  ApplyTo(200, {9});
  const std::string bytes = DumpOfGroup1(2, Record(1, 2, {2, 2}) + Record(1, 5, {5, 5}));
  EXPECT_EQ(*Load(bytes, ImportMode::kMerge), 2);
  EXPECT_EQ(*Table(store_, 1).Size(), 4);
  EXPECT_EQ(RowOf(store_, 1, 2)->weights, (Floats{2, 2}));
  EXPECT_TRUE(RowOf(store_, 1, 1) && RowOf(store_, 1, 3) && RowOf(store_, 1, 5));
  EXPECT_EQ(*Load(bytes, ImportMode::kReplace), 2);
  EXPECT_EQ(*Table(store_, 1).Size(), 2);
  EXPECT_FALSE(RowOf(store_, 1, 1) || RowOf(store_, 1, 3));
  EXPECT_EQ(RowOf(store_, 1, 5)->weights, (Floats{5, 5}));
  EXPECT_EQ(*Table(store_, 200).Size(), 1);  // not in the file
  EXPECT_EQ(*Load(DumpOfGroup1(0, ""), ImportMode::kReplace), 0);
  EXPECT_EQ(*Table(store_, 1).Size(), 0);
}

TEST_P(DumpTest, LoadedRowsSurviveACrashAndGoOnFromThere) {
  ApplyTo(1, {7, 8});
  EXPECT_EQ(*Load(DumpOfGroup1(1, Record(1, 7, {2, 3}))), 1);
  ApplyTo(1, {7, 8});
  const Row row = *RowOf(store_, 1, 7);
  const TestDirectory crashed;  // what is on disk now is what a crash would leave
  CopyLiveDirectory(store_->directory(), crashed / "store");
  StoreOptions options;
  options.row_cache = GetParam();
  StatusOr<std::unique_ptr<Storage>> storage = OpenRocksDbStorage(crashed / "store", {});
  ASSERT_OK(storage.status());
  auto again = Store::Open(crashed / "store", options, std::move(*storage), &clock_);
  ASSERT_OK(again.status());
  const std::shared_ptr<Store> reopened = std::move(*again);
  EXPECT_EQ(row.header.update_num, 2);
  EXPECT_TRUE(SameRow(RowOf(reopened, 1, 7), row));
  EXPECT_TRUE(SameRow(RowOf(reopened, 1, 8), RowOf(store_, 1, 8)));
  EXPECT_EQ(*reopened->Size(), 2);
}

TEST_P(DumpTest, LoadFindsKeysThatTheTableHasHeldToBeAbsent) {
  LookupToTrain(Table(store_, 1), {7});  // in memory now, with its initial value
  EXPECT_EQ(*Load(DumpOfGroup1(2, Record(1, 7, {2, 3}) + Record(1, 8, {4, 5}))), 2);
  EXPECT_EQ(Lookup(Table(store_, 1), {7, 8}), (Floats{2, 3, 4, 5}));
}

TEST_P(DumpTest, RecordsInAnyOrderAreLoaded) {
  DumpHeader header;
  header.dims[1] = 2;
  header.dims[200] = 1;
  header.counts[1] = 2;
  header.counts[200] = 1;
  const std::string bytes =
      EncodeDumpHeader(header) + Record(1, UINT64_MAX, {1, 2}) + Record(200, 5, {3}) + Record(1, 0, {4, 5});
  EXPECT_EQ(*Load(bytes), 3);
  EXPECT_EQ(Lookup(Table(store_, 1), {0, UINT64_MAX}), (Floats{4, 5, 1, 2}));
  EXPECT_EQ(Lookup(Table(store_, 200), {5}), (Floats{3}));
}

TEST_P(DumpTest, FileThatIsNoDumpOrDoesNotFitIsRefusedAndChangesNothing) {
  ApplyTo(1, {1});
  const Row before = *RowOf(store_, 1, 1);
  const std::string good = DumpOfGroup1(2, Record(1, 1, {2, 2}) + Record(1, 5, {5, 5}));
  const auto refused = [&](const std::string& bytes, std::string_view text) {
    const Status status = Load(bytes, ImportMode::kReplace).status();
    EXPECT_EQ(status.message().find("load '" + file_ + "' into store '" + store_->directory() + "': "), 0);
    return FailsWith(status, StatusCode::kInvalidArgument, text);
  };
  EXPECT_TRUE(refused("", "is not a dump, or not a whole one: has 0 bytes, expected a header of 3072"));
  EXPECT_TRUE(refused(good.substr(0, 3071), "has 3071 bytes, expected a header of 3072"));
  EXPECT_TRUE(refused(good.substr(0, good.size() - 1), "has 3111 bytes, expected 3112 by its header"));
  EXPECT_TRUE(refused(good + '\0', "has 3113 bytes, expected 3112 by its header"));
  EXPECT_TRUE(refused(std::string(4000, '\x7f'), "group 0 has dim 2139062143, expected in [0, 65536]"));
  EXPECT_TRUE(refused(DumpOfGroup1(1, Record(2, 1, {2, 2})),
                      "offset 3072: a record of group 2, of which the header says no more rows"));
  EXPECT_TRUE(refused(DumpOfGroup1(1, Record(-1, 1, {2, 2})), "a record of group -1"));
  EXPECT_TRUE(refused(DumpOfGroup1(2, Record(1, 5, {1, 2}) + Record(1, 6, {1, std::nanf("")})),
                      "offset 3092: weights must be finite. Received, of key 6: nan"));
  EXPECT_TRUE(refused(DumpOfGroup1(2, Record(1, 5, {1, 2}) + Record(1, 5, {1, 2})),
                      "keys must be distinct. Received twice, in group 1: 5"));
  DumpHeader header;
  header.dims[1] = 3;
  header.counts[1] = 1;
  EXPECT_TRUE(refused(EncodeDumpHeader(header) + Record(1, 5, {1, 2, 3}),
                      "group 1 has dim 2 in the store, 3 in the file"));
  WriteFile(file_, EncodeDumpHeader([] {
                     DumpHeader unknown;
                     unknown.dims[9] = 1;
                     unknown.counts[9] = 1;
                     return unknown;
                   }()) +
                       Record(9, 5, {1}));
  EXPECT_TRUE(FailsWith(LoadDump(*store_, file_, ImportMode::kMerge).status(), StatusCode::kNotFound,
                        "has no group 9; it has: 1, 200"));
  EXPECT_TRUE(SameRow(RowOf(store_, 1, 1), before));
  EXPECT_EQ(*store_->Size(), 1);
  EXPECT_TRUE(FailsWith(LoadDump(*store_, file_ + "x", ImportMode::kMerge).status(), StatusCode::kIoError,
                        "open file '" + file_ + "x': No such file or directory"));
}

TEST_P(DumpTest, LoadsAndDeletesBesideTrainingLoseNoStep) {
  std::string records;
  for (uint64_t key = 1000; key < 2000; ++key) records += Record(1, key, {2, 3});
  const std::string bytes = DumpOfGroup1(1000, records);
  const Keys trained = KeyRange(0, 500);
  constexpr int kCalls = 40;
  std::thread trainer([&] {
    for (int i = 0; i < kCalls; ++i) {
      ApplyTo(1, trained);
      LookupToTrain(Table(store_, 1), KeyRange(900, 600));
    }
  });
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(*Load(bytes), 1000);
    EXPECT_EQ(*DeleteRows(*store_, 1, KeyRange(1500, 1000)), 500);
  }
  trainer.join();
  EXPECT_EQ(*Table(store_, 1).Size(), 1000);
  for (const uint64_t key : trained) ASSERT_EQ(RowOf(store_, 1, key)->header.update_num, kCalls);
  EXPECT_EQ(Lookup(Table(store_, 1), {999, 1000, 1499, 1500}), (Floats{1, 1, 2, 3, 2, 3, 1, 1}));
}

TEST_P(DumpTest, LoadIntoAReadOnlyStoreIsRefused) {
  ApplyTo(1, {1});
  EXPECT_EQ(*Dump(), 1);
  StoreOptions options;
  options.read_only = true;
  const std::shared_ptr<Store> reader = Open("store", options);
  EXPECT_TRUE(FailsWith(LoadDump(*reader, file_, ImportMode::kMerge).status(),
                        StatusCode::kFailedPrecondition, "was opened read-only"));
}

// ---- import ----

TEST_P(DumpTest, ImportTakesRowsInPartsWithTheirState) {
  auto import = GroupImport::Begin(store_, 1);
  ASSERT_OK(import.status());
  ASSERT_OK((*import)->Add(Keys{9, 3}, Floats{1, 2, 3, 4}, std::nullopt));
  const Floats slots{10, 11, 12, 13};
  const std::vector<int64_t> nums{5};
  const std::vector<int64_t> times{77};
  ASSERT_OK((*import)->Add(Keys{4}, Floats{5, 6}, RowStates{slots, nums, times}));
  EXPECT_EQ(*store_->Size(), 0);
  EXPECT_EQ(*(*import)->Commit(ImportMode::kMerge), 3);
  EXPECT_EQ(Lookup(Table(store_, 1), {3, 4, 9}), (Floats{3, 4, 5, 6, 1, 2}));
  const Row row = *RowOf(store_, 1, 4);
  EXPECT_EQ(row.slots, slots);
  EXPECT_EQ(row.header.update_num, 5);
  EXPECT_EQ(row.header.update_time, 77);
  EXPECT_TRUE(FailsWith((*import)->Commit(ImportMode::kMerge).status(), StatusCode::kFailedPrecondition,
                        "the import has failed or is committed"));
}

TEST_P(DumpTest, ImportRefusesWhatNoRowCanBe) {
  const auto refused = [&](const Keys& keys, const Floats& weights, const std::optional<RowStates>& states,
                           std::string_view text) {
    const auto import = GroupImport::Begin(store_, 1);
    EXPECT_TRUE(IsOk(import.status()));
    return FailsWith((*import)->Add(keys, weights, states), StatusCode::kInvalidArgument, text);
  };
  const Floats slots(4);
  const Floats infinite{0, 0, 0, INFINITY};
  const std::vector<int64_t> zero{0};
  const std::vector<int64_t> one{1};
  EXPECT_TRUE(refused({1}, {1}, std::nullopt, "`weights` must hold 2 numbers. Received: 1"));
  EXPECT_TRUE(refused({1}, {1, INFINITY}, std::nullopt, "weights must be finite. Received, of key 1: inf"));
  EXPECT_TRUE(refused({1}, {1, 1}, RowStates{infinite, one, one}, "slots must be finite"));
  EXPECT_TRUE(refused({1}, {1, 1}, RowStates{{}, one, one}, "`slots` must hold 4 numbers. Received: 0"));
  EXPECT_TRUE(refused({1}, {1, 1}, RowStates{slots, {}, one}, "`update_nums` must hold 1 numbers"));
  EXPECT_TRUE(refused({1}, {1, 1}, RowStates{slots, one, {}}, "`update_times` must hold 1 numbers"));
  EXPECT_TRUE(refused({1}, {1, 1}, RowStates{slots, zero, one}, "has update_num 0, expected in [1, 2^62)"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, DumpTest, testing::Bool(),
                         [](const auto& info) { return std::string(info.param ? "Cached" : "Direct"); });

}  // namespace
}  // namespace damo
