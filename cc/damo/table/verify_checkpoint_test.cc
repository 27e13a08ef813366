// SPDX-License-Identifier: Apache-2.0
#include "damo/table/verify_checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/checkpoint/description.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/table/store.h"
#include "damo/table/test_tables.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

constexpr int kGroup = 3;
constexpr int kFilteredGroup = 4;

// A full checkpoint of 100 rows, keys 0 to 99, and a delta in which 10 are new and one is gone. Another group
// has no rows, but a filter.
class VerifyCheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    auto storage = OpenRocksDbStorage(directory_ / "store", RocksDbStorageOptions());
    ASSERT_OK(storage.status());
    auto store = Store::Open(directory_ / "store", {}, std::move(*storage), Clock::System());
    ASSERT_OK(store.status());
    const auto table = (*store)->AddGroup(TableConfig(kGroup, 2, "adagrad", "zeros"));
    ASSERT_OK(table.status());
    GroupConfig filtered = TableConfig(kFilteredGroup, 2, "sgd", "zeros");
    filtered.min_count = 2;
    filtered.filter_capacity = 1000;
    ASSERT_OK((*store)->AddGroup(filtered).status());
    Apply(**table, {KeyRange(0, 100), Floats(200, 1.0f)});
    ASSERT_OK((*store)->Checkpoint(full_));
    Apply(**table, {KeyRange(100, 10), Floats(20, 1.0f)});
    ASSERT_OK((*store)->EditGroup(kGroup, [](GroupEdit& edit) -> Status {
      const std::unique_ptr<StorageBatch> batch = edit.storage.NewBatch();
      DAMO_RETURN_IF_ERROR(batch->DeleteRow(kGroup, 7));
      --edit.state.num_rows;
      DAMO_RETURN_IF_ERROR(PutGroupState(kGroup, edit.state, *batch));
      return edit.storage.Write(*batch);
    }));
    ASSERT_OK((*store)->CheckpointDelta(delta_, full_));
  }

  std::vector<std::string> ProblemsOf(const std::string& checkpoint) {
    const StatusOr<Verification> found = VerifyCheckpoint(checkpoint, nullptr);
    EXPECT_TRUE(IsOk(found.status()));
    return found.ok() ? found->problems() : std::vector<std::string>();
  }

  // Changes the delta, and describes its files anew.
  void WriteIntoDelta(const std::function<Status(StorageBatch&)>& fill) {
    StatusOr<CheckpointDescription> description = ReadDescription(delta_);
    ASSERT_OK(description.status());
    {
      const auto storage = OpenRocksDbStorage(delta_ + "/changes", RocksDbStorageOptions());
      ASSERT_OK(storage.status());
      const std::unique_ptr<StorageBatch> batch = (*storage)->NewBatch();
      ASSERT_OK(fill(*batch));
      ASSERT_OK((*storage)->Write(*batch));
      ASSERT_OK((*storage)->Close());
    }
    StatusOr<std::vector<StorageFile>> files = DescribeFiles(delta_ + "/changes", "changes/");
    ASSERT_OK(files.status());
    description->files = std::move(*files);
    ASSERT_OK(WriteDescription(*description, delta_));
  }

  TestDirectory directory_;
  const std::string full_ = directory_ / "full";
  const std::string delta_ = directory_ / "delta";
};

TEST_F(VerifyCheckpointTest, SoundOnesHaveNoProblems) {
  for (const auto& [checkpoint, num_rows] : {std::pair(full_, 100), std::pair(delta_, 109)}) {
    const StatusOr<Verification> found = VerifyCheckpoint(checkpoint, nullptr);
    ASSERT_OK(found.status());
    EXPECT_TRUE(found->ok()) << found->problems().front();
    EXPECT_EQ(found->num_rows, num_rows);
    EXPECT_GE(found->num_files, 1);
  }
}

TEST_F(VerifyCheckpointTest, RowsOfTheChainMustBeRowsAndAsManyAsTheManifestSays) {
  std::string row(kRowHeaderBytes + 4 * sizeof(float), '\0');
  EncodeRowHeader({kGroup, 8, 0, 1}, row.data());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(row.data() + kRowHeaderBytes, &nan, sizeof(nan));
  WriteIntoDelta([&](StorageBatch& batch) -> Status {
    DAMO_RETURN_IF_ERROR(batch.PutRow(kGroup, 8, row));
    return batch.PutRow(kGroup, 9, "");
  });

  const std::vector<std::string> expected = {"group 3: row of key 8 has weights[0] = nan, expected finite",
                                             "group 3: has 108 rows, by the manifest 109"};
  EXPECT_EQ(ProblemsOf(delta_), expected);
  EXPECT_TRUE(ProblemsOf(full_).empty());
}

TEST_F(VerifyCheckpointTest, PageOfAFilterThatHasAnotherSizeIsAProblem) {
  WriteIntoDelta([](StorageBatch& batch) { return PutFilterPage(kFilteredGroup, 1, "short", batch); });
  EXPECT_EQ(
      ProblemsOf(delta_),
      std::vector<std::string>{"group 4: manifest entry 'filter/004/00000001' has 5 bytes, expected 4096"});
}

TEST_F(VerifyCheckpointTest, DescriptionMustBeTheManifests) {
  for (const std::string& checkpoint : {full_, delta_}) {
    StatusOr<CheckpointDescription> description = ReadDescription(checkpoint);
    ASSERT_OK(description.status());
    description->groups[0].num_rows += 5;
    ASSERT_OK(WriteDescription(*description, checkpoint));
    const std::vector<std::string> problems = ProblemsOf(checkpoint);
    ASSERT_EQ(problems.size(), 1U);
    EXPECT_EQ(problems[0].find("checkpoint: group 3: the description has rows "), 0U) << problems[0];
  }
}

TEST_F(VerifyCheckpointTest, FullOneThatIsOpenedAsAStoreIsHeldAgainstItsDescription) {
  StatusOr<CheckpointDescription> description = ReadDescription(full_);
  ASSERT_OK(description.status());
  description->groups[0].step = 12345;
  ASSERT_OK(WriteDescription(*description, full_));
  RocksDbStorageOptions storage_options;
  storage_options.read_only = true;
  auto storage = OpenRocksDbStorage(full_, storage_options);
  ASSERT_OK(storage.status());
  StoreOptions options;
  options.read_only = true;
  const auto store = Store::Open(full_, options, std::move(*storage), Clock::System());
  ASSERT_OK(store.status());

  const StatusOr<Verification> found = (*store)->Verify();

  ASSERT_OK(found.status());
  EXPECT_EQ(found->problems(),
            std::vector<std::string>{"checkpoint: group 3: the description has step 12345, the manifest 1"});
}

TEST_F(VerifyCheckpointTest, MissingLinkIsAProblemAndNoCheckpointIsAFailure) {
  fs::rename(full_, directory_ / "away");
  const std::vector<std::string> problems = ProblemsOf(delta_);
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_NE(problems[0].find("/full': it is none: there is no file '"), std::string::npos) << problems[0];
  EXPECT_TRUE(FailsWith(VerifyCheckpoint(directory_ / "store", nullptr).status(), StatusCode::kNotFound,
                        "there is no file"));
}

TEST_F(VerifyCheckpointTest, FailureOfProgressEndsTheWork) {
  const StatusOr<Verification> found =
      VerifyCheckpoint(delta_, [](int64_t, int64_t) { return FailedPrecondition("enough"); });
  EXPECT_TRUE(FailsWith(found.status(), StatusCode::kFailedPrecondition,
                        "verify checkpoint '" + delta_ + "': enough"));
}

}  // namespace
}  // namespace damo
