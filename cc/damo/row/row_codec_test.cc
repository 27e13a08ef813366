// SPDX-License-Identifier: Apache-2.0
//
// The bytes of rows and their keys. These are fixed for ever: a test that fails here means stores in the
// field could not be read.
#include "damo/row/row_codec.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "damo/row/key.h"

namespace damo {
namespace {

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (const char byte : bytes) {
    hex += "0123456789abcdef"[static_cast<uint8_t>(byte) >> 4];
    hex += "0123456789abcdef"[static_cast<uint8_t>(byte) & 15];
  }
  return hex;
}

// A row of two weights and one slot: the worked example of docs/row_format.md.
const RowLayout kLayout(2, 1);
constexpr uint8_t kGroup = 7;
constexpr uint64_t kKey = 0x0123456789abcdef;

std::string ExampleRow() {
  alignas(8) char row[48];
  EXPECT_EQ(kLayout.row_bytes(), sizeof(row));
  EncodeRowHeader({kGroup, kKey, 1767225600000, 3}, row);
  kLayout.Weights(row)[0] = 1.0f;
  kLayout.Weights(row)[1] = -0.5f;
  kLayout.Slots(row)[0] = 0.25f;
  kLayout.Slots(row)[1] = 0.0f;
  return std::string(row, sizeof(row));
}

TEST(RowKeyTest, GoldenBytes) {
  EXPECT_EQ(Hex(RowKey(kGroup, kKey).bytes()), "070123456789abcdef");
  EXPECT_EQ(Hex(RowKey(0, 0).bytes()), "000000000000000000");
  EXPECT_EQ(Hex(RowKey(255, std::numeric_limits<uint64_t>::max()).bytes()), "ffffffffffffffffff");
}

TEST(RowKeyTest, DecodesToWhatWasEncoded) {
  const RowKey key(200, kKey);
  EXPECT_EQ(GroupOfRowKey(key.bytes()), 200);
  EXPECT_EQ(KeyOfRowKey(key.bytes()), kKey);
}

TEST(RowKeyTest, ByteOrderIsGroupThenNumericOrder) {
  EXPECT_LT(RowKey(1, 255).bytes(), RowKey(1, 256).bytes());
  EXPECT_LT(RowKey(1, std::numeric_limits<uint64_t>::max()).bytes(), RowKey(2, 0).bytes());
}

TEST(RowCodecTest, GoldenBytes) {
  EXPECT_EQ(Hex(ExampleRow()),
            "0700000000000000"    // group 7, reserved 0
            "efcdab8967452301"    // key
            "00a8da769b010000"    // update_time 2026-01-01 00:00:00 UTC
            "0300000000000000"    // update_num 3
            "0000803f000000bf"    // weights 1, -0.5
            "0000803e00000000");  // slot 0.25, 0
}

TEST(RowCodecTest, DecodesToWhatWasEncoded) {
  const StatusOr<RowHeader> header = DecodeRowHeader(ExampleRow(), kLayout, kGroup, kKey);
  ASSERT_TRUE(header.ok()) << header.status().ToString();
  EXPECT_EQ(header->group, kGroup);
  EXPECT_EQ(header->key, kKey);
  EXPECT_EQ(header->update_time, 1767225600000);
  EXPECT_EQ(header->update_num, 3);
}

struct Damage {
  const char* what;
  size_t offset;
  char byte;
  const char* message;
};

TEST(RowCodecTest, DamagedHeadersAreDataLoss) {
  const std::vector<Damage> damages = {
      {"group", 0, 8, "says group 8, expected 7"},
      {"group, high byte", 3, 1, "says group 16777223, expected 7"},
      {"reserved", 4, 1, "has reserved field 1, expected 0"},
      {"key", 8, 0, "says key 81985529216486656"},
      {"update_num 0", 24, 0, "has update_num 0, expected in [1, 2^62)"},
      {"update_num beyond counting", 31, '\x40', "has update_num 4611686018427387907"},
      {"update_time negative", 23, '\x80', "has update_time -9223370269629175808, expected >= 0"},
      {"update_num negative", 31, '\x80', "has update_num -9223372036854775805"},
  };
  for (const Damage& damage : damages) {
    std::string row = ExampleRow();
    row[damage.offset] = damage.byte;
    const Status status = DecodeRowHeader(row, kLayout, kGroup, kKey).status();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << damage.what;
    EXPECT_NE(status.message().find(damage.message), std::string::npos) << status.message();
  }
}

TEST(RowCodecTest, WrongSizeIsDataLossWithBothSizes) {
  for (const size_t size : {0, 31, 47, 49}) {
    std::string row = ExampleRow();
    row.resize(size);
    const Status status = DecodeRowHeader(row, kLayout, kGroup, kKey).status();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss);
    EXPECT_NE(status.message().find(StrCat(size, " bytes, expected 48")), std::string::npos);
  }
}

TEST(RowCodecTest, UpdateTimeIsReadWithoutTheLayoutAndOnlyFromWhatCanBeARow) {
  const RowLayout layout(2, 1);
  std::string row(layout.row_bytes(), '\0');
  EncodeRowHeader({7, 5, 1234, 3}, row.data());
  EXPECT_EQ(PeekUpdateTime(row, 7, 5), 1234);
  EXPECT_EQ(PeekUpdateTime(row, 6, 5), std::nullopt);
  EXPECT_EQ(PeekUpdateTime(row, 7, 4), std::nullopt);
  EXPECT_EQ(PeekUpdateTime(std::string_view(row).substr(0, 34), 7, 5), std::nullopt);
  EXPECT_EQ(PeekUpdateTime(std::string_view(row).substr(0, kRowHeaderBytes), 7, 5), std::nullopt);
  EXPECT_EQ(PeekUpdateTime("", 7, 5), std::nullopt);
}

}  // namespace
}  // namespace damo
