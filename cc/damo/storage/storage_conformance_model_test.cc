// SPDX-License-Identifier: Apache-2.0
//
// What every Storage does under random operations, beside a plain model.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_status.h"
#include "damo/storage/test_storage.h"

namespace damo {
namespace {

// DAMO_TEST_SEED repeats a run whose seed was printed.
uint32_t TestSeed() {
  const char* const text = std::getenv("DAMO_TEST_SEED");
  return text != nullptr ? static_cast<uint32_t>(std::strtoul(text, nullptr, 10)) : std::random_device()();
}

struct Model {
  std::map<std::pair<uint8_t, uint64_t>, std::string> rows;
  std::map<std::string, std::string> manifest;
};

class StorageModelTest : public StorageTest {
 protected:
  static constexpr uint8_t kGroups[] = {0, 1, 255};

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  uint8_t RandomGroup() { return kGroups[Below(3)]; }
  // Of few keys, so that they meet again, at both ends of the range.
  uint64_t RandomKey() { return Below(2) == 0 ? Below(100) : UINT64_MAX - Below(100); }
  std::string RandomRow() {
    const uint64_t size = Below(300);
    return std::string(size, static_cast<char>(Below(256)));
  }

  void WriteRandomBatch() {
    Write([this](StorageBatch& batch) {
      for (uint64_t i = Below(30); i > 0; --i) {
        const std::pair<uint8_t, uint64_t> at{RandomGroup(), RandomKey()};
        if (Below(4) == 0) {
          ASSERT_OK(batch.DeleteRow(at.first, at.second));
          model_.rows.erase(at);
        } else {
          model_.rows[at] = RandomRow();
          ASSERT_OK(batch.PutRow(at.first, at.second, model_.rows[at]));
        }
      }
      if (Below(3) == 0) {
        const std::string name = "name " + std::to_string(Below(5));
        model_.manifest[name] = RandomRow();
        ASSERT_OK(batch.PutManifest(name, model_.manifest[name]));
      }
    });
  }

  void CommitRandomSortedBatch() {
    std::map<std::pair<uint8_t, uint64_t>, std::optional<std::string>> rows;
    for (uint64_t i = Below(60); i > 0; --i) {
      const std::pair<uint8_t, uint64_t> at{RandomGroup(), RandomKey()};
      rows[at] = Below(4) == 0 ? std::nullopt : std::optional(RandomRow());
    }
    const std::unique_ptr<SortedBatch> batch = NewSortedBatch();
    for (const auto& [at, row] : rows) {
      ASSERT_OK(row ? batch->PutRow(at.first, at.second, *row) : batch->DeleteRow(at.first, at.second));
    }
    const std::string name = "name " + std::to_string(Below(5));
    const std::string value = RandomRow();
    ASSERT_OK(batch->PutManifest(name, value));
    if (Below(5) == 0) return;  // given up
    ASSERT_OK(batch->Commit());
    model_.manifest[name] = value;
    for (const auto& [at, row] : rows) {
      if (row) {
        model_.rows[at] = *row;
      } else {
        model_.rows.erase(at);
      }
    }
  }

  void CompareRandomRead() {
    const uint8_t group = RandomGroup();
    std::map<uint64_t, std::optional<std::string>> expected;
    for (uint64_t i = Below(200); i > 0; --i) {
      const uint64_t key = RandomKey();
      const auto found = model_.rows.find({group, key});
      expected[key] = found == model_.rows.end() ? std::nullopt : std::optional(found->second);
    }
    std::vector<uint64_t> keys;
    Rows rows;
    for (const auto& [key, row] : expected) {
      keys.push_back(key);
      rows.push_back(row);
    }
    ASSERT_EQ(Get(group, keys), rows);
  }

  void CompareEverything() {
    for (const uint8_t group : kGroups) {
      KeyedRows expected;
      for (const auto& [at, row] : model_.rows) {
        if (at.first == group) expected.emplace_back(at.second, row);
      }
      ASSERT_EQ(ScanAll(group), expected);
    }
    for (const auto& [name, value] : model_.manifest) ASSERT_EQ(Manifest(name), value);
  }

  const uint32_t seed_ = TestSeed();
  std::mt19937_64 random_{seed_};
  Model model_;
};

TEST_P(StorageModelTest, RandomOperationsMatchAMap) {
  SCOPED_TRACE("DAMO_TEST_SEED=" + std::to_string(seed_));
  for (int step = 0; step < 1500; ++step) {
    switch (Below(20)) {
      case 0:
        ASSERT_OK(storage_->Flush());
        break;
      case 1:
        if (Below(10) != 0) break;
        ASSERT_NO_FATAL_FAILURE(Reopen());
        break;
      case 2:
        ASSERT_NO_FATAL_FAILURE(CompareEverything());
        break;
      case 3:
        ASSERT_NO_FATAL_FAILURE(CommitRandomSortedBatch());
        break;
      case 4:
      case 5:
      case 6:
      case 7:
      case 8:
        ASSERT_NO_FATAL_FAILURE(CompareRandomRead());
        break;
      default:
        ASSERT_NO_FATAL_FAILURE(WriteRandomBatch());
    }
  }
  ASSERT_NO_FATAL_FAILURE(Reopen());
  ASSERT_NO_FATAL_FAILURE(CompareEverything());
}

INSTANTIATE_TEST_SUITE_P(All, StorageModelTest, testing::ValuesIn(StorageTest::Implementations()),
                         StorageTest::NameOf);

}  // namespace
}  // namespace damo
