// SPDX-License-Identifier: Apache-2.0
#include "damo/table/store_registry.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"

namespace damo {
namespace {

class StoreRegistryTest : public testing::Test {
 protected:
  std::shared_ptr<Store> Open(const std::string& path, const StoreOptions& options = {}) {
    StatusOr<std::shared_ptr<Store>> store = registry_.Open(path, options);
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    return store.ok() ? *store : nullptr;
  }

  TestDirectory directory_;
  const std::string path_ = directory_ / "store";
  StoreRegistry registry_;
};

TEST_F(StoreRegistryTest, OneDirectoryIsOneStoreHoweverItIsSpelled) {
  const std::shared_ptr<Store> store = Open(path_);
  std::filesystem::create_directory_symlink(path_, directory_ / "link");
  EXPECT_EQ(Open(path_ + "/"), store);
  EXPECT_EQ(Open(directory_ / "./x/../store"), store);
  EXPECT_EQ(Open(directory_ / "link"), store);
  EXPECT_EQ(Open(std::filesystem::relative(path_).string()), store);
  EXPECT_NE(Open(directory_ / "other"), store);
}

TEST_F(StoreRegistryTest, OptionsThatAreNotSetAreShared) {
  StoreOptions options;
  options.seed = 3;
  options.ttl_seconds = 60;
  options.durability = Durability::kSync;
  options.memory_budget = 8 << 20;
  const std::shared_ptr<Store> store = Open(path_, options);
  EXPECT_EQ(Open(path_), store);
  EXPECT_EQ(Open(path_, options), store);
}

TEST_F(StoreRegistryTest, OptionsThatDisagreeFailWithBothValues) {
  const std::shared_ptr<Store> store = Open(path_);
  const std::string open =
      "open store '" + store->directory() + "': it is already open in this process with ";
  const std::string cure = "; use the open store, or close it first";
  StoreOptions options;
  options.durability = Durability::kSync;
  EXPECT_EQ(registry_.Open(path_, options).status().message(),
            open + "durability=wal, asked for durability=sync" + cure);
  options = {};
  options.ttl_seconds = 60;
  EXPECT_EQ(registry_.Open(path_, options).status().message(),
            open + "ttl_seconds=none, asked for ttl_seconds=60" + cure);
  options = {};
  options.seed = 1;
  EXPECT_EQ(registry_.Open(path_, options).status().message(), open + "seed=0, asked for seed=1" + cure);
  options = {};
  options.read_only = true;
  EXPECT_FALSE(registry_.Open(path_, options).ok());
  options = {};
  options.memory_budget = 8 << 20;
  EXPECT_FALSE(registry_.Open(path_, options).ok());
}

TEST_F(StoreRegistryTest, InvalidOptionsAreRefusedBeforeAnythingIsTouched) {
  StoreOptions options;
  options.ttl_seconds = 0;
  EXPECT_EQ(registry_.Open(path_, options).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(registry_.Open("", {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(StoreRegistryTest, LastPointerClosesTheStoreEvenIfATableLivesOn) {
  std::shared_ptr<Store> store = Open(path_);
  GroupConfig config;
  config.dim = 1;
  config.optimizer = Parameters("sgd");
  config.initializer = Parameters("zeros");
  const StatusOr<std::shared_ptr<EmbeddingTable>> table = store->AddGroup(config);
  ASSERT_OK(table.status());
  store.reset();
  EXPECT_EQ((*table)->Size().status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(Open(path_), nullptr) << "RocksDB's lock is released";
}

TEST_F(StoreRegistryTest, StoreWhoseDirectoryIsGoneIsNotShared) {
  const std::shared_ptr<Store> store = Open(path_);
  std::filesystem::remove_all(path_);
  EXPECT_TRUE(FailsWith(registry_.Open(path_, {}).status(), StatusCode::kFailedPrecondition,
                        "its directory was removed or replaced while it was open"));
  std::filesystem::create_directory(path_);
  EXPECT_FALSE(registry_.Open(path_, {}).ok());
  store->Close().IgnoreError();  // its files are gone, and it may leave new ones
  std::filesystem::remove_all(path_);
  EXPECT_NE(Open(path_), nullptr);
}

TEST_F(StoreRegistryTest, NothingIsCreatedWhereItMustExist) {
  StoreOptions options;
  options.create_if_missing = false;
  EXPECT_TRUE(FailsWith(registry_.Open(path_, options).status(), StatusCode::kNotFound,
                        "there is no such directory"));
  EXPECT_FALSE(std::filesystem::exists(path_));
  ASSERT_OK(Open(path_)->Close());
  EXPECT_NE(Open(path_, options), nullptr);
}

TEST_F(StoreRegistryTest, ClosedStoreMakesWayForANewOne) {
  const std::shared_ptr<Store> first = Open(path_);
  ASSERT_OK(first->Close());
  const std::shared_ptr<Store> second = Open(path_);
  EXPECT_NE(first, second);
  EXPECT_FALSE(second->closed());
  EXPECT_EQ(Open(path_), second);
}

TEST_F(StoreRegistryTest, FindFindsOnlyOpenStores) {
  EXPECT_EQ(registry_.Find(path_).status().code(), StatusCode::kNotFound);
  const std::shared_ptr<Store> store = Open(path_);
  EXPECT_EQ(*registry_.Find(path_), store);
  ASSERT_OK(store->Close());
  EXPECT_EQ(registry_.Find(path_).status().code(), StatusCode::kNotFound);
}

TEST_F(StoreRegistryTest, CloseAllClosesEveryStore) {
  const std::shared_ptr<Store> a = Open(path_);
  const std::shared_ptr<Store> b = Open(directory_ / "b");
  ASSERT_OK(registry_.CloseAll());
  EXPECT_TRUE(a->closed());
  EXPECT_TRUE(b->closed());
}

TEST_F(StoreRegistryTest, ThreadsThatOpenAndLetGoNeverCollide) {
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) {
        const StatusOr<std::shared_ptr<Store>> store = registry_.Open(path_, {});
        if (!store.ok() || !(*store)->Size().ok()) ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
}

}  // namespace
}  // namespace damo
