// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/merged_cursor.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_status.h"

namespace damo {
namespace {

using RowMap = std::map<uint64_t, std::string>;

// The rows of a map; a failure after `fails_after` of them, where set.
class MapCursor final : public RowCursor {
 public:
  explicit MapCursor(RowMap rows, std::optional<int> fails_after = std::nullopt)
      : rows_(std::move(rows)), fails_after_(fails_after) {}

  bool Next() override {
    if (fails_after_ && num_read_ == *fails_after_) return false;
    if (num_read_ > 0) ++row_;
    if (row_ == rows_.end()) return false;
    ++num_read_;
    return true;
  }
  uint64_t key() const override { return row_->first; }
  std::string_view row() const override { return row_->second; }
  Status status() const override {
    return fails_after_ && num_read_ == *fails_after_ ? IoError("injected") : Status();
  }

 private:
  const RowMap rows_;
  const std::optional<int> fails_after_;
  RowMap::const_iterator row_ = rows_.begin();
  int num_read_ = 0;
};

MergedCursor Merge(const std::vector<RowMap>& newest_first) {
  std::vector<std::unique_ptr<RowCursor>> cursors;
  for (const RowMap& rows : newest_first) cursors.push_back(std::make_unique<MapCursor>(rows));
  return MergedCursor(std::move(cursors));
}

RowMap ReadAll(RowCursor& cursor) {
  RowMap rows;
  while (cursor.Next()) {
    EXPECT_TRUE(rows.empty() || rows.rbegin()->first < cursor.key());
    rows[cursor.key()] = cursor.row();
  }
  EXPECT_TRUE(IsOk(cursor.status()));
  EXPECT_FALSE(cursor.Next()) << "behind the end is the end";
  return rows;
}

// What makes `before` `after`, as a delta has it.
RowMap DeltaBetween(const RowMap& before, const RowMap& after) {
  RowMap delta;
  MapCursor from(before);
  MapCursor to(after);
  EXPECT_TRUE(IsOk(DiffRows(from, to, [&](uint64_t key, std::optional<std::string_view> row) {
    delta[key] = row.value_or(kDeletedRow);
    return Status();
  })));
  return delta;
}

TEST(MergedCursorTest, NewestRowCountsAndDeletedOnesAreLeftOut) {
  MergedCursor rows = Merge({{{1, "new"}, {3, std::string(kDeletedRow)}},
                             {{0, std::string(kDeletedRow)}, {1, "old"}, {UINT64_MAX, "last"}},
                             {{0, "gone"}, {3, "gone"}, {4, "first"}}});
  EXPECT_EQ(ReadAll(rows), (RowMap{{1, "new"}, {4, "first"}, {UINT64_MAX, "last"}}));
}

TEST(MergedCursorTest, NothingIsNothing) {
  MergedCursor rows = Merge({{}, {}});
  EXPECT_TRUE(ReadAll(rows).empty());
}

TEST(MergedCursorTest, AFailureEndsItAndIsTold) {
  for (int fails_after = 0; fails_after < 3; ++fails_after) {
    std::vector<std::unique_ptr<RowCursor>> cursors;
    cursors.push_back(std::make_unique<MapCursor>(RowMap{{1, "a"}, {2, "b"}, {3, "c"}, {9, "d"}}));
    cursors.push_back(std::make_unique<MapCursor>(RowMap{{1, "a"}, {2, "b"}, {3, "c"}}, fails_after));
    MergedCursor rows(std::move(cursors));
    int num_rows = 0;
    while (rows.Next()) ++num_rows;
    EXPECT_LE(num_rows, fails_after);
    EXPECT_TRUE(FailsWith(rows.status(), StatusCode::kIoError, "injected"));
  }
}

TEST(DiffRowsTest, EqualRowsAreNoChange) {
  EXPECT_TRUE(DeltaBetween({{1, "a"}, {2, "b"}}, {{1, "a"}, {2, "b"}}).empty());
}

TEST(DiffRowsTest, AFailureOfEitherSideIsTold) {
  const RowMap rows = {{1, "a"}, {2, "b"}, {3, "c"}};
  for (int fails_after = 0; fails_after < 3; ++fails_after) {
    for (const bool first : {false, true}) {
      MapCursor before(rows, first ? std::optional(fails_after) : std::nullopt);
      MapCursor after(rows, first ? std::nullopt : std::optional(fails_after));
      const Status status = DiffRows(before, after, [&](uint64_t, std::optional<std::string_view> row) {
        EXPECT_TRUE(row.has_value()) << "a row that could not be read was taken for deleted";
        return Status();
      });
      EXPECT_TRUE(FailsWith(status, StatusCode::kIoError, "injected"));
    }
  }
}

TEST(DiffRowsTest, DeltasAddUpToTheLastVersionWhateverChanges) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<RowMap> newest_first(1);
    RowMap now;
    for (int version = 0; version < 4; ++version) {
      const RowMap before = now;
      for (int change = 0; change < 6; ++change) {
        const uint64_t key = random() % 10;
        if (random() % 3 == 0) {
          now.erase(key);
        } else {
          now[key] = std::to_string(random() % 3);
        }
      }
      newest_first.insert(newest_first.begin(), DeltaBetween(before, now));
      MergedCursor merged = Merge(newest_first);
      ASSERT_EQ(ReadAll(merged), now);
    }
  }
}

}  // namespace
}  // namespace damo
