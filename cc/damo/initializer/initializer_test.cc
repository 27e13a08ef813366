// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "damo/initializer/initializer_factory.h"

namespace damo {
namespace {

using Values = std::vector<float>;

struct Row {
  uint64_t seed;
  uint8_t group;
  uint64_t key;
};

Values Fill(const Parameters& parameters, const Row& row, size_t dim) {
  const auto initializer = MakeInitializer(parameters);
  EXPECT_TRUE(initializer.ok()) << initializer.status().ToString();
  Values weights(dim, std::numeric_limits<float>::quiet_NaN());
  (*initializer)->Fill(RowRandom(row.seed, row.group, row.key), weights);
  return weights;
}

Parameters With(std::string_view name, std::initializer_list<std::pair<const char*, double>> entries) {
  Parameters parameters(name);
  for (const auto& [key, value] : entries) parameters.Insert(key, value);
  return parameters;
}

std::string MessageFor(const Parameters& parameters) {
  const auto initializer = MakeInitializer(parameters);
  EXPECT_EQ(initializer.status().code(), StatusCode::kInvalidArgument);
  return initializer.status().message();
}

constexpr Row kFirst{0, 0, 0};
constexpr Row kLastKey{0, 0, std::numeric_limits<uint64_t>::max()};
constexpr Row kOrdinary{42, 7, 123456789};
constexpr Row kLastSeedAndGroup{std::numeric_limits<uint64_t>::max(), 255, 1};

// Never change: rows that were never updated read as these. Computed by tests/oracles.py, and listed in
// docs/initial_values.md.
TEST(InitializerTest, RandomUniformMatchesGoldenBits) {
  const Parameters uniform("random_uniform");
  EXPECT_EQ(Fill(uniform, kFirst, 6), (Values{-0x1.9d8172p-3f, 0x1.85a716p-1f, 0x1.e2bd62p-2f, 0x1.b00dbep-3f,
                                              -0x1.48c63p-1f, -0x1.b2dc78p-1f}));
  EXPECT_EQ(Fill(uniform, kLastKey, 6), (Values{0x1.cf39d2p-1f, 0x1.7ee66p-1f, -0x1.2c1aaap-2f,
                                                -0x1.68baf6p-1f, 0x1.ea99dcp-1f, -0x1.ed8604p-1f}));
  EXPECT_EQ(Fill(uniform, kOrdinary, 6), (Values{-0x1.90ecf4p-4f, 0x1.51cb44p-1f, 0x1.042a34p-1f,
                                                 -0x1.fd97d6p-1f, -0x1.39afacp-1f, -0x1.e75602p-2f}));
  EXPECT_EQ(Fill(uniform, kLastSeedAndGroup, 6), (Values{0x1.d93deep-1f, 0x1.55b2b4p-3f, 0x1.b11da2p-3f,
                                                         0x1.fa686ep-3f, 0x1.81dfb6p-1f, 0x1.a8b21cp-1f}));
  EXPECT_EQ(Fill(With("random_uniform", {{"min", -0.05}, {"max", 0.01}}), {1, 2, 9}, 6),
            (Values{-0x1.775314p-8f, -0x1.7cb866p-5f, -0x1.a31fbcp-6f, -0x1.b5de4ap-6f, -0x1.196734p-5f,
                    -0x1.7febecp-6f}));
}

TEST(InitializerTest, RandomNormalMatchesGoldenBits) {
  const Parameters normal("random_normal");
  EXPECT_EQ(Fill(normal, kFirst, 6), (Values{-0x1.05f4ap-2f, 0x1.2d769ep+0f, 0x1.42a76ep-1f, 0x1.11fbd6p-2f,
                                             -0x1.d6c17ap-1f, -0x1.6fec36p+0f}));
  EXPECT_EQ(Fill(normal, kLastKey, 6), (Values{0x1.ab13c8p+0f, 0x1.25284cp+0f, -0x1.8101bp-2f,
                                               -0x1.0bd69ep+0f, 0x1.048d2p+1f, -0x1.0c47fap+1f}));
  EXPECT_EQ(Fill(normal, kOrdinary, 6), (Values{-0x1.f7c0b6p-4f, 0x1.e848a2p-1f, 0x1.5feba6p-1f,
                                                -0x1.69d5eap+1f, -0x1.ba9b6p-1f, -0x1.462cbp-1f}));
  EXPECT_EQ(Fill(With("random_normal", {{"mean", 1}, {"stddev", 0.02}}), {1, 2, 9}, 6),
            (Values{0x1.0342b6p+0f, 0x1.eff8a6p-1f, 0x1.fd971cp-1f, 0x1.fd157ep-1f, 0x1.f9701cp-1f,
                    0x1.fe86c4p-1f}));
}

// The rows are those of random_normal: what lay within 2 stddev is unchanged, the rest redrawn.
TEST(InitializerTest, TruncateNormalMatchesGoldenBits) {
  const Parameters truncated("truncate_normal");
  EXPECT_EQ(Fill(truncated, kFirst, 6), (Values{-0x1.05f4ap-2f, 0x1.2d769ep+0f, 0x1.42a76ep-1f,
                                                0x1.11fbd6p-2f, -0x1.d6c17ap-1f, -0x1.6fec36p+0f}));
  EXPECT_EQ(Fill(truncated, kLastKey, 6), (Values{0x1.ab13c8p+0f, 0x1.25284cp+0f, -0x1.8101bp-2f,
                                                  -0x1.0bd69ep+0f, 0x1.96c024p+0f, 0x1.39b4c2p-1f}));
  EXPECT_EQ(Fill(truncated, kOrdinary, 6), (Values{-0x1.f7c0b6p-4f, 0x1.e848a2p-1f, 0x1.5feba6p-1f,
                                                   -0x1.5b7cccp+0f, -0x1.ba9b6p-1f, -0x1.462cbp-1f}));
  EXPECT_EQ(Fill(With("truncate_normal", {{"mean", -3}, {"stddev", 0.3}}), {1, 2, 9}, 6),
            (Values{-0x1.678bacp+1f, -0x1.bc1b8ep+1f, -0x1.890956p+1f, -0x1.8aef64p+1f, -0x1.989b98p+1f,
                    -0x1.8586a2p+1f}));
}

TEST(InitializerTest, TruncateNormalRedrawsUntilWithinTwoStddev) {
  // Element 0 of this row is beyond in attempts 0 and 1.
  const RowRandom random(0, 0, 35);
  for (const uint32_t attempt : {0, 1}) {
    EXPECT_GT(std::fabs(NormalQuantile(ToOpenUnitInterval(random.Words(0, attempt)[0]))), 2);
  }
  EXPECT_EQ(Fill(Parameters("truncate_normal"), {0, 0, 35}, 1),
            Values{static_cast<float>(NormalQuantile(ToOpenUnitInterval(random.Words(0, 2)[0])))});
}

TEST(InitializerTest, XavierUniformMatchesGoldenBits) {
  const Parameters xavier("xavier_uniform");
  EXPECT_EQ(Fill(xavier, kFirst, 6), (Values{-0x1.7ed4f4p-3f, 0x1.68bf9p-1f, 0x1.beee22p-2f, 0x1.900104p-3f,
                                             -0x1.3062cp-1f, -0x1.929a6ep-1f}));
  EXPECT_EQ(Fill(xavier, kLastKey, 6), (Values{0x1.acdd22p-1f, 0x1.627f16p-1f, -0x1.15d7aap-2f,
                                               -0x1.4df8acp-1f, 0x1.c63552p-1f, -0x1.c8e9fap-1f}));
}

TEST(InitializerTest, ConstantsFillTheRow) {
  EXPECT_EQ(Fill(Parameters("zeros"), kOrdinary, 3), (Values{0, 0, 0}));
  EXPECT_EQ(Fill(Parameters("ones"), kOrdinary, 3), (Values{1, 1, 1}));
}

TEST(InitializerTest, AnElementDoesNotDependOnTheRowsWidth) {
  for (const char* name : {"random_uniform", "random_normal", "truncate_normal"}) {
    const Values wide = Fill(Parameters(name), kOrdinary, 19);
    for (size_t dim = 0; dim < wide.size(); ++dim) {
      EXPECT_EQ(Fill(Parameters(name), kOrdinary, dim), Values(wide.begin(), wide.begin() + dim)) << name;
    }
  }
}

TEST(InitializerTest, RowsDifferBySeedGroupAndKey) {
  const Parameters uniform("random_uniform");
  const Values row = Fill(uniform, {1, 2, 3}, 4);
  EXPECT_NE(row, Fill(uniform, {4, 2, 3}, 4));
  EXPECT_NE(row, Fill(uniform, {1, 4, 3}, 4));
  EXPECT_NE(row, Fill(uniform, {1, 2, 4}, 4));
  EXPECT_NE(row, Fill(uniform, {1, 2, 3 + (uint64_t{1} << 32)}, 4));
}

struct Moments {
  double mean;
  double stddev;
  float min;
  float max;
};

// Of 40,000 elements of 2,500 rows.
Moments MomentsOf(const Parameters& parameters) {
  double sum = 0, sum_of_squares = 0;
  Moments moments{0, 0, std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest()};
  const int rows = 2500, dim = 16;
  for (int row = 0; row < rows; ++row) {
    for (const float value : Fill(parameters, {11, 3, static_cast<uint64_t>(row)}, dim)) {
      sum += value;
      sum_of_squares += double{value} * value;
      moments.min = std::min(moments.min, value);
      moments.max = std::max(moments.max, value);
    }
  }
  const double count = rows * dim;
  moments.mean = sum / count;
  moments.stddev = std::sqrt(sum_of_squares / count - moments.mean * moments.mean);
  return moments;
}

// Tolerances are five standard errors: 5 / sqrt(40,000) = 0.025 of a standard deviation.
TEST(InitializerTest, ValuesHaveTheStatedDistribution) {
  const Moments uniform = MomentsOf(With("random_uniform", {{"min", 2}, {"max", 5}}));
  EXPECT_NEAR(uniform.mean, 3.5, 0.025 * 0.866);
  EXPECT_NEAR(uniform.stddev, 3 / std::sqrt(12.0), 0.025 * 0.866);
  EXPECT_GE(uniform.min, 2);
  EXPECT_LE(uniform.max, 5);

  const Moments normal = MomentsOf(With("random_normal", {{"mean", -1}, {"stddev", 2}}));
  EXPECT_NEAR(normal.mean, -1, 0.025 * 2);
  EXPECT_NEAR(normal.stddev, 2, 0.025 * 2);
  EXPECT_GT(normal.max, 5);

  const Moments truncated = MomentsOf(With("truncate_normal", {{"mean", -1}, {"stddev", 2}}));
  EXPECT_NEAR(truncated.mean, -1, 0.025 * 2);
  EXPECT_NEAR(truncated.stddev, 2 * 0.87962566, 0.025 * 2);  // of a normal cut at 2 stddev
  EXPECT_GE(truncated.min, -5);
  EXPECT_LE(truncated.max, 3);

  const double limit = std::sqrt(6.0 / (1 + 16));
  const Moments xavier = MomentsOf(Parameters("xavier_uniform"));
  EXPECT_NEAR(xavier.mean, 0, 0.025 * limit);
  EXPECT_NEAR(xavier.stddev, limit / std::sqrt(3.0), 0.025 * limit);
  EXPECT_GE(xavier.min, -limit);
  EXPECT_LE(xavier.max, limit);
}

TEST(InitializerTest, DegenerateRangesAreConstants) {
  EXPECT_EQ(Fill(With("random_uniform", {{"min", 0.5}, {"max", 0.5}}), kOrdinary, 2), (Values{0.5, 0.5}));
  EXPECT_EQ(Fill(With("random_normal", {{"mean", 0.5}, {"stddev", 0}}), kOrdinary, 2), (Values{0.5, 0.5}));
  EXPECT_EQ(Fill(With("truncate_normal", {{"mean", 0.5}, {"stddev", 0}}), kOrdinary, 2), (Values{0.5, 0.5}));
}

TEST(InitializerTest, ParametersAreNormalizedWithTheDocumentedDefaults) {
  const auto json = [](std::string_view name) {
    return (*MakeInitializer(Parameters(name)))->parameters().ToJson();
  };
  EXPECT_EQ(json("zeros"), R"({"name":"zeros"})");
  EXPECT_EQ(json("ones"), R"({"name":"ones"})");
  EXPECT_EQ(json("random_uniform"), R"({"max":1.0,"min":-1.0,"name":"random_uniform"})");
  EXPECT_EQ(json("random_normal"), R"({"mean":0.0,"name":"random_normal","stddev":1.0})");
  EXPECT_EQ(json("truncate_normal"), R"({"mean":0.0,"name":"truncate_normal","stddev":1.0})");
  EXPECT_EQ(json("xavier_uniform"), R"({"name":"xavier_uniform"})");
}

TEST(InitializerTest, WrongParametersAreNamed) {
  EXPECT_EQ(MessageFor(With("random_uniform", {{"min", 2}})),
            "initializer 'random_uniform': parameter 'min' must be <= max. Received: min=2, max=1");
  EXPECT_EQ(MessageFor(With("random_normal", {{"stddev", -0.5}})),
            "initializer 'random_normal': parameter 'stddev' must be >= 0. Received: stddev=-0.5");
  EXPECT_EQ(MessageFor(With("truncate_normal", {{"stddev", -0.5}})),
            "initializer 'truncate_normal': parameter 'stddev' must be >= 0. Received: stddev=-0.5");
  EXPECT_EQ(MessageFor(With("zeros", {{"value", 1}})),
            "initializer 'zeros' has no parameter 'value'; it takes none");
  EXPECT_EQ(MessageFor(With("xavier_uniform", {{"gain", 1}})),
            "initializer 'xavier_uniform' has no parameter 'gain'; it takes none");
}

TEST(InitializerTest, AnUnknownNameListsTheKnownOnes) {
  EXPECT_EQ(MessageFor(Parameters("uniform")),
            "unknown initializer 'uniform'; known: 'ones', 'random_normal', 'random_uniform', "
            "'truncate_normal', 'xavier_uniform', 'zeros'");
}

}  // namespace
}  // namespace damo
