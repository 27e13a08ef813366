// SPDX-License-Identifier: Apache-2.0
#include "damo/table/unique_keys.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <vector>

namespace damo {
namespace {

std::map<uint64_t, std::vector<int64_t>> AsMap(const UniqueKeys& unique) {
  std::map<uint64_t, std::vector<int64_t>> map;
  for (int64_t i = 0; i < unique.size(); ++i) {
    const Span<const int64_t> occurrences = unique.Occurrences(i);
    map[unique.keys()[i]].assign(occurrences.begin(), occurrences.end());
  }
  return map;
}

TEST(UniqueKeysTest, NoKeys) { EXPECT_EQ(UniqueKeys({}, std::nullopt).size(), 0); }

TEST(UniqueKeysTest, OccurrencesAreInOrder) {
  const std::vector<uint64_t> keys = {9, 3, 9, 0, 3, 9};
  const std::map<uint64_t, std::vector<int64_t>> expected = {{0, {3}}, {3, {1, 4}}, {9, {0, 2, 5}}};
  EXPECT_EQ(AsMap(UniqueKeys(keys, std::nullopt)), expected);
}

TEST(UniqueKeysTest, PaddingKeyIsLeftOutAndOthersKeepTheirPlaces) {
  const std::vector<uint64_t> keys = {0, 5, 0, 7};
  const std::map<uint64_t, std::vector<int64_t>> expected = {{5, {1}}, {7, {3}}};
  EXPECT_EQ(AsMap(UniqueKeys(keys, 0)), expected);
  EXPECT_EQ(UniqueKeys(std::vector<uint64_t>{4, 4}, 4).size(), 0);
}

TEST(UniqueKeysTest, RandomKeysAgreeWithAMap) {
  std::mt19937_64 random(20261121);
  for (int round = 0; round < 50; ++round) {
    std::vector<uint64_t> keys(random() % 300);
    std::map<uint64_t, std::vector<int64_t>> expected;
    for (size_t i = 0; i < keys.size(); ++i) {
      keys[i] = std::numeric_limits<uint64_t>::max() - random() % 100;
      expected[keys[i]].push_back(static_cast<int64_t>(i));
    }
    const UniqueKeys unique(keys, std::nullopt);
    EXPECT_EQ(AsMap(unique), expected);
    for (int64_t i = 1; i < unique.size(); ++i) EXPECT_LT(unique.keys()[i - 1], unique.keys()[i]);
  }
}

}  // namespace
}  // namespace damo
