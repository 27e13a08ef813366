// SPDX-License-Identifier: Apache-2.0
#include "damo/checkpoint/description.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/storage/directory.h"

namespace damo {
namespace {

// The example of docs/checkpoint_format.md. Never changes.
constexpr char kGolden[] = R"({
 "base": {
  "changed_rows": 2,
  "deleted_rows": 1,
  "id": "0123456789abcdef0123456789abcdef",
  "path": "../ckpt-1"
 },
 "created": 1767225600000,
 "files": [
  {
   "bytes": 1130,
   "crc32c": 3808858755,
   "name": "changes/000009.sst"
  },
  {
   "bytes": 16,
   "name": "changes/CURRENT"
  }
 ],
 "format": 1,
 "groups": [
  {
   "config": {
    "dim": 8,
    "initializer": {
     "name": "zeros"
    },
    "optimizer": {
     "name": "sgd"
    }
   },
   "group": 3,
   "rows": 4,
   "step": 5
  }
 ],
 "id": "fedcba9876543210fedcba9876543210",
 "kind": "delta",
 "seed": 18446744073709551615
}
)";

CheckpointDescription Golden() {
  CheckpointDescription description;
  description.id = "fedcba9876543210fedcba9876543210";
  description.created_millis = 1767225600000;
  description.seed = UINT64_MAX;
  CheckpointDescription::Group group;
  group.config.group = 3;
  group.config.dim = 8;
  group.config.optimizer = Parameters("sgd");
  group.config.initializer = Parameters("zeros");
  group.step = 5;
  group.num_rows = 4;
  description.groups.push_back(group);
  description.files = {{"changes/000009.sst", 1130, 0xE3069283}, {"changes/CURRENT", 16, std::nullopt}};
  description.base = CheckpointDescription::Base{"0123456789abcdef0123456789abcdef", "../ckpt-1", 2, 1};
  return description;
}

std::string Replaced(const std::string& from, const std::string& to) {
  std::string text = kGolden;
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(CheckpointDescriptionTest, IsWrittenAsDocumented) { EXPECT_EQ(Golden().ToJson(), kGolden); }

TEST(CheckpointDescriptionTest, IsReadAsWritten) {
  const StatusOr<CheckpointDescription> read = CheckpointDescription::FromJson(kGolden);
  ASSERT_OK(read.status());
  EXPECT_EQ(read->ToJson(), kGolden);
}

TEST(CheckpointDescriptionTest, AnotherFormatIsRefusedWithBoth) {
  EXPECT_TRUE(FailsWith(CheckpointDescription::FromJson(Replaced("\"format\": 1", "\"format\": 2")).status(),
                        StatusCode::kInvalidArgument, "has format 2, this release reads format 1"));
}

TEST(CheckpointDescriptionTest, WhatIsNoDescriptionIsDataLoss) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"", "is not a JSON object"},
      {"[]", "is not a JSON object"},
      {std::string(kGolden).substr(0, sizeof(kGolden) / 2), "is not a JSON object"},
      {"{}", "member 'format' must be there"},
      {Replaced("\"seed\": 18446744073709551615", "\"seed\": -1"), "member 'seed' must be an integer >= 0"},
      {Replaced("\"kind\": \"delta\"", "\"kind\": \"half\""), "is of kind 'half'"},
      {Replaced("\"files\": [", "\"other\": ["), "member 'files' must be there"},
      {Replaced("\"crc32c\": 3808858755", "\"crc32c\": 4294967296"), "member 'crc32c' must be below 2^32"},
      {Replaced("changes/CURRENT", "../CURRENT"), "is no name of a file in it"},
      {Replaced("changes/CURRENT", "/etc/passwd"), "is no name of a file in it"},
      {Replaced("\"base\": {", "\"other\": {"), "member 'base' must be there"},
      {Replaced("\"path\": \"../ckpt-1\"", "\"path\": 7"), "member 'path' must be a string"},
      {Replaced("\"step\": 5", "\"step\": 9223372036854775808"), "member 'step' must be below 2^63"},
  };
  for (const auto& [text, message] : bad) {
    EXPECT_TRUE(FailsWith(CheckpointDescription::FromJson(text).status(), StatusCode::kDataLoss, message));
  }
}

TEST(CheckpointDescriptionTest, IdsDiffer) {
  EXPECT_EQ(NewCheckpointId().size(), 32);
  EXPECT_NE(NewCheckpointId(), NewCheckpointId());
}

class CheckpointFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    Write("a", "123456789");
    StatusOr<std::vector<StorageFile>> files = DescribeFiles(directory_.path(), "");
    ASSERT_OK(files.status());
    description_.files = *files;
  }
  void Write(const std::string& name, const std::string& bytes) {
    std::ofstream(directory_ / name, std::ios::binary) << bytes;
  }
  Status Check() { return CheckFiles(description_, directory_.path()); }

  TestDirectory directory_;
  CheckpointDescription description_;
};

TEST_F(CheckpointFilesTest, AreDescribedWithSizeAndChecksum) {
  ASSERT_EQ(description_.files.size(), 1);
  EXPECT_EQ(description_.files[0].name, "a");
  EXPECT_EQ(description_.files[0].bytes, 9);
  EXPECT_EQ(description_.files[0].crc32c, 0xE3069283);
  EXPECT_TRUE(IsOk(Check()));
}

TEST_F(CheckpointFilesTest, MissingTruncatedAndChangedOnesAreToldApart) {
  Write("a", "12345678");
  EXPECT_TRUE(FailsWith(Check(), StatusCode::kDataLoss, "has 8 bytes, expected 9"));
  Write("a", "123456780");
  EXPECT_TRUE(FailsWith(Check(), StatusCode::kDataLoss, "expected 3808858755"));
  description_.files[0].name = "b";
  EXPECT_TRUE(FailsWith(Check(), StatusCode::kDataLoss, "/b': No such file"));
}

TEST_F(CheckpointFilesTest, WhatIsOfNoUseToADatabaseIsLeftOut) {
  Write("LOCK", "");
  Write("LOG", "text");
  Write("LOG.old.1", "text");
  EXPECT_EQ(DescribeFiles(directory_.path(), "")->size(), 1);
}

}  // namespace
}  // namespace damo
