// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/table/manifest.h"
#include "damo/table/store.h"

namespace damo {
namespace {

constexpr int kGroup = 3;
constexpr int64_t kDim = 2;
constexpr int64_t kNumRows = 200;

// A store of kNumRows rows, keys 0, 1, 2 ..., with one slot each.
class StoreVerifyTest : public testing::Test {
 protected:
  void SetUp() override {
    Open();
    GroupConfig config;
    config.group = kGroup;
    config.dim = kDim;
    config.optimizer = Parameters("adagrad");
    config.initializer = Parameters("zeros");
    const auto table = store_->AddGroup(config);
    ASSERT_OK(table.status());
    std::vector<uint64_t> keys(kNumRows);
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = i;
    const std::vector<float> gradients(kNumRows * kDim, 1.0f);
    ASSERT_OK((*table)->ApplyGradients(keys, gradients, {}, *Executor::Inline()).status());
    ASSERT_OK(store_->Flush());
  }

  StatusOr<std::unique_ptr<Storage>> OpenStorage(bool read_only) {
    RocksDbStorageOptions options;
    options.memory_budget = 8 << 20;
    options.read_only = read_only;
    return OpenRocksDbStorage(path_, options);
  }
  void Open(bool read_only = false) {
    store_.reset();
    StoreOptions options;
    options.read_only = read_only;
    auto storage = OpenStorage(read_only);
    ASSERT_OK(storage.status());
    auto store = Store::Open(path_, options, std::move(*storage), Clock::System());
    ASSERT_OK(store.status());
    store_ = std::move(*store);
  }

  // Writes rows behind the store's back.
  void Write(const std::function<Status(StorageBatch&)>& fill) {
    store_.reset();
    auto storage = OpenStorage(/*read_only=*/false);
    ASSERT_OK(storage.status());
    const std::unique_ptr<StorageBatch> batch = (*storage)->NewBatch();
    ASSERT_OK(fill(*batch));
    ASSERT_OK((*storage)->Write(*batch));
    ASSERT_OK((*storage)->Close());
    Open(/*read_only=*/true);
  }

  // A row of the layout of kGroup: weights, then the slot.
  static std::string Row(int group, uint64_t key, const std::vector<float>& floats) {
    std::string row(kRowHeaderBytes + sizeof(float) * floats.size(), '\0');
    EncodeRowHeader({static_cast<uint8_t>(group), key, 0, 1}, row.data());
    std::memcpy(row.data() + kRowHeaderBytes, floats.data(), sizeof(float) * floats.size());
    return row;
  }

  std::vector<std::string> Problems() {
    const StatusOr<Verification> found = store_->Verify();
    EXPECT_TRUE(found.ok()) << found.status().message();
    return found.ok() ? found->problems() : std::vector<std::string>();
  }

  TestDirectory directory_;
  const std::string path_ = directory_ / "store";
  std::unique_ptr<Store> store_;
};

TEST_F(StoreVerifyTest, SoundStoreHasNoProblems) {
  for (const bool read_only : {false, true}) {
    Open(read_only);
    const StatusOr<Verification> found = store_->Verify();
    ASSERT_OK(found.status());
    EXPECT_TRUE(found->ok()) << found->problems().front();
    EXPECT_EQ(found->num_rows, kNumRows);
    EXPECT_GE(found->num_files, 1);
  }
}

TEST_F(StoreVerifyTest, RowsThatAreOnlyInTheRedoLogAreVerifiedByAReader) {
  const auto table = store_->Table(kGroup);
  ASSERT_OK(table.status());
  const uint64_t key = 1000;
  const std::vector<float> gradient(kDim, 1.0f);
  ASSERT_OK(
      (*table)->ApplyGradients(Span<const uint64_t>(&key, 1), gradient, {}, *Executor::Inline()).status());
  StoreOptions options;
  options.read_only = true;
  auto storage = OpenStorage(/*read_only=*/true);
  ASSERT_OK(storage.status());
  const auto reader = Store::Open(path_, options, std::move(*storage), Clock::System());
  ASSERT_OK(reader.status());

  const StatusOr<Verification> found = (*reader)->Verify();

  ASSERT_OK(found.status());
  EXPECT_TRUE(found->ok()) << found->problems().front();
  EXPECT_EQ(found->num_rows, kNumRows + 1);
}

TEST_F(StoreVerifyTest, EveryBadRowIsNamedAndTheRestIsLookedAt) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  Write([&](StorageBatch& batch) -> Status {
    DAMO_RETURN_IF_ERROR(batch.PutRow(kGroup, 5, Row(kGroup, 5, {0, nan, 0, 0})));
    DAMO_RETURN_IF_ERROR(batch.PutRow(kGroup, 6, Row(kGroup, 6, {0, 0, 0, infinity})));
    return batch.PutRow(kGroup, 7, "short");
  });

  const std::vector<std::string> problems = Problems();

  ASSERT_EQ(problems.size(), 3U);
  EXPECT_EQ(problems[0], "group 3: row of key 5 has weights[1] = nan, expected finite");
  EXPECT_EQ(problems[1], "group 3: row of key 6 has slot 'sum'[1] = inf, expected finite");
  EXPECT_NE(problems[2].find("group 3: "), std::string::npos);
  EXPECT_NE(problems[2].find("5 bytes"), std::string::npos) << problems[2];
}

TEST_F(StoreVerifyTest, NumberOfRowsMustBeTheManifests) {
  Write([](StorageBatch& batch) { return batch.DeleteRow(kGroup, 0); });

  EXPECT_EQ(Problems(), std::vector<std::string>{"group 3: has 199 rows, by the manifest 200"});
}

TEST_F(StoreVerifyTest, RowsOfAGroupThatTheManifestLacksAreAProblem) {
  Write([](StorageBatch& batch) { return batch.PutRow(255, 1, Row(255, 1, {0, 0, 0, 0})); });

  EXPECT_EQ(Problems(),
            std::vector<std::string>{"group 255: has 1 rows, but the manifest has no such group"});
}

TEST_F(StoreVerifyTest, PageOfAFilterThatHasAnotherSizeIsAProblem) {
  GroupConfig config;
  config.group = 4;
  config.dim = kDim;
  config.optimizer = Parameters("sgd");
  config.initializer = Parameters("zeros");
  config.min_count = 2;
  config.filter_capacity = 1000;
  ASSERT_OK(store_->AddGroup(config).status());
  Write([](StorageBatch& batch) { return PutFilterPage(4, 1, "short", batch); });

  EXPECT_EQ(Problems(), std::vector<std::string>{
                            "group 4: manifest entry 'filter/004/00000001' has 5 bytes, expected 4096"});
}

TEST_F(StoreVerifyTest, FlippedByteIsFoundInItsFile) {
  store_.reset();
  std::string largest;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    if (entry.path().extension() != ".sst") continue;
    if (largest.empty() || entry.file_size() > std::filesystem::file_size(largest)) largest = entry.path();
  }
  std::fstream file(largest, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(100);
  const char byte = static_cast<char>(file.get());
  file.seekp(100);
  file.put(static_cast<char>(byte ^ 1));
  file.close();
  Open(/*read_only=*/true);

  const std::vector<std::string> problems = Problems();

  ASSERT_EQ(problems.size(), 2U);
  EXPECT_EQ(problems[0].find("file '" + largest + "': verify its checksums: Corruption: "), 0U)
      << problems[0];
  EXPECT_EQ(problems[1].find("group 3: its rows cannot all be read: "), 0U) << problems[1];
}

TEST_F(StoreVerifyTest, OnlySoManyProblemsAreToldOneByOne) {
  Write([](StorageBatch& batch) -> Status {
    for (uint64_t key = 0; key < 150; ++key) DAMO_RETURN_IF_ERROR(batch.PutRow(kGroup, key, "x"));
    return Status();
  });

  const StatusOr<Verification> found = store_->Verify();

  ASSERT_OK(found.status());
  EXPECT_EQ(found->problems().size(), Verification::kMaxProblems);
  EXPECT_EQ(found->num_more_problems(), 50);
}

TEST_F(StoreVerifyTest, FailureOfProgressEndsTheWork) {
  const StatusOr<Verification> found =
      store_->Verify([](int64_t, int64_t) { return FailedPrecondition("enough"); });

  EXPECT_EQ(found.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(found.status().message().find("verify store '" + path_ + "': enough"), std::string::npos);
}

}  // namespace
}  // namespace damo
