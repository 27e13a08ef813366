// SPDX-License-Identifier: Apache-2.0
#include "damo/feature/feature_hasher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

namespace damo {
namespace {

std::string FirstBytes(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i);
  return bytes;
}

// The table of docs/feature_hash.md. Rows are stored under such keys: these values never change.
TEST(FeatureHasherTest, KeysAreThoseOfTheDocument) {
  const FeatureHasher user("user");
  EXPECT_EQ(user.Key(""), 0x79f88c3f9352a113u);
  EXPECT_EQ(user.Key("7"), 0xe05b2039a2f65f7cu);
  EXPECT_EQ(user.Key("-7"), 0xbdd38de64986ce8fu);
  EXPECT_EQ(user.Key("ann"), 0x5e57da18ca5dccc0u);
  EXPECT_EQ(user.Key("Zo\xc3\xab"), 0xf388bbc931918c15u);
  EXPECT_EQ(user.Key(std::string_view("a\0b", 3)), 0x31fcdf1f54b14f00u);
  EXPECT_EQ(user.Key("18446744073709551615"), 0x16ad88edf29c4bf4u);
  EXPECT_EQ(user.Key("-9223372036854775808"), 0x7bcbe7a104b42dabu);
  EXPECT_EQ(user.Key(FirstBytes(256)), 0xb36ce9ed77ce9806u);  // long values take another path in XXH3
  EXPECT_EQ(FeatureHasher("item").Key("7"), 0x7063c9fb7975f8a6u);
  EXPECT_EQ(FeatureHasher("gr\xc3\xb6\xc3\x9f"
                          "e")
                .Key("xl"),
            0xbfc059c8545c1fe5u);
}

TEST(FeatureHasherTest, IntegerIsItsDecimalText) {
  const FeatureHasher user("user");
  for (const int64_t value : {int64_t{0}, int64_t{7}, int64_t{-7}, std::numeric_limits<int64_t>::min(),
                              std::numeric_limits<int64_t>::max()}) {
    EXPECT_EQ(user.Key(value), user.Key(std::to_string(value)));
  }
  EXPECT_EQ(user.Key(uint64_t{7}), user.Key("7"));
  EXPECT_EQ(user.Key(std::numeric_limits<uint64_t>::max()), user.Key("18446744073709551615"));
  EXPECT_NE(user.Key(int64_t{-1}), user.Key(std::numeric_limits<uint64_t>::max()));
}

TEST(FeatureHasherTest, KeysOfAMillionValuesInTwoFieldsAreDistinct) {
  const FeatureHasher user("user");
  const FeatureHasher item("item");
  std::vector<uint64_t> keys;
  for (int64_t i = 0; i < 500000; ++i) {
    keys.push_back(user.Key(i));
    keys.push_back(item.Key(i));
  }
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(std::adjacent_find(keys.begin(), keys.end()), keys.end());
}

TEST(FeatureHasherTest, PaddingHasItsKeyWhateverItsType) {
  const FeatureHasher text("user", FeaturePadding{"", 5});
  EXPECT_EQ(text.Key(""), 5u);
  EXPECT_EQ(text.Key("ann"), FeatureHasher("user").Key("ann"));

  const FeatureHasher number("user", FeaturePadding{"0", 0});
  EXPECT_EQ(number.Key("0"), 0u);
  EXPECT_EQ(number.Key(int64_t{0}), 0u);
  EXPECT_EQ(number.Key(uint64_t{0}), 0u);
  EXPECT_EQ(number.Key(""), FeatureHasher("user").Key(""));
}

TEST(FeatureHasherTest, NoValueButThePaddingHasItsKey) {
  const uint64_t hash = FeatureHasher("user").Key("ann");
  EXPECT_EQ(FeatureHasher("user", FeaturePadding{"", hash}).Key("ann"), hash + 1);
  EXPECT_EQ(FeatureHasher("user", FeaturePadding{"", hash + 1}).Key("ann"), hash);
}

}  // namespace
}  // namespace damo
