// SPDX-License-Identifier: Apache-2.0
#include "damo/config/group_config.h"

#include <gtest/gtest.h>

#include <string>

namespace damo {
namespace {

GroupConfig Example() {
  GroupConfig config;
  config.group = 3;
  config.dim = 16;
  config.optimizer = Parameters("adam");
  config.optimizer.Insert("gamma", 1e-3);
  config.initializer = Parameters("zeros");
  return config;
}

TEST(GroupConfigTest, ValidateNamesRuleAndValue) {
  EXPECT_TRUE(Example().Validate().ok());
  GroupConfig config = Example();
  config.group = 256;
  EXPECT_EQ(config.Validate().message(), "`group` must be in [0, 256). Received: group=256");
  config.group = -1;
  EXPECT_FALSE(config.Validate().ok());
  config = Example();
  config.dim = 0;
  EXPECT_EQ(config.Validate().message(), "`dim` must be in [1, 65536]. Received: dim=0");
  config = Example();
  config.min_count = 16;
  EXPECT_EQ(config.Validate().message(), "`min_count` must be in [0, 15]. Received: min_count=16");
  config.min_count = -1;
  EXPECT_FALSE(config.Validate().ok());
  config = Example();
  config.filter_capacity = 0;
  EXPECT_FALSE(config.Validate().ok());
  config.dim = 65537;
  EXPECT_FALSE(config.Validate().ok());
  config = Example();
  config.ttl_seconds = GroupConfig::kNeverExpires;
  EXPECT_TRUE(config.Validate().ok());
  config.ttl_seconds = -1;
  EXPECT_EQ(config.Validate().message(),
            "ttl_seconds must be > 0 and <= 9223372036854775. Received: ttl_seconds=-1");
}

TEST(GroupConfigTest, RowsLiveAsTheGroupSaysElseAsTheStoreSays) {
  GroupConfig config = Example();
  EXPECT_TRUE(config.RowLifetime(std::nullopt).is_forever());
  EXPECT_TRUE(config.RowLifetime(10).Expired(1'000, 11'000));
  config.ttl_seconds = 20;
  for (const std::optional<int64_t> of_store : {std::optional<int64_t>(), std::optional<int64_t>(10)}) {
    EXPECT_FALSE(config.RowLifetime(of_store).Expired(1'000, 20'999));
    EXPECT_TRUE(config.RowLifetime(of_store).Expired(1'000, 21'000));
    EXPECT_EQ(config.RowLifetime(of_store).LastExpired(21'000), 1'000);
  }
  config.ttl_seconds = GroupConfig::kNeverExpires;
  EXPECT_TRUE(config.RowLifetime(10).is_forever());
  EXPECT_FALSE(config.RowLifetime(10).Expired(0, int64_t{1} << 62));
  EXPECT_LT(config.RowLifetime(10).LastExpired(int64_t{1} << 62), 0);
}

// On disk: a store of today must be read by every later release.
TEST(GroupConfigTest, GoldenJson) {
  EXPECT_EQ(Example().ToJson(),
            R"({"dim":16,"initializer":{"name":"zeros"},"optimizer":{"gamma":0.001,"name":"adam"}})");
  GroupConfig config = Example();
  config.ttl_seconds = 3600;
  EXPECT_EQ(
      config.ToJson(),
      R"({"dim":16,"initializer":{"name":"zeros"},"optimizer":{"gamma":0.001,"name":"adam"},"ttl_seconds":3600})");
}

TEST(GroupConfigTest, GoldenJsonOfAGroupWithAFilter) {
  GroupConfig config = Example();
  config.min_count = 3;
  config.filter_capacity = 1 << 20;
  config.filter_fpr = 1e-3;
  const std::string json = config.ToJson();
  EXPECT_EQ(json, R"({"dim":16,"filter":{"capacity":1048576,"fpr":0.001},"initializer":{"name":"zeros"},)"
                  R"("min_count":3,"optimizer":{"gamma":0.001,"name":"adam"}})");
  const StatusOr<GroupConfig> read = GroupConfig::FromJson(3, json);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(read->min_count, 3);
  EXPECT_TRUE(read->filter() == config.filter());
}

TEST(GroupConfigTest, JsonReadsBack) {
  GroupConfig config = Example();
  config.schedule = Parameters("exponential_decay");
  config.schedule->Insert("decay_steps", 100.0);
  config.schedule->Insert("staircase", true);
  config.ttl_seconds = GroupConfig::kNeverExpires;
  const StatusOr<GroupConfig> read = GroupConfig::FromJson(3, config.ToJson());
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(read->group, 3);
  EXPECT_TRUE(CheckSameConfig(config, *read).ok());
}

TEST(GroupConfigTest, DamagedJsonIsAnError) {
  for (const char* text :
       {"", "[]", "{", "{}", R"({"dim":16})", R"({"dim":"x","optimizer":{},"initializer":{}})",
        R"({"dim":1.5,"optimizer":{},"initializer":{}})",
        R"({"dim":16,"optimizer":[],"initializer":{"name":"zeros"}})",
        R"({"dim":16,"optimizer":{},"initializer":{},"ttl_seconds":1.5})",
        R"({"dim":16,"optimizer":{},"initializer":{},"ttl_seconds":-1})",
        R"({"dim":-1,"optimizer":{},"initializer":{}})",
        R"({"dim":16,"initializer":{"name":"zeros"},"min_count":16,"optimizer":{"name":"sgd"}})",
        R"({"dim":16,"initializer":{"name":"zeros"},"min_count":"3","optimizer":{"name":"sgd"}})",
        R"({"dim":16,"filter":{"capacity":5},"initializer":{"name":"zeros"},"optimizer":{"name":"sgd"}})",
        R"({"dim":16,"filter":7,"initializer":{"name":"zeros"},"optimizer":{"name":"sgd"}})"}) {
    EXPECT_FALSE(GroupConfig::FromJson(0, text).ok()) << text;
  }
}

TEST(GroupConfigTest, DifferencesAreNamedWithBothValues) {
  GroupConfig asked = Example();
  asked.dim = 8;
  EXPECT_EQ(CheckSameRows(Example(), asked).message(), "has dim 16, asked for 8");
  asked = Example();
  asked.optimizer = Parameters("sgd");
  EXPECT_EQ(CheckSameRows(Example(), asked).message(), "has optimizer 'adam', asked for 'sgd'");
  asked = Example();
  asked.optimizer.Insert("gamma", 0.5);
  EXPECT_TRUE(CheckSameRows(Example(), asked).ok());
  EXPECT_EQ(CheckSameConfig(Example(), asked).message(),
            R"(has optimizer {"gamma":0.001,"name":"adam"}, asked for {"gamma":0.5,"name":"adam"})");
  asked = Example();
  asked.min_count = 3;
  EXPECT_TRUE(CheckSameRows(Example(), asked).ok());
  EXPECT_EQ(CheckSameConfig(Example(), asked).message(), "has min_count 0, asked for 3");
  GroupConfig has = asked;
  asked.filter_capacity = 1000;
  EXPECT_TRUE(CheckSameConfig(has, asked).ok());
  has.filter_capacity = 2000;
  EXPECT_EQ(CheckSameRows(has, asked).message(), "has filter_capacity 2000, asked for 1000");
  asked = has;
  has.filter_fpr = 0.1;
  asked.filter_fpr = 0.2;
  EXPECT_EQ(CheckSameRows(has, asked).message(), "has filter_fpr 0.1, asked for 0.2");
  asked = Example();
  asked.initializer = Parameters("ones");
  EXPECT_FALSE(CheckSameConfig(Example(), asked).ok());
  asked = Example();
  asked.schedule = Parameters("cosine_decay");
  EXPECT_EQ(CheckSameConfig(Example(), asked).message(),
            R"(has schedule {"name":"constant"}, asked for {"name":"cosine_decay"})");
  asked = Example();
  asked.ttl_seconds = 60;
  EXPECT_TRUE(CheckSameRows(Example(), asked).ok());
  EXPECT_EQ(CheckSameConfig(Example(), asked).message(), "has ttl_seconds as the store's, asked for 60");
  GroupConfig never = Example();
  never.ttl_seconds = GroupConfig::kNeverExpires;
  EXPECT_EQ(CheckSameConfig(asked, never).message(), "has ttl_seconds 60, asked for never");
}

}  // namespace
}  // namespace damo
