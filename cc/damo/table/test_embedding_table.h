// SPDX-License-Identifier: Apache-2.0
//
// EmbeddingTableTest: a table of either kind over storage in memory. tests/ checks the optimizers' numbers;
// here rows start at zero and learn by plain gradient descent at rate 1, so that a row is minus the sum of
// its gradients.
#ifndef DAMO_TABLE_TEST_EMBEDDING_TABLE_H_
#define DAMO_TABLE_TEST_EMBEDDING_TABLE_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "damo/base/test_status.h"
#include "damo/storage/memory_storage.h"
#include "damo/table/embedding_table.h"
#include "damo/table/test_tables.h"

namespace damo {

inline constexpr int64_t kTableDim = 2;
inline constexpr int kTableGroup = 5;

inline GroupConfig Config(const std::string& optimizer = "sgd", const std::string& initializer = "zeros") {
  GroupConfig config;
  config.group = kTableGroup;
  config.dim = kTableDim;
  config.optimizer = Parameters(optimizer);
  config.optimizer.Insert("gamma", 1.0);
  config.initializer = Parameters(initializer);
  return config;
}

inline GroupConfig FilteredConfig(int64_t min_count, const std::string& initializer = "ones") {
  GroupConfig config = Config("sgd", initializer);
  config.min_count = min_count;
  config.filter_capacity = 10'000;
  return config;
}

class EmbeddingTableTest : public testing::TestWithParam<TableKind> {
 protected:
  // A table as after opening: same rows and state as the one before, which is gone.
  EmbeddingTable* NewTable(const GroupConfig& config, std::optional<int64_t> ttl_seconds = std::nullopt) {
    TestTables::Options options;
    options.kind = GetParam();
    options.ttl_seconds = ttl_seconds;
    tables_.reset();
    tables_ = std::make_unique<TestTables>(rows_.get(), &clock_, options);
    return tables_->Add(config);
  }

  // The pages of the table's filter as the storage has them.
  std::vector<std::string> FilterPages() {
    EXPECT_TRUE(IsOk(tables_->Flush()));
    std::vector<std::string> pages;
    for (int64_t page = 0; page < 18; ++page) {  // of 10,000 keys
      const auto bytes = GetFilterPage(*rows_, kTableGroup, page);
      EXPECT_TRUE(IsOk(bytes.status()));
      pages.push_back(bytes->value_or(""));
    }
    return pages;
  }

  // Brings everything into the storage and the table as it stands there into `table`.
  void Reopen(EmbeddingTable** table, const GroupConfig& config) {
    ASSERT_OK(tables_->Flush());
    *table = NewTable(config);
  }

  Floats Lookup(const EmbeddingTable& table, const Keys& keys, const LookupOptions& options = {}) {
    Floats weights(keys.size() * kTableDim, std::nanf(""));
    const Status status = table.Lookup(keys, options, *Executor::Inline(), weights);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return weights;
  }

  ApplyResult Apply(EmbeddingTable& table, const Keys& keys, const Floats& gradients,
                    const ApplyOptions& options = {}) {
    const StatusOr<ApplyResult> result = table.ApplyGradients(keys, gradients, options, *Executor::Inline());
    EXPECT_TRUE(result.ok()) << result.status().ToString();
    return result.ok() ? *result : ApplyResult();
  }

  Row GetRow(const EmbeddingTable& table, uint64_t key) {
    const StatusOr<std::optional<Row>> row = table.GetRow(key);
    EXPECT_TRUE(row.ok()) << row.status().ToString();
    EXPECT_TRUE(row->has_value());
    return row->value_or(Row());
  }

  int64_t Size(const EmbeddingTable& table) {
    const StatusOr<int64_t> size = table.Size();
    EXPECT_TRUE(size.ok()) << size.status().ToString();
    return *size;
  }

  std::unique_ptr<Storage> rows_ = NewMemoryStorage();
  FakeClock clock_{1'000'000};
  std::unique_ptr<TestTables> tables_;
};

}  // namespace damo

#endif  // DAMO_TABLE_TEST_EMBEDDING_TABLE_H_
