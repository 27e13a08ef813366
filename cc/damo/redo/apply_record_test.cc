// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/apply_record.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "damo/base/test_status.h"

namespace damo {
namespace {

ApplyRecordHeader ExampleHeader() {
  ApplyRecordHeader header;
  header.group = 7;
  header.dim = 2;
  header.step = 41;
  header.time_millis = 1767225600000;
  header.learning_rate = 0.5;
  header.num_rows = 2;
  return header;
}

std::string EncodeRow(uint64_t key, uint64_t update_num, float first, float second) {
  std::string row(ApplyRowBytes(2), '\0');
  StoreLittleEndian(key, &row[0]);
  StoreLittleEndian(update_num, &row[8]);
  StoreLittleEndian(first, &row[16]);
  StoreLittleEndian(second, &row[20]);
  return row;
}

std::string Encode(const ApplyRecordHeader& header) {
  const auto bytes = EncodeApplyRecordHeader(header);
  return std::string(bytes.data(), bytes.size());
}

std::string ExampleRecord() {
  return Encode(ExampleHeader()) + EncodeRow(0x0123456789abcdef, 3, 1.0f, -0.5f) +
         EncodeRow(5, 1 | kAbsentRowFlag, 0.25f, 0.0f);
}

template <typename T>
std::string ExampleWith(size_t offset, T value) {
  std::string bytes = ExampleRecord();
  StoreLittleEndian(value, &bytes[offset]);
  return bytes;
}

testing::AssertionResult IsDataLoss(const std::string& bytes, std::string_view text) {
  return FailsWith(ApplyRecord::Decode(bytes).status(), StatusCode::kDataLoss, text);
}

// The worked example of docs/redo_format.md.
TEST(ApplyRecordTest, BytesAreThoseOfTheDocument) {
  const unsigned char golden[] = {
      0x01, 0,    0,    0,    0x07, 0,    0,    0,     // type, group
      0x02, 0,    0,    0,    0,    0,    0,    0,     // dim, reserved
      0x29, 0,    0,    0,    0,    0,    0,    0,     // step 41
      0x00, 0xa8, 0xda, 0x76, 0x9b, 0x01, 0,    0,     // 1767225600000 ms
      0,    0,    0,    0,    0,    0,    0xe0, 0x3f,  // learning rate 0.5
      0x02, 0,    0,    0,    0,    0,    0,    0,     // two rows
      0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,  // key
      0x03, 0,    0,    0,    0,    0,    0,    0,     // its third update
      0,    0,    0x80, 0x3f, 0,    0,    0,    0xbf,  // 1.0, -0.5
      0x05, 0,    0,    0,    0,    0,    0,    0,     // key
      0x01, 0,    0,    0,    0,    0,    0,    0x80,  // its first; there was no row
      0,    0,    0x80, 0x3e, 0,    0,    0,    0,     // 0.25, 0.0
  };
  EXPECT_EQ(ExampleRecord(), std::string(reinterpret_cast<const char*>(golden), sizeof(golden)));
}

TEST(ApplyRecordTest, DecodesWhatWasEncoded) {
  const std::string bytes = ExampleRecord();
  StatusOr<ApplyRecord> record = ApplyRecord::Decode(bytes);
  ASSERT_OK(record.status());
  EXPECT_EQ(record->header().group, 7);
  EXPECT_EQ(record->header().dim, 2u);
  EXPECT_EQ(record->header().step, 41);
  EXPECT_EQ(record->header().time_millis, 1767225600000);
  EXPECT_EQ(record->header().learning_rate, 0.5);
  ASSERT_EQ(record->header().num_rows, 2u);
  EXPECT_EQ(record->key(0), 0x0123456789abcdefu);
  EXPECT_EQ(record->update_num(0), 3);
  EXPECT_FALSE(record->absent(0));
  const float expected[] = {1.0f, -0.5f};
  EXPECT_EQ(std::memcmp(record->gradient(0), expected, sizeof(expected)), 0);
  EXPECT_EQ(record->key(1), 5u);
  EXPECT_EQ(record->update_num(1), 1);
  EXPECT_TRUE(record->absent(1));
}

// The second worked example of docs/redo_format.md.
std::string CountingRecord() {
  ApplyRecordHeader header = ExampleHeader();
  header.num_rows = 1;
  header.num_counted = 2;
  std::string bytes = Encode(header) + EncodeRow(5, 1 | kAbsentRowFlag, 0.25f, 0.0f);
  AppendCountedKey(5, 2, &bytes);
  AppendCountedKey(0x0123456789abcdef, 1, &bytes);
  return bytes;
}

TEST(ApplyRecordTest, BytesOfACountingRecordAreThoseOfTheDocument) {
  const unsigned char golden[] = {
      0x02, 0,    0,    0,    0x07, 0,    0,    0,     // type, group
      0x02, 0,    0,    0,    0x02, 0,    0,    0,     // dim, two counted keys
      0x29, 0,    0,    0,    0,    0,    0,    0,     // step 41
      0x00, 0xa8, 0xda, 0x76, 0x9b, 0x01, 0,    0,     // 1767225600000 ms
      0,    0,    0,    0,    0,    0,    0xe0, 0x3f,  // learning rate 0.5
      0x01, 0,    0,    0,    0,    0,    0,    0,     // one row
      0x05, 0,    0,    0,    0,    0,    0,    0,     // key
      0x01, 0,    0,    0,    0,    0,    0,    0x80,  // its first; there was no row
      0,    0,    0x80, 0x3e, 0,    0,    0,    0,     // 0.25, 0.0
      0x05, 0,    0,    0,    0,    0,    0,    0,     // key
      0x02, 0,    0,    0,                             // occurred twice
      0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,  // key
      0x01, 0,    0,    0,                             // occurred once
  };
  EXPECT_EQ(CountingRecord(), std::string(reinterpret_cast<const char*>(golden), sizeof(golden)));
}

TEST(ApplyRecordTest, CountedKeysReadBack) {
  const std::string bytes = CountingRecord();
  const StatusOr<ApplyRecord> record = ApplyRecord::Decode(bytes);
  ASSERT_OK(record.status());
  EXPECT_EQ(record->header().num_rows, 1u);
  ASSERT_EQ(record->header().num_counted, 2u);
  EXPECT_EQ(record->key(0), 5u);
  EXPECT_EQ(record->counted_key(0), 5u);
  EXPECT_EQ(record->occurrences(0), 2u);
  EXPECT_EQ(record->counted_key(1), 0x0123456789abcdefu);
  EXPECT_EQ(record->occurrences(1), 1u);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_TRUE(IsDataLoss(std::string(bytes, 0, size), "bytes, expected")) << "size " << size;
  }
  EXPECT_TRUE(IsDataLoss(bytes + '\0', "of 1 rows of dim 2 and 2 counted keys has 97 bytes"));
  std::string damaged = bytes;
  StoreLittleEndian<uint32_t>(0, &damaged[80]);
  EXPECT_TRUE(IsDataLoss(damaged, "has 0 occurrences of key 5, expected >= 1"));
  damaged = bytes;
  StoreLittleEndian<uint32_t>(~0u, &damaged[12]);
  EXPECT_TRUE(IsDataLoss(damaged, "and 4294967295 counted keys has 96 bytes"));
}

TEST(ApplyRecordTest, CallWithoutRowsIsARecord) {
  ApplyRecordHeader header = ExampleHeader();
  header.num_rows = 0;
  const std::string bytes = Encode(header);
  StatusOr<ApplyRecord> record = ApplyRecord::Decode(bytes);
  ASSERT_OK(record.status());
  EXPECT_EQ(record->header().num_rows, 0u);
}

TEST(ApplyRecordTest, EveryOtherLengthIsDataLoss) {
  const std::string whole = ExampleRecord();
  for (size_t size = 0; size < whole.size(); ++size) {
    // A copy of that size, so that a read past the end is seen.
    EXPECT_TRUE(IsDataLoss(std::string(whole, 0, size), "bytes, expected")) << "size " << size;
  }
  EXPECT_TRUE(IsDataLoss(whole + '\0', "bytes, expected 48 + 24 per row"));
}

TEST(ApplyRecordTest, ValuesThatCannotBeAreDataLoss) {
  EXPECT_TRUE(IsDataLoss(ExampleWith<uint32_t>(0, 3), "has type 3, expected 1 or 2"));
  EXPECT_TRUE(IsDataLoss(ExampleWith<uint32_t>(4, 256), "has group 256, expected in [0, 255]"));
  EXPECT_TRUE(IsDataLoss(ExampleWith<uint32_t>(8, 0), "has dim 0, expected >= 1"));
  EXPECT_TRUE(IsDataLoss(ExampleWith<uint32_t>(8, ~0u), "of 2 rows of dim 4294967295"));
  EXPECT_TRUE(IsDataLoss(ExampleWith<uint32_t>(12, 1), "has reserved field 1, expected 0"));
  EXPECT_TRUE(IsDataLoss(ExampleWith<int64_t>(16, -1), "has step -1, expected >= 0"));
  EXPECT_TRUE(IsDataLoss(ExampleWith<int64_t>(24, -5), "has time -5, expected >= 0"));
  EXPECT_TRUE(IsDataLoss(ExampleWith<uint64_t>(40, 3), "of 3 rows of dim 2 has 96 bytes"));
  // 24 * (2 + 2^61) is 48 modulo 2^64.
  EXPECT_TRUE(IsDataLoss(ExampleWith<uint64_t>(40, 2 + (uint64_t{1} << 61)), "has 96 bytes"));
  EXPECT_TRUE(IsDataLoss(ExampleWith<uint64_t>(56, 0), "has update_num 0 for key 81985529216486895"));
  EXPECT_TRUE(IsDataLoss(ExampleWith<uint64_t>(56, uint64_t{1} << 62), "expected in [1, 2^62)"));
  EXPECT_TRUE(IsDataLoss(ExampleWith<uint64_t>(80, 2 | kAbsentRowFlag),
                         "has update_num 2 for key 5, which had no row: expected 1"));
}

}  // namespace
}  // namespace damo
