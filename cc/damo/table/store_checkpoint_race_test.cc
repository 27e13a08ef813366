// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints and restores beside each other and beside training: each sees one state or the other.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>

#include "damo/base/test_status.h"
#include "damo/table/test_store.h"
#include "damo/table/test_tables.h"
#include "damo/table/verify_checkpoint.h"

namespace damo {
namespace {

TEST(StoreCheckpointRaceTest, ACheckpointBesideARestoreListsTheGroupsThatItsManifestHas) {
  TestStore a;
  ASSERT_OK(a.Open());
  a.Train(0, 2);
  ASSERT_OK(a.store().Checkpoint(a / "c"));
  for (int i = 0; i < 5; ++i) {
    TestStore b;  // has none of the groups
    ASSERT_OK(b.Open());
    std::thread restorer([&] { EXPECT_TRUE(IsOk(b.store().Restore({a / "c"}))); });
    for (int j = 0; j < 3; ++j) {
      const std::string name = b / StrCat("c", j);
      EXPECT_TRUE(IsOk(b.store().Checkpoint(name)));
      const StatusOr<Verification> found = VerifyCheckpoint(name, nullptr);
      EXPECT_TRUE(IsOk(found.status()));
      EXPECT_TRUE(found->ok()) << found->problems().front();
    }
    restorer.join();
    EXPECT_EQ(b.content(), a.content());
  }
}

TEST(StoreCheckpointRaceTest, CallsBesideCheckpointAndRestoreSeeOneStateOrTheOther) {
  TestStore a;
  ASSERT_OK(a.Open());
  a.Train(0, 3);
  ASSERT_OK(a.store().Checkpoint(a / "first"));
  std::atomic<bool> done{false};
  const auto table = a.MustAdd(1);
  const Keys keys = KeyRange(0, TestStore::kNumKeys);
  std::thread trainer([&] {
    std::mt19937_64 random(9);
    while (!done) {
      const StatusOr<ApplyResult> applied =
          TryApply(*table, RandomBatch(random, 50, TestStore::kNumKeys, TestStore::kDim));
      EXPECT_TRUE(IsOk(applied.status()));
    }
  });
  std::thread reader([&] {
    while (!done) LookupToTrain(*table, keys);
  });
  for (int i = 0; i < 5; ++i) {
    const std::string name = a / StrCat("c", i);
    EXPECT_TRUE(
        IsOk(i == 0 ? a.store().Checkpoint(name) : a.store().CheckpointDelta(name, a / StrCat("c", i - 1))));
    EXPECT_TRUE(IsOk(a.store().Restore({i % 2 == 0 ? a / "first" : name})));
  }
  done = true;
  trainer.join();
  reader.join();
  ASSERT_OK(a.store().Restore({a / "first"}));
  TestStore b;
  ASSERT_OK(b.Open());
  b.Train(0, 3);
  EXPECT_EQ(a.content(), b.content());
  EXPECT_TRUE(SameTables(*table, *b.MustAdd(1), keys));
}

}  // namespace
}  // namespace damo
