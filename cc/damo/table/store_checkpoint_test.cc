// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints of a store: what is restored is what there was, in every bit, and training goes on from it as
// though it had never gone elsewhere (contract C13).
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "damo/base/test_status.h"
#include "damo/table/store.h"
#include "damo/table/test_store.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kDim = TestStore::kDim;
constexpr int kFilteredGroup = TestStore::kFilteredGroup;

class StoreCheckpointTest : public testing::TestWithParam<StoreSetting> {
 protected:
  void SetUp() override { ASSERT_OK(a_.Open()); }

  std::string SettingsOfGroup1() { return (*a_.store().Table(1))->recipe()->config.ToJson(); }

  TestStore a_{GetParam()};
  TestStore b_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Stores, StoreCheckpointTest,
                         testing::Values(StoreSetting{"wal", true, Durability::kWal},
                                         StoreSetting{"sync", true, Durability::kSync},
                                         StoreSetting{"checkpoint", true, Durability::kCheckpoint},
                                         StoreSetting{"direct", false, Durability::kWal},
                                         StoreSetting{"direct_checkpoint", false, Durability::kCheckpoint}),
                         [](const auto& info) { return info.param.name; });

TEST_P(StoreCheckpointTest, TrainingFromACheckpointEqualsTrainingWithoutInterruption) {
  a_.Train(0, 5);
  const StoreContent at_checkpoint = a_.content();
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  a_.Train(5, 5);
  const StoreContent uninterrupted = a_.content();
  a_.Train(50, 3);  // astray
  ASSERT_OK(a_.store().Restore({a_ / "c"}));
  EXPECT_EQ(a_.content(), at_checkpoint);
  a_.Train(5, 5);
  EXPECT_EQ(a_.content(), uninterrupted);
  ASSERT_OK(a_.Open());
  EXPECT_EQ(a_.content(), uninterrupted);
}

TEST_P(StoreCheckpointTest, ANewStoreIsRestoredFromIt) {
  a_.Train(0, 5);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  ASSERT_OK(b_.Open());
  ASSERT_OK(b_.store().Restore({a_ / "c"}));
  EXPECT_EQ(b_.content(), a_.content());
  a_.Train(5, 2);
  b_.Train(5, 2);
  EXPECT_EQ(b_.content(), a_.content());
  ASSERT_OK(b_.Open());
  EXPECT_EQ(b_.content(), a_.content());
}

TEST_P(StoreCheckpointTest, ANewStoreWhoseGroupsAreInUseIsRestoredFromIt) {
  a_.Train(0, 5);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  ASSERT_OK(b_.Open());
  for (const int group : {1, 2}) ASSERT_NE(b_.MustAdd(group), nullptr);  // they know that they are empty
  ASSERT_OK(b_.store().Restore({a_ / "c"}));
  a_.Train(5, 2);
  b_.Train(5, 2);
  EXPECT_EQ(b_.content(), a_.content());
}

TEST_P(StoreCheckpointTest, DeltasAddUpWhateverWasChangedAndDeleted) {
  std::vector<StoreContent> contents;
  std::vector<std::string> chain;
  for (int i = 0; i < 4; ++i) {
    a_.Train(3 * i, 3);
    if (i % 2 == 1) a_.DeleteSome();
    contents.push_back(a_.content());
    chain.push_back(a_ / std::to_string(i));
    ASSERT_OK(i == 0 ? a_.store().Checkpoint(chain[0]) : a_.store().CheckpointDelta(chain[i], chain[i - 1]));
  }
  for (const int i : {3, 0, 2, 1}) {
    ASSERT_OK(a_.store().Restore({chain[i]}));
    EXPECT_EQ(a_.content(), contents[i]);
    ASSERT_OK(b_.Open());
    ASSERT_OK(b_.store().Restore({chain.begin(), chain.begin() + i + 1}));
    EXPECT_EQ(b_.content(), contents[i]);
  }
}

TEST_P(StoreCheckpointTest, ADeltaIsRestoredThroughASymbolicLinkToWhereItLies) {
  fs::create_directories(a_ / "real/sub/deep");
  fs::create_directory_symlink(a_ / "real/sub/deep", a_ / "link");
  a_.Train(0, 2);
  ASSERT_OK(a_.store().Checkpoint(a_ / "real/base"));
  a_.Train(2, 1);
  ASSERT_OK(a_.store().CheckpointDelta(a_ / "link/d1", a_ / "real/base"));
  fs::create_directory_symlink(a_ / "real/sub/deep/d1", a_ / "other_link");
  a_.Train(3, 1);
  ASSERT_OK(a_.store().CheckpointDelta(a_ / "d2", a_ / "other_link"));
  const StoreContent at_d2 = a_.content();
  for (const char* const name : {"link/d1", "other_link", "real/sub/deep/d1"}) {
    EXPECT_TRUE(IsOk(a_.store().Restore({a_ / name})));
  }
  EXPECT_TRUE(IsOk(a_.store().Restore({a_ / "d2"})));
  EXPECT_EQ(a_.content(), at_d2);
}

TEST_P(StoreCheckpointTest, AGroupThatTheCheckpointLacksBeginsEmpty) {
  a_.Train(0, 2);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  const auto extra = a_.MustAdd(7);
  Apply(*extra, {{1, 2}, Floats(2 * kDim, 1)});
  EXPECT_EQ(extra->step(), 1);
  ASSERT_OK(a_.store().Restore({a_ / "c"}));
  EXPECT_EQ(extra->step(), 0);
  EXPECT_EQ(*extra->Size(), 0);
  EXPECT_EQ(*extra->GetRow(1), std::nullopt);
  Apply(*extra, {{1}, Floats(kDim, 1)});
  EXPECT_EQ((*extra->GetRow(1))->header.update_num, 1);
  ASSERT_OK(a_.Open());
  EXPECT_EQ(*(*a_.store().Table(7))->Size(), 1);
}

TEST_P(StoreCheckpointTest, GroupsThatTheStoreLacksAreThere) {
  a_.Train(0, 2);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  ASSERT_OK(b_.Open());
  EXPECT_FALSE(b_.store().Table(1).ok());
  ASSERT_OK(b_.store().Restore({a_ / "c"}));
  EXPECT_EQ((*b_.store().Table(1))->step(), 2);
}

TEST_P(StoreCheckpointTest, SettingsAskedForStayAndOthersAreTheCheckpoints) {
  a_.Train(0, 1);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  GroupConfig slower = TestStore::Config(1);
  slower.optimizer.Insert("gamma", 0.25);
  ASSERT_OK(a_.Open());
  ASSERT_OK(a_.store().AddGroup(slower).status());
  ASSERT_OK(a_.store().Restore({a_ / "c"}));
  EXPECT_NE(SettingsOfGroup1().find("\"gamma\":0.25"), std::string::npos) << SettingsOfGroup1();
  ASSERT_OK(a_.Open());
  ASSERT_OK(a_.store().Restore({a_ / "c"}));
  EXPECT_NE(SettingsOfGroup1().find("\"gamma\":0.001"), std::string::npos) << SettingsOfGroup1();
}

TEST_P(StoreCheckpointTest, WhatWasCountedOfKeysWithoutRowIsRestored) {
  const auto count = [](TestStore& store, uint64_t key) {
    return Apply(*store.MustAdd(kFilteredGroup), {{key}, Floats(kDim, 1)}).num_updated == 0 ? "blocked"
                                                                                            : "row";
  };
  EXPECT_EQ(count(a_, 7), std::string("blocked"));
  ASSERT_OK(a_.store().Checkpoint(a_ / "once"));
  EXPECT_EQ(count(a_, 7), std::string("blocked"));
  ASSERT_OK(a_.store().CheckpointDelta(a_ / "twice", a_ / "once"));
  EXPECT_EQ(count(a_, 7), std::string("row"));
  ASSERT_OK(a_.store().Restore({a_ / "once"}));
  EXPECT_EQ(count(a_, 7), std::string("blocked"));
  EXPECT_EQ(count(a_, 7), std::string("row"));
  ASSERT_OK(b_.Open());
  ASSERT_OK(b_.store().Restore({a_ / "twice"}));
  EXPECT_EQ(count(b_, 7), std::string("row"));
}

TEST_P(StoreCheckpointTest, SizeOfAFilterGivesWayToTheCheckpointsUnlessSomeoneAskedForIt) {
  a_.Train(0, 3);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  GroupConfig asked = TestStore::FilteredConfig();
  asked.filter_capacity.reset();  // a default, which depends on the memory budget
  ASSERT_OK(b_.Open());
  ASSERT_OK(b_.store().AddGroup(asked).status());
  ASSERT_OK(b_.store().Restore({a_ / "c"}));
  EXPECT_EQ((*b_.store().Table(kFilteredGroup))->recipe()->config.filter_capacity, 1000);
  EXPECT_EQ(b_.content(), a_.content());
  a_.Train(3, 2);
  ASSERT_OK(b_.store().AddGroup(asked).status());
  b_.Train(3, 2);
  EXPECT_EQ(b_.content(), a_.content());

  ASSERT_OK(b_.Open());  // the group stands, nobody has asked for it
  ASSERT_OK(b_.store().Restore({a_ / "c"}));
  TestStore other(GetParam());
  ASSERT_OK(other.Open());
  asked.filter_capacity = 2000;
  ASSERT_OK(other.store().AddGroup(asked).status());
  EXPECT_TRUE(FailsWith(other.store().Restore({a_ / "c"}), StatusCode::kInvalidArgument,
                        "group 3 of the store: has filter_capacity 2000, asked for 1000"));
  TestStore without(GetParam());
  ASSERT_OK(without.Open());
  ASSERT_OK(without.store().AddGroup(TestStore::Config(kFilteredGroup)).status());  // with no min_count
  ASSERT_OK(without.store().Restore({a_ / "c"}));
  EXPECT_EQ((*without.store().Table(kFilteredGroup))->recipe()->config.filter_capacity, 1000);
}

TEST_P(StoreCheckpointTest, AFilterThatLeavesTooLittleToRowsIsRefusedWhereKeysAreCounted) {
  if (!GetParam().row_cache) return;  // such a store holds no filter
  GroupConfig large = TestStore::FilteredConfig();
  large.filter_capacity = int64_t{1} << 17;  // more than the least budget has room for
  StoreOptions options;
  options.memory_budget = int64_t{64} << 20;
  ASSERT_OK(b_.Open());
  b_.Close();
  ASSERT_OK(b_.OpenWith(options));
  ASSERT_OK(b_.store().AddGroup(large).status());
  Apply(**b_.store().Table(kFilteredGroup), {{7}, Floats(kDim, 1)});
  ASSERT_OK(b_.store().Checkpoint(b_ / "c"));

  ASSERT_OK(b_.Open());  // with the least budget: for whoever does not train
  const auto table = *b_.store().Table(kFilteredGroup);
  EXPECT_EQ(table->memory().filter_bytes, 0);
  EXPECT_GT(b_.store().Stats()->groups[0].filter_fill, 0) << "as it is on disk";
  ASSERT_OK(b_.store().Checkpoint(b_ / "again"));
  ASSERT_OK(b_.store().Restore({b_ / "c"}));
  const std::string_view text =
      "takes 946176 bytes, those of all groups 946176; memory_budget=4194304 leaves 655360";
  EXPECT_TRUE(
      FailsWith(TryApply(*table, {{7}, Floats(kDim, 1)}).status(), StatusCode::kInvalidArgument, text));
  EXPECT_TRUE(FailsWith(b_.store().AddGroup(large).status(), StatusCode::kInvalidArgument, text));
  GroupConfig small = TestStore::FilteredConfig();
  small.filter_capacity.reset();
  ASSERT_OK(a_.store().AddGroup(small).status());
  EXPECT_TRUE(FailsWith(a_.store().Restore({b_ / "c"}), StatusCode::kInvalidArgument, text));
}

TEST_P(StoreCheckpointTest, WhatDoesNotFitIsRefusedWithBothValuesAndChangesNothing) {
  a_.Train(0, 2);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  ASSERT_OK(b_.Open(/*seed=*/5));
  EXPECT_TRUE(FailsWith(b_.store().Restore({a_ / "c"}), StatusCode::kInvalidArgument,
                        "the checkpoint has seed 0, the store has 5"));
  EXPECT_TRUE(FailsWith(b_.store().CheckpointDelta(a_ / "d", a_ / "c"), StatusCode::kInvalidArgument,
                        "has seed 0, the store has 5"));
  TestStore other(GetParam());
  ASSERT_OK(other.Open());
  ASSERT_OK(other.store().AddGroup(TestStore::Config(1, 8)).status());
  EXPECT_TRUE(FailsWith(other.store().Restore({a_ / "c"}), StatusCode::kInvalidArgument,
                        "group 1 of the store: has dim 8, asked for 3"));
  TestStore third(GetParam());
  ASSERT_OK(third.Open());
  ASSERT_OK(third.store().AddGroup(TestStore::Config(2, kDim, "sgd")).status());
  EXPECT_TRUE(FailsWith(third.store().Restore({a_ / "c"}), StatusCode::kInvalidArgument,
                        "group 2 of the store: has optimizer 'sgd', asked for 'adam'"));
  EXPECT_FALSE(third.store().Table(1).ok());
}

TEST_P(StoreCheckpointTest, ADirectoryThatStandsIsNotTouched) {
  fs::create_directories(a_ / "c");
  EXPECT_TRUE(FailsWith(a_.store().Checkpoint(a_ / "c"), StatusCode::kInvalidArgument,
                        "/c': there is something already"));
  EXPECT_TRUE(FailsWith(a_.store().Checkpoint(a_.path() + "/c"), StatusCode::kInvalidArgument,
                        "/c' must lie outside the store's own directory"));
}

TEST_P(StoreCheckpointTest, LogRecordsOfBeforeAreNotReplayedOverRestoredRows) {
  a_.Train(0, 4);
  ASSERT_OK(a_.store().Checkpoint(a_ / "c"));
  const StoreContent at_checkpoint = a_.content();
  a_.Train(4, 4);  // in the log only, where there is one
  ASSERT_OK(a_.store().Restore({a_ / "c"}));
  ASSERT_OK(a_.Open());
  EXPECT_EQ(a_.content(), at_checkpoint);
}

}  // namespace
}  // namespace damo
