// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints and restores in whose way something fails: each is done or not, never in part (contract C13).
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "damo/base/test_status.h"
#include "damo/storage/test_faults.h"
#include "damo/table/test_store.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

// Reads are not among them: RocksDB does not notice one that fails while it takes a file in.
constexpr FileOperation kOperations[] = {FileOperation::kCreate, FileOperation::kWrite,
                                         FileOperation::kSync,   FileOperation::kRename,
                                         FileOperation::kLink,   FileOperation::kSyncDirectory};

FaultPlan::Fault FaultAt(FileOperation operation, int at) {
  return {operation, at, at % 2 == 1, at % 3 == 0 ? FaultKind::kNoSpace : FaultKind::kIoError};
}

// Calls `run` with a new store and, each time, the next fault. It returns whether the fault was met.
template <typename Run>
void ForEachFault(const Run& run) {
  for (const FileOperation operation : kOperations) {
    bool met = true;
    for (int at = 0; met && !testing::Test::HasFailure(); ++at) {
      SCOPED_TRACE(StrCat("operation ", static_cast<int>(operation), ", number ", at, " fails"));
      TestStore a;
      ASSERT_OK(a.Open());
      a.Train(0, 2);
      met = run(a, FaultAt(operation, at));
    }
  }
}

TEST(StoreCheckpointFaultTest, ACheckpointThatFailsLeavesNothingAndOneThatDoesNotIsWhole) {
  ForEachFault([](TestStore& a, const FaultPlan::Fault& fault) {
    const StoreContent before = a.content();
    a.plan().Set(fault);
    const Status status = a.store().Checkpoint(a / "c");
    const bool met = a.plan().num_failed() > 0;
    a.plan().Set(std::nullopt);
    EXPECT_FALSE(fs::exists(a / "c.unfinished"));
    EXPECT_EQ(fs::exists(a / "c"), status.ok()) << status.ToString();
    EXPECT_TRUE(IsOk(a.Open()));
    EXPECT_EQ(a.content(), before);
    a.Train(2, 1);
    if (status.ok()) {
      EXPECT_TRUE(IsOk(a.store().Restore({a / "c"})));
      EXPECT_EQ(a.content(), before);
    }
    return met;
  });
}

TEST(StoreCheckpointFaultTest, ARestoreThatFailsLeavesTheStoreAsItWasOrRestored) {
  ForEachFault([](TestStore& a, const FaultPlan::Fault& fault) {
    const StoreContent at_checkpoint = a.content();
    EXPECT_TRUE(IsOk(a.store().Checkpoint(a / "c")));
    a.Train(2, 2);
    const StoreContent before = a.content();
    a.plan().Set(fault);
    const Status status = a.store().Restore({a / "c"});
    const bool met = a.plan().num_failed() > 0;
    a.plan().Set(std::nullopt);
    if (status.ok()) {
      EXPECT_EQ(a.content(), at_checkpoint);
      return met;
    }
    // A store that takes a further call is as it was, also when it is opened anew; one that takes none may be
    // found restored.
    const bool went_on = TryApply(*a.MustAdd(1), {{1, 2, 3}, Floats(3 * TestStore::kDim, 1)}).ok();
    EXPECT_TRUE(IsOk(a.Open()));
    const StoreContent found = a.content();
    if (went_on) {
      EXPECT_EQ(found.states.at(1).first, before.states.at(1).first + 1);
      EXPECT_EQ(found.states.at(2), before.states.at(2));
    } else {
      EXPECT_TRUE(found == at_checkpoint || found == before) << testing::PrintToString(found);
    }
    return met;
  });
}

TEST(StoreCheckpointFaultTest, ADeltaThatFailsLeavesNothingAndOneThatDoesNotIsWhole) {
  ForEachFault([](TestStore& a, const FaultPlan::Fault& fault) {
    EXPECT_TRUE(IsOk(a.store().Checkpoint(a / "c")));
    a.Train(2, 1);
    a.DeleteSome();
    const StoreContent before = a.content();
    a.plan().Set(fault);
    const Status status = a.store().CheckpointDelta(a / "d", a / "c");
    const bool met = a.plan().num_failed() > 0;
    a.plan().Set(std::nullopt);
    EXPECT_FALSE(fs::exists(a / "d.unfinished"));
    EXPECT_EQ(fs::exists(a / "d"), status.ok()) << status.ToString();
    EXPECT_EQ(a.content(), before);
    a.Train(3, 1);
    if (status.ok()) {
      EXPECT_TRUE(IsOk(a.store().Restore({a / "d"})));
      EXPECT_EQ(a.content(), before);
    }
    return met;
  });
}

TEST(StoreCheckpointFaultTest, ADeltaThatIsRefusedLeavesNothing) {
  TestStore a;
  ASSERT_OK(a.Open());
  a.Train(0, 2);
  ASSERT_OK(a.store().Checkpoint(a / "c"));
  a.Train(2, 1);
  const StoreContent before = a.content();
  fs::create_directories(a / "d");
  EXPECT_FALSE(a.store().CheckpointDelta(a / "d", a / "c").ok());
  EXPECT_FALSE(a.store().CheckpointDelta(a / "e", a / "nowhere").ok());
  EXPECT_FALSE(fs::exists(a / "e"));
  EXPECT_FALSE(fs::exists(a / "e.unfinished"));
  EXPECT_EQ(a.content(), before);
}

}  // namespace
}  // namespace damo
