// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/row_sorter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"

namespace damo {
namespace {

struct TestRow {
  uint8_t group;
  uint64_t key;
  std::string bytes;
  bool operator==(const TestRow& other) const {
    return group == other.group && key == other.key && bytes == other.bytes;
  }
};

std::vector<TestRow> RandomRows(size_t n, uint64_t num_keys) {
  std::mt19937_64 random(7);
  std::vector<TestRow> rows;
  for (size_t i = 0; i < n; ++i) {
    rows.push_back({static_cast<uint8_t>(random() % 3 * 127), random() % num_keys * 0x2000000000000001,
                    std::to_string(i) + std::string(random() % 20, 'x')});
  }
  return rows;
}

std::vector<TestRow> Sort(RowSorter& sorter, const std::vector<TestRow>& rows) {
  for (const TestRow& row : rows) EXPECT_TRUE(IsOk(sorter.Add(row.group, row.key, row.bytes)));
  const StatusOr<std::unique_ptr<RowSource>> source = sorter.Finish();
  EXPECT_TRUE(IsOk(source.status()));
  std::vector<TestRow> sorted;
  while (source.ok()) {
    const StatusOr<std::optional<ImportedRow>> row = (*source)->Next();
    EXPECT_TRUE(IsOk(row.status()));
    if (!row.ok() || !*row) break;
    sorted.push_back({(*row)->group, (*row)->key, std::string((*row)->bytes)});
  }
  return sorted;
}

TEST(RowSorterTest, RowsComeInOrderFromMemoryAndFromDiskEqualOnesAsTheyCame) {
  const std::vector<TestRow> rows = RandomRows(5000, 2000);
  std::vector<TestRow> expected = rows;
  std::stable_sort(expected.begin(), expected.end(), [](const TestRow& a, const TestRow& b) {
    return std::tie(a.group, a.key) < std::tie(b.group, b.key);
  });
  for (const size_t buffer_bytes : {size_t{1} << 20, size_t{10'000}, size_t{1}}) {
    const TestDirectory directory;
    RowSorter sorter({directory / "made", buffer_bytes, 1 << 16});
    EXPECT_TRUE(Sort(sorter, rows) == expected) << buffer_bytes;
  }
}

TEST(RowSorterTest, NoRowsAreInOrder) {
  const TestDirectory directory;
  RowSorter sorter({directory / "made"});
  EXPECT_TRUE(Sort(sorter, {}).empty());
  EXPECT_FALSE(std::filesystem::exists(directory / "made"));
}

TEST(RowSorterTest, NoFileIsLeft) {
  const TestDirectory directory;
  RowSorter sorter({directory.path(), 100, 1 << 16});
  Sort(sorter, RandomRows(100, 50));
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST(RowSorterTest, DirectoryThatCannotBeMadeIsNamed) {
  const TestDirectory directory;
  RowSorter sorter({directory / "absent/absent", 1, 1 << 16});
  EXPECT_TRUE(FailsWith(sorter.Add(0, 0, "row"), StatusCode::kIoError,
                        "create directory '" + directory.path() + "/absent/absent': No such file"));
}

}  // namespace
}  // namespace damo
