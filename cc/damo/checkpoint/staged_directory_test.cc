// SPDX-License-Identifier: Apache-2.0
#include "damo/checkpoint/staged_directory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "damo/base/test_directory.h"
#include "damo/base/test_process.h"
#include "damo/base/test_status.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

class StagedDirectoryTest : public testing::Test {
 protected:
  std::unique_ptr<StagedDirectory> MustBegin() {
    StatusOr<std::unique_ptr<StagedDirectory>> staged = StagedDirectory::Begin(target_);
    EXPECT_TRUE(IsOk(staged.status()));
    return staged.ok() ? std::move(*staged) : nullptr;
  }

  TestDirectory directory_;
  const std::string target_ = directory_ / "new/parents/target";
};

TEST_F(StagedDirectoryTest, AppearsWhenItIsPublished) {
  {
    const auto staged = MustBegin();
    std::ofstream(staged->path() + "/file") << "content";
    EXPECT_FALSE(fs::exists(target_));
    ASSERT_OK(staged->Publish());
  }
  EXPECT_TRUE(fs::exists(target_ + "/file"));
  EXPECT_FALSE(fs::exists(target_ + kUnfinishedSuffix));
}

TEST_F(StagedDirectoryTest, LeavesNothingBehindWhenItIsNot) {
  MustBegin();
  EXPECT_TRUE(fs::is_empty(fs::path(target_).parent_path()));
}

TEST_F(StagedDirectoryTest, NothingThatStandsIsReplaced) {
  fs::create_directories(target_);
  EXPECT_TRUE(FailsWith(StagedDirectory::Begin(target_).status(), StatusCode::kInvalidArgument,
                        "there is something already"));
  fs::remove(target_);
  std::ofstream(target_) << "a file";
  EXPECT_TRUE(FailsWith(StagedDirectory::Begin(target_ + "/").status(), StatusCode::kInvalidArgument,
                        "there is something already"));
  fs::remove(target_);
  const auto staged = MustBegin();
  fs::create_directories(target_);
  EXPECT_TRUE(FailsWith(staged->Publish(), StatusCode::kInvalidArgument, "there is something already"));
  EXPECT_TRUE(fs::is_empty(target_));
}

TEST_F(StagedDirectoryTest, OneAtATimeWritesIt) {
  const auto staged = MustBegin();
  std::ofstream(staged->path() + "/file") << "content";
  EXPECT_TRUE(FailsWith(StagedDirectory::Begin(target_).status(), StatusCode::kFailedPrecondition,
                        "it is being written at this moment"));
  EXPECT_TRUE(fs::exists(staged->path() + "/file"));
}

std::string DieAtIt(const std::string& target) {
  StatusOr<std::unique_ptr<StagedDirectory>> staged = StagedDirectory::Begin(target);
  if (!staged.ok()) return staged.status().ToString();
  fs::create_directories((*staged)->path() + "/folder");
  std::ofstream((*staged)->path() + "/folder/file") << "content";
  (void)staged->release();  // as by kill -9
  return "died";
}

TEST_F(StagedDirectoryTest, WhatADeadProcessLeftIsRemoved) {
  ASSERT_EQ(RunInFreshProcess(DieAtIt, target_), "died");
  ASSERT_TRUE(fs::exists(target_ + kUnfinishedSuffix + "/folder/file"));
  const auto staged = MustBegin();
  EXPECT_TRUE(fs::is_empty(staged->path()));
  ASSERT_OK(staged->Publish());
}

TEST_F(StagedDirectoryTest, AnEmptyPathIsRefused) {
  EXPECT_TRUE(FailsWith(StagedDirectory::Begin("").status(), StatusCode::kInvalidArgument,
                        "`directory` must be a path. Received: directory=''"));
}

}  // namespace
}  // namespace damo
