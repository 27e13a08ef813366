// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/dump_format.h"

#include <gtest/gtest.h>

#include <string>

#include "damo/base/test_status.h"

namespace damo {
namespace {

DumpHeader ExampleHeader() {
  DumpHeader header;
  header.dims[0] = 2;
  header.dims[255] = 0x01020304;
  header.counts[0] = 0x1122334455667788;
  return header;
}

TEST(DumpFormatTest, HeaderBytesAreGolden) {
  const std::string bytes = EncodeDumpHeader(ExampleHeader());
  std::string expected(3072, '\0');
  expected[0] = '\x02';
  expected.replace(1020, 4, "\x04\x03\x02\x01");
  expected.replace(1024, 8, "\x88\x77\x66\x55\x44\x33\x22\x11");
  EXPECT_EQ(bytes, expected);
}

TEST(DumpFormatTest, RecordHeaderBytesAreGolden) {
  std::string bytes(kDumpRecordHeaderBytes, '?');
  EncodeDumpRecordHeader(7, 0xf123456789abcdef, bytes.data());
  EXPECT_EQ(bytes, std::string("\xef\xcd\xab\x89\x67\x45\x23\xf1\x07\0\0\0", 12));
  EXPECT_EQ(DecodeDumpRecordHeader(bytes).group, 7);
  EXPECT_EQ(DecodeDumpRecordHeader(bytes).key, 0xf123456789abcdef);
}

TEST(DumpFormatTest, HeaderSurvivesARoundTrip) {
  DumpHeader header;
  header.dims[3] = 65536;
  header.counts[3] = 5;
  header.dims[255] = 1;
  const StatusOr<DumpHeader> decoded = DecodeDumpHeader(EncodeDumpHeader(header));
  ASSERT_OK(decoded.status());
  EXPECT_EQ(decoded->dims, header.dims);
  EXPECT_EQ(decoded->counts, header.counts);
  EXPECT_EQ(decoded->FileBytes(), 3072 + 5 * (12 + 4 * 65536));
}

TEST(DumpFormatTest, HeaderThatCannotBeIsRefused) {
  const auto refused = [](const DumpHeader& header, std::string_view text) {
    return FailsWith(DecodeDumpHeader(EncodeDumpHeader(header)).status(), StatusCode::kInvalidArgument, text);
  };
  DumpHeader header;
  header.dims[9] = -1;
  EXPECT_TRUE(refused(header, "group 9 has dim -1, expected in [0, 65536]"));
  header.dims[9] = 65537;
  EXPECT_TRUE(refused(header, "group 9 has dim 65537, expected in [0, 65536]"));
  header.dims[9] = 0;
  header.counts[9] = 1;
  EXPECT_TRUE(refused(header, "group 9 has 1 rows but dim 0"));
  header.dims[9] = 1;
  header.counts[9] = uint64_t{1} << 60;  // times 16 overflows
  EXPECT_TRUE(refused(header, "more than a file can hold"));
}

}  // namespace
}  // namespace damo
