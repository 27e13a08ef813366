// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/temporary_directory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

class TemporaryDirectoryTest : public testing::Test {
 protected:
  TemporaryDirectoryTest() {
    if (const char* const value = getenv("TMPDIR")) before_ = value;
    SetPlace(place_.path());
  }
  ~TemporaryDirectoryTest() override {
    if (before_) {
      SetPlace(*before_);
    } else {
      unsetenv("TMPDIR");
    }
  }
  static void SetPlace(const std::string& path) { setenv("TMPDIR", path.c_str(), /*replace=*/1); }
  static void WriteFile(const std::string& path) { std::ofstream(path) << "rows"; }

  TestDirectory place_;
  std::optional<std::string> before_;
};

TEST_F(TemporaryDirectoryTest, IsThereForThisUserOnlyUntilItIsNoLongerNeeded) {
  StatusOr<std::unique_ptr<TemporaryDirectory>> made = TemporaryDirectory::Make();
  ASSERT_OK(made.status());
  const std::string path = (*made)->path();
  EXPECT_EQ(fs::path(path).parent_path(), place_.path());
  struct stat status;
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
  WriteFile(path + "/file");
  made->reset();
  EXPECT_TRUE(fs::is_empty(place_.path()));
}

TEST_F(TemporaryDirectoryTest, WhatAProcessThatWasKilledHasLeftIsRemovedAndNothingElse) {
  const std::string left = place_ / "damo-reader-killed";
  fs::create_directory(left);
  WriteFile(left + "/file");
  WriteFile(place_ / "of-others");
  const auto in_use = TemporaryDirectory::Make();
  ASSERT_OK(in_use.status());
  WriteFile((*in_use)->path() + "/file");

  const auto made = TemporaryDirectory::Make();

  ASSERT_OK(made.status());
  EXPECT_FALSE(fs::exists(left));
  EXPECT_TRUE(fs::exists((*in_use)->path() + "/file"));
  EXPECT_TRUE(fs::exists(place_ / "of-others"));
}

TEST_F(TemporaryDirectoryTest, APlaceThatCannotBeUsedIsNamed) {
  SetPlace(place_ / "absent");
  EXPECT_TRUE(FailsWith(TemporaryDirectory::Make().status(), StatusCode::kFailedPrecondition,
                        "make a temporary directory ('" + (place_ / "absent") +
                            "': No such file or directory); name one on a disk by the environment variable "
                            "TMPDIR"));
}

}  // namespace
}  // namespace damo
