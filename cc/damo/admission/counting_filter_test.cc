// SPDX-License-Identifier: Apache-2.0
#include "damo/admission/counting_filter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "damo/base/test_status.h"

namespace damo {
namespace {

FilterOptions Options(int64_t capacity, double fpr = 1e-3) {
  FilterOptions options;
  options.capacity = capacity;
  options.fpr = fpr;
  return options;
}

TEST(CountingFilterTest, SizesFollowTheFormulas) {
  // n = 2^20, p = 1e-3: m = 15,076,021.4 counters, 1,840.3 pages of 8,192; k = 9.97.
  const CountingFilter filter(Options(int64_t{1} << 20));
  EXPECT_EQ(filter.num_pages(), 1841);
  EXPECT_EQ(filter.num_probes(), 10);
  EXPECT_EQ(CountingFilter::FullBytes(filter.options()), 1841 * 4096);
  EXPECT_EQ(CountingFilter(Options(1, 0.5)).num_pages(), 1);
  EXPECT_EQ(CountingFilter(Options(1, 0.5)).num_probes(), 1);
  EXPECT_EQ(CountingFilter(Options(1000, 1e-9)).num_probes(), 30);
}

TEST(CountingFilterTest, MemoryIsTakenByThePagesThatAreAddedTo) {
  CountingFilter filter(Options(int64_t{1} << 28));
  EXPECT_EQ(filter.used_bytes(), 0);
  EXPECT_EQ(filter.Count(7), 0);
  filter.Add(7, 1);
  filter.Add(7, 1);
  EXPECT_EQ(filter.used_bytes(), 4096);
  EXPECT_EQ(filter.fill(), 10.0 / static_cast<double>(filter.num_counters()));
}

TEST(CountingFilterTest, CountsEndAtFifteen) {
  CountingFilter filter(Options(1000));
  filter.Add(1, 14);
  EXPECT_EQ(filter.Count(1), 14);
  filter.Add(1, 2);
  EXPECT_EQ(filter.Count(1), 15);
  filter.Add(2, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(filter.Count(2), 15);
  filter.Add(3, 0);
  EXPECT_EQ(filter.Count(3), 0);
}

TEST(CountingFilterTest, ExtremeKeysAreOrdinary) {
  CountingFilter filter(Options(1000));
  const uint64_t last = std::numeric_limits<uint64_t>::max();
  filter.Add(0, 3);
  filter.Add(last, 5);
  EXPECT_EQ(filter.Count(0), 3);
  EXPECT_EQ(filter.Count(last), 5);
  EXPECT_EQ(filter.Count(1), 0);
}

// Pages are on disk: the same key must come to the same counters in every release.
TEST(CountingFilterTest, CountersLieWhereTheDocumentSays) {
  CountingFilter filter(Options(2000));  // 4 pages
  ASSERT_EQ(filter.num_pages(), 4);
  filter.Add(0x0123456789abcdef, 5);
  const int64_t page = filter.PageOf(0x0123456789abcdef);
  EXPECT_EQ(page, 0);
  std::string places;
  const std::string_view bytes = filter.page(page);
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    if ((byte & 0x0f) != 0) places += StrCat(2 * i, "=", byte & 0x0f, " ");
    if (byte >> 4 != 0) places += StrCat(2 * i + 1, "=", byte >> 4, " ");
  }
  EXPECT_EQ(places, "2315=5 3001=5 4581=5 5638=5 6385=5 7127=5 7391=5 7501=5 7972=5 8036=5 ");
}

TEST(CountingFilterTest, StateIsAFunctionOfWhatWasAddedWhateverTheOrder) {
  CountingFilter forward(Options(3000));
  CountingFilter backward(Options(3000));
  for (uint64_t key = 0; key < 3000; ++key) forward.Add(key, 1 + key % 4);
  for (uint64_t key = 3000; key-- > 0;) {
    for (uint64_t i = 0; i < 1 + key % 4; ++i) backward.Add(key, 1);
  }
  ASSERT_EQ(forward.num_pages(), backward.num_pages());
  for (int64_t i = 0; i < forward.num_pages(); ++i) EXPECT_EQ(forward.page(i), backward.page(i)) << i;
  EXPECT_EQ(forward.fill(), backward.fill());
}

TEST(CountingFilterTest, FilterMadeFromPagesCountsTheSame) {
  CountingFilter filter(Options(500));
  for (uint64_t key = 0; key < 300; ++key) filter.Add(key, key % 7);
  CountingFilter copy(Options(500));
  copy.Add(123, 9);  // is replaced
  for (int64_t i = 0; i < filter.num_pages(); ++i) {
    if (!filter.page(i).empty()) copy.SetPage(i, filter.page(i));
  }
  for (uint64_t key = 0; key < 600; ++key) EXPECT_EQ(copy.Count(key), filter.Count(key));
  EXPECT_EQ(copy.fill(), filter.fill());
  EXPECT_EQ(copy.used_bytes(), filter.used_bytes());
}

TEST(CountingFilterTest, CountIsNeverTooSmall) {
  CountingFilter filter(Options(200));
  std::unordered_map<uint64_t, int64_t> truth;
  std::mt19937_64 random(3);
  for (int i = 0; i < 2000; ++i) {  // more keys than it is for: many share counters
    const uint64_t key = random() % 1000;
    const uint64_t occurrences = 1 + random() % 3;
    filter.Add(key, occurrences);
    truth[key] += static_cast<int64_t>(occurrences);
  }
  for (const auto& [key, count] : truth) {
    EXPECT_GE(filter.Count(key), std::min(count, kMaxFilterCount)) << key;
  }
}

// Contract of `fpr`: with `capacity` keys in it, that share of other keys counts as added. Keys in ascending
// order, as ids often are. The bound: theory, plus a tenth for pages that hold more keys than others, plus
// four standard deviations of the measurement.
TEST(CountingFilterTest, FalsePositivesAreAsRareAsTheTheorySays) {
  constexpr int64_t kCapacity = 200'000;
  constexpr int64_t kAsked = 2'000'000;
  for (const double fpr : {0.1, 1e-2, 1e-3, 1e-4}) {
    CountingFilter filter(Options(kCapacity, fpr));
    for (int64_t key = 0; key < kCapacity; ++key) filter.Add(key, 1);
    int64_t positives = 0;
    for (int64_t key = kCapacity; key < kCapacity + kAsked; ++key) positives += filter.Count(key) > 0 ? 1 : 0;
    const double measured = static_cast<double>(positives) / kAsked;
    const double exponent =
        -static_cast<double>(filter.num_probes() * kCapacity) / static_cast<double>(filter.num_counters());
    const double theory = std::pow(1 - std::exp(exponent), filter.num_probes());
    const double deviation = std::sqrt(theory / kAsked);
    std::printf("fpr %g: theory (1 - e^(-kn/m))^k = %.3e, measured %.3e, fill %.4f\n", fpr, theory, measured,
                filter.fill());
    EXPECT_LE(measured, 1.1 * theory + 4 * deviation) << fpr;
    EXPECT_GE(measured, 0.9 * theory - 4 * deviation) << fpr;
    EXPECT_LE(theory, 1.02 * fpr) << "k is rounded";
  }
}

TEST(FilterOptionsTest, ValuesOutOfRangeAreRefused) {
  ASSERT_OK(FilterOptions().Validate());
  EXPECT_TRUE(FailsWith(Options(0).Validate(), StatusCode::kInvalidArgument,
                        "`filter_capacity` must be in [1, 4294967296]. Received: filter_capacity=0"));
  EXPECT_FALSE(Options((int64_t{1} << 32) + 1).Validate().ok());
  EXPECT_TRUE(FailsWith(Options(1, 0.6).Validate(), StatusCode::kInvalidArgument,
                        "`filter_fpr` must be in [1e-09, 0.5]. Received: filter_fpr=0.6"));
  EXPECT_FALSE(Options(1, 0).Validate().ok());
  EXPECT_FALSE(Options(1, std::nan("")).Validate().ok());
}

}  // namespace
}  // namespace damo
