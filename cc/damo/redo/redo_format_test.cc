// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/redo_format.h"

#include <gtest/gtest.h>

#include <limits>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/redo/redo_log.h"
#include "damo/redo/test_redo_log.h"

namespace damo {
namespace {

// The worked example of docs/redo_format.md: records "redo" and, after a Sync(), "" in a log that begins at
// LSN 7.
constexpr unsigned char kGolden[] = {
    'D',  'A',  'M',  'O',  'R',  'E',  'D',  'O',   // magic
    0x07, 0,    0,    0,    0,    0,    0,    0,     // first LSN
    0x01, 0,    0,    0,    0xfa, 0x20, 0x18, 0x32,  // version, checksum
    0xf2, 0xb5, 0x8f, 0x3b, 0x38, 0x22, 0xc4, 0x7f,  // checksums of header and body
    0x07, 0,    0,    0,    0,    0,    0,    0,     // LSN
    0x07, 0,    0,    0,    0,    0,    0,    0,     // synced LSN
    0x04, 0,    0,    0,    0,    0,    0,    0,     // bytes of the record
    'r',  'e',  'd',  'o',  0,    0,    0,    0,     // record, padding
    0x0b, 0x51, 0x0f, 0xbe, 0,    0,    0,    0,     // checksums; that of nothing is 0
    0x08, 0,    0,    0,    0,    0,    0,    0,     // LSN
    0x08, 0,    0,    0,    0,    0,    0,    0,     // synced LSN
    0,    0,    0,    0,    0,    0,    0,    0,     // bytes of the record
};
constexpr char kGoldenName[] = "00000000000000000007.redo";

std::string Golden() { return std::string(reinterpret_cast<const char*>(kGolden), sizeof(kGolden)); }

TEST(RedoFormatTest, BytesAreThoseOfTheDocument) {
  const TestDirectory directory;
  auto log = MustOpenRedoLog(directory / "redo", 7);
  ASSERT_OK(AppendRecord(log.get(), "redo").status());
  ASSERT_OK(log->Sync(8));
  ASSERT_OK(AppendRecord(log.get(), "").status());
  EXPECT_EQ(ReadFile(directory / "redo" + "/" + kGoldenName), Golden());
}

TEST(RedoFormatTest, BytesOfTheDocumentAreRead) {
  const TestDirectory directory;
  WriteFile(directory / kGoldenName, Golden());
  EXPECT_EQ(ReadRecords(directory.path(), 7), Records({{7, "redo"}, {8, ""}}));
}

TEST(RedoFormatTest, NamesAreParsedBack) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(SegmentName(kMax), "18446744073709551615.redo");
  for (const uint64_t lsn : {uint64_t{0}, uint64_t{7}, kMax}) {
    EXPECT_EQ(ParseSegmentName(SegmentName(lsn)), lsn);
  }
}

TEST(RedoFormatTest, OtherNamesAreNotSegments) {
  for (const char* const name :
       {"", "7.redo", "00000000000000000007", "00000000000000000007.log", "0000000000000000000x.redo",
        "-0000000000000000007.redo", "99999999999999999999.redo", "000000000000000000007.redo"}) {
    EXPECT_EQ(ParseSegmentName(name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace damo
