// SPDX-License-Identifier: Apache-2.0
//
// StorageTest: a storage of each implementation and durability in turn, for what every Storage does. Its
// tests are in storage_conformance*_test.cc, the first of which instantiates them all.
#ifndef DAMO_STORAGE_TEST_STORAGE_H_
#define DAMO_STORAGE_TEST_STORAGE_H_

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/storage/memory_storage.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/storage/storage.h"

namespace damo {

using Rows = std::vector<std::optional<std::string>>;
using KeyedRows = std::vector<std::pair<uint64_t, std::string>>;

struct StorageImplementation {
  std::string name;
  std::optional<Durability> durability;  // nullopt: in memory
};

inline void PrintTo(const StorageImplementation& implementation, std::ostream* out) {
  *out << implementation.name;
}

class StorageTest : public testing::TestWithParam<StorageImplementation> {
 public:
  static std::vector<StorageImplementation> Implementations() {
    return {{"Memory", std::nullopt},
            {"RocksDbWal", Durability::kWal},
            {"RocksDbSync", Durability::kSync},
            {"RocksDbCheckpoint", Durability::kCheckpoint}};
  }

  static std::string NameOf(const testing::TestParamInfo<StorageImplementation>& info) {
    return info.param.name;
  }

 protected:
  void SetUp() override { Open(); }

  bool Persistent() const { return GetParam().durability.has_value(); }

  // Closes and opens again where rows outlive the storage.
  void Reopen() {
    if (!Persistent()) return;
    ASSERT_OK(storage_->Close());
    Open();
  }

  void Write(const std::function<void(StorageBatch&)>& fill) {
    const std::unique_ptr<StorageBatch> batch = storage_->NewBatch();
    fill(*batch);
    ASSERT_OK(storage_->Write(*batch));
  }

  void Put(uint8_t group, uint64_t key, std::string_view row) {
    Write([&](StorageBatch& batch) { ASSERT_OK(batch.PutRow(group, key, row)); });
  }

  std::unique_ptr<SortedBatch> NewSortedBatch() {
    StatusOr<std::unique_ptr<SortedBatch>> batch = storage_->NewSortedBatch();
    EXPECT_TRUE(IsOk(batch.status()));
    return std::move(*batch);
  }

  Rows Get(uint8_t group, const std::vector<uint64_t>& keys) const {
    Rows rows;
    const Status status =
        storage_->MultiGet(group, keys, [&](size_t index, std::optional<std::string_view> row) {
          EXPECT_EQ(index, rows.size());
          rows.push_back(row ? std::optional<std::string>(*row) : std::nullopt);
          return Status();
        });
    EXPECT_TRUE(IsOk(status));
    return rows;
  }

  KeyedRows ScanAll(uint8_t group) const {
    KeyedRows rows;
    const Status status = storage_->Scan(group, [&](uint64_t key, std::string_view row) {
      rows.emplace_back(key, row);
      return Status();
    });
    EXPECT_TRUE(IsOk(status));
    return rows;
  }

  // Calls `write` with version 0 and, in a thread, with 1 to `last`, each of which it gives to all `keys` of
  // group 0: reads meanwhile find one version in all of them.
  void ExpectVersionsAreReadWhole(const std::vector<uint64_t>& keys, int last,
                                  const std::function<void(int version)>& write) const {
    write(0);
    std::atomic<bool> finished{false};
    std::thread writer([&] {
      for (int version = 1; version <= last; ++version) write(version);
      finished = true;
    });
    while (!finished) {
      const Rows rows = Get(0, keys);
      EXPECT_EQ(rows, Rows(keys.size(), rows[0]));
      const KeyedRows scanned = ScanAll(0);
      for (const auto& [key, row] : scanned) EXPECT_EQ(row, scanned[0].second) << "key " << key;
    }
    writer.join();
    EXPECT_EQ(Get(0, {keys.back()}), (Rows{std::to_string(last)}));
  }

  std::optional<std::string> Manifest(std::string_view name) const {
    const StatusOr<std::optional<std::string>> value = storage_->GetManifest(name);
    EXPECT_TRUE(IsOk(value.status()));
    return value.ok() ? *value : std::nullopt;
  }

  TestDirectory directory_;
  std::unique_ptr<Storage> storage_;

 private:
  void Open() {
    if (!Persistent()) {
      storage_ = NewMemoryStorage();
      return;
    }
    RocksDbStorageOptions options;
    options.memory_budget = StoreOptions::kMinMemoryBudget;  // so that large tests flush and compact
    options.durability = *GetParam().durability;
    StatusOr<std::unique_ptr<Storage>> storage = OpenRocksDbStorage(directory_ / "store", options);
    ASSERT_OK(storage.status());
    storage_ = std::move(*storage);
  }
};

}  // namespace damo

#endif  // DAMO_STORAGE_TEST_STORAGE_H_
