// SPDX-License-Identifier: Apache-2.0
//
// What tests/command/test_maintenance.py cannot bring about; what conversion does to rows is tested there.
#include "damo/dump/convert_store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/storage/rocksdb_storage.h"

namespace damo {
namespace {

class ConvertStoreTest : public testing::Test {
 protected:
  StatusOr<std::unique_ptr<Store>> Open(bool read_only) {
    RocksDbStorageOptions storage_options;
    storage_options.memory_budget = 8 << 20;
    storage_options.read_only = read_only;
    DAMO_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenRocksDbStorage(path_, storage_options));
    StoreOptions options;
    options.read_only = read_only;
    return Store::Open(path_, options, std::move(storage), Clock::System());
  }
  void SetUp() override {
    auto store = Open(/*read_only=*/false);
    ASSERT_OK(store.status());
    store_ = std::move(*store);
    GroupConfig config;
    config.group = 0;
    config.dim = 2;
    config.optimizer = Parameters("sgd");
    config.initializer = Parameters("zeros");
    const auto table = store_->AddGroup(config);
    ASSERT_OK(table.status());
    std::vector<uint64_t> keys(70'000);
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = i;
    const std::vector<float> gradients(keys.size() * 2, 1.0f);
    ASSERT_OK((*table)->ApplyGradients(keys, gradients, {}, *Executor::Inline()).status());
    conversion_.dim = 3;
  }

  TestDirectory directory_;
  const std::string path_ = directory_ / "store";
  const std::string target_ = directory_ / "target";
  std::unique_ptr<Store> store_;
  GroupConversion conversion_;
};

TEST_F(ConvertStoreTest, ReaderOfRowsThatAreInARedoLogIsRefused) {
  const auto reader = Open(/*read_only=*/true);
  ASSERT_OK(reader.status());

  const StatusOr<int64_t> converted = ConvertStore(**reader, target_, conversion_);

  EXPECT_EQ(converted.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(converted.status().message().find("group 0 has 1 steps in a redo log"), std::string::npos)
      << converted.status().message();
  EXPECT_FALSE(std::filesystem::exists(target_));
}

TEST_F(ConvertStoreTest, TargetInsideTheStoreIsRefused) {
  const StatusOr<int64_t> converted = ConvertStore(*store_, path_ + "/wider", conversion_);

  EXPECT_TRUE(FailsWith(converted.status(), StatusCode::kInvalidArgument,
                        "/wider' must lie outside the store's own directory '" + path_ + "'"));
  EXPECT_FALSE(std::filesystem::exists(path_ + "/wider.unfinished"));
}

TEST_F(ConvertStoreTest, FailureOfProgressEndsTheWorkAndLeavesNothing) {
  const StatusOr<int64_t> converted =
      ConvertStore(*store_, target_, conversion_, [](int64_t num_rows) -> Status {
        EXPECT_EQ(num_rows, 65536);
        return FailedPrecondition("enough");
      });

  EXPECT_NE(converted.status().message().find("' to '" + target_ + "': enough"), std::string::npos)
      << converted.status().message();
  size_t num_entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_.path()))
    ++num_entries;
  EXPECT_EQ(num_entries, 1U);
}

}  // namespace
}  // namespace damo
