// SPDX-License-Identifier: Apache-2.0
//
// What a log is after its bytes have changed: cut, overwritten, taken away.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/test_directory.h"
#include "damo/base/test_status.h"
#include "damo/redo/boot_mark.h"
#include "damo/redo/log_file_system.h"
#include "damo/redo/redo_format.h"
#include "damo/redo/redo_log.h"
#include "damo/redo/test_redo_log.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kFirstLsn = 7;

// A log in one segment, and where its frames begin; the last entry is its size.
struct SmallLog {
  Records records;
  std::string bytes;
  std::vector<size_t> offsets;
};

SmallLog MakeSmallLog() {
  const TestDirectory directory;
  auto log = MustOpenRedoLog(directory.path(), kFirstLsn);
  SmallLog small;
  for (const char* const record : {"first", "", "the third record", "12345678"}) {
    small.offsets.push_back(std::max<uint64_t>(log->bytes(), kSegmentHeaderBytes));
    const auto lsn = AppendRecord(log.get(), record);
    EXPECT_TRUE(lsn.ok());
    small.records[*lsn] = record;
  }
  small.offsets.push_back(log->bytes());
  small.bytes = ReadFile(SegmentPath(directory.path(), kFirstLsn));
  return small;
}

Records FirstOf(const Records& records, size_t count) {
  return Records(records.begin(), std::next(records.begin(), static_cast<ptrdiff_t>(count)));
}

// Segments that begin at `first_lsns` with one record each, "record N".
void MakeSegments(const std::string& directory, uint64_t first_lsn, int count) {
  auto log = MustOpenRedoLog(directory, first_lsn, 0);
  for (int i = 0; i < count; ++i) ASSERT_OK(AppendRecord(log.get(), "record").status());
}

Status ReadStatus(const std::string& directory, uint64_t first_lsn) {
  Records records;
  return ReadInto(&records, directory, first_lsn).status();
}

class OneSegmentTest : public testing::Test {
 protected:
  OneSegmentTest() {
    LogFileSystem* const posix = LogFileSystem::Posix();
    EXPECT_TRUE(IsOk(MarkBoot(posix, directory_.path(), posix->BootId())));
  }
  void Write(const std::string& bytes) const { WriteFile(path_, bytes); }
  Records Read() const { return ReadRecords(directory_.path(), kFirstLsn); }

  const SmallLog small_ = MakeSmallLog();
  const TestDirectory directory_;
  const std::string path_ = SegmentPath(directory_.path(), kFirstLsn);
};

TEST_F(OneSegmentTest, CutAnywhereIsThePrefixOfItsWholeRecords) {
  for (size_t size = 0; size <= small_.bytes.size(); ++size) {
    Write(small_.bytes.substr(0, size));
    size_t whole = 0;
    while (whole < small_.records.size() && small_.offsets[whole + 1] <= size) ++whole;
    ASSERT_EQ(Read(), FirstOf(small_.records, whole)) << "cut at " << size;
  }
}

TEST_F(OneSegmentTest, AnyByteChangedBeforeTheLastRecordIsDataLoss) {
  for (size_t i = 0; i < small_.offsets[3]; ++i) {
    for (const char change : {char{1}, char{-128}, char{-1}}) {
      std::string bytes = small_.bytes;
      bytes[i] = static_cast<char>(bytes[i] ^ change);
      Write(bytes);
      Records records;
      const Status status = ReadInto(&records, directory_.path(), kFirstLsn).status();
      ASSERT_TRUE(FailsWith(status, StatusCode::kDataLoss, path_)) << "byte " << i;
      ASSERT_EQ(records, FirstOf(small_.records, records.size())) << "byte " << i;
    }
  }
}

TEST_F(OneSegmentTest, AnyByteChangedInTheLastRecordIsTheEnd) {
  for (size_t i = small_.offsets[3]; i < small_.bytes.size(); ++i) {
    std::string bytes = small_.bytes;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x10);
    Write(bytes);
    ASSERT_EQ(Read(), FirstOf(small_.records, 3)) << "byte " << i;
  }
}

TEST_F(OneSegmentTest, DamageIsNamedByFileAndOffset) {
  std::string bytes = small_.bytes;
  bytes[small_.offsets[1] + 4] ^= 1;
  Write(bytes);
  const std::string place = StrCat("redo segment '", path_, "', offset ", small_.offsets[1], ": ");
  EXPECT_TRUE(FailsWith(
      ReadStatus(directory_.path(), kFirstLsn), StatusCode::kDataLoss,
      StrCat(place, "the frame header is bad, and a good frame follows at offset ", small_.offsets[2])));
}

TEST_F(OneSegmentTest, ZerosBehindTheLastRecordAreTheEnd) {
  for (const size_t zeros : {1, 7, 8, 24, 32, 4096, 100001}) {
    Write(small_.bytes + std::string(zeros, '\0'));
    ASSERT_EQ(Read(), small_.records) << zeros << " zeros";
  }
}

TEST_F(OneSegmentTest, ZerosInPlaceOfTheLastRecordsAreTheEnd) {
  for (size_t from = small_.offsets[2]; from < small_.offsets[3]; ++from) {
    std::string bytes = small_.bytes;
    std::fill(bytes.begin() + static_cast<ptrdiff_t>(from), bytes.end(), '\0');
    Write(bytes);
    // Where the padding begins, zeros change nothing.
    const bool third_is_whole = from >= small_.offsets[2] + kFrameHeaderBytes + small_.records.at(9).size();
    ASSERT_EQ(Read(), FirstOf(small_.records, third_is_whole ? 3 : 2)) << "from " << from;
  }
}

TEST_F(OneSegmentTest, FrameOfAnEarlierLsnBehindTheLastRecordIsDataLoss) {
  Write(small_.bytes + small_.bytes.substr(small_.offsets[0]));
  EXPECT_TRUE(FailsWith(ReadStatus(directory_.path(), kFirstLsn), StatusCode::kDataLoss,
                        "the frame has LSN 7, expected 11"));
}

TEST_F(OneSegmentTest, EarlierFramesInWhatIsHalfWrittenAreNotTakenForLaterOnes) {
  Write(small_.bytes + "torn off" + small_.bytes);
  EXPECT_EQ(Read(), small_.records);
}

TEST_F(OneSegmentTest, FrameLongerThanTheFileIsTheEnd) {
  for (const uint64_t record_bytes : {uint64_t{1}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    FrameHeader frame;
    frame.lsn = 11;
    frame.record_bytes = record_bytes;
    const auto header = EncodeFrameHeader(frame);
    Write(small_.bytes + std::string(header.data(), header.size()));
    ASSERT_EQ(Read(), small_.records) << record_bytes;
  }
}

TEST_F(OneSegmentTest, OtherFormatIsRefusedNamingBoth) {
  SegmentHeader header;
  header.version = 2;
  header.first_lsn = kFirstLsn;
  const auto bytes = EncodeSegmentHeader(header);
  Write(std::string(bytes.data(), bytes.size()));
  EXPECT_TRUE(FailsWith(ReadStatus(directory_.path(), kFirstLsn), StatusCode::kInvalidArgument,
                        StrCat("redo segment '", path_, "' has format 2; this build reads 1")));
}

TEST_F(OneSegmentTest, OtherNameThanItsHeaderSaysIsDataLoss) {
  WriteFile(SegmentPath(directory_.path(), 6), small_.bytes);
  EXPECT_TRUE(FailsWith(ReadStatus(directory_.path(), 6), StatusCode::kDataLoss,
                        "offset 0: the segment header has LSN 7, its name 6"));
}

TEST_F(OneSegmentTest, RecordsBeforeTheFirstWantedAreNotVisited) {
  Write(small_.bytes);
  EXPECT_EQ(ReadRecords(directory_.path(), 9),
            Records(std::next(small_.records.begin(), 2), small_.records.end()));
}

TEST_F(OneSegmentTest, LogThatEndsBeforeTheFirstWantedEndsThere) {
  Write(small_.bytes);
  EXPECT_EQ(ReadRecords(directory_.path(), 1000), Records());
}

TEST_F(OneSegmentTest, LogThatBeginsAfterTheFirstWantedIsDataLoss) {
  Write(small_.bytes);
  EXPECT_TRUE(FailsWith(ReadStatus(directory_.path(), 6), StatusCode::kDataLoss,
                        StrCat("'", path_, "', offset 0: the log begins at LSN 7, expected 6 or earlier")));
}

TEST_F(OneSegmentTest, FailureOfTheVisitorEndsTheReading) {
  Write(small_.bytes);
  int visits = 0;
  const auto end = ReadRedoLog(directory_.path(), kFirstLsn, [&](uint64_t, std::string_view) {
    return ++visits == 2 ? NotFound("enough") : Status();
  });
  EXPECT_TRUE(FailsWith(end.status(), StatusCode::kNotFound, "enough"));
  EXPECT_EQ(visits, 2);
}

// As a flush leaves it that has brought everything into the rows because a sync of the log had failed.
TEST_F(OneSegmentTest, DamageIsNoLossWhereEverythingIsInTheRows) {
  for (size_t i = 0; i < small_.bytes.size(); ++i) {
    std::string bytes = small_.bytes;
    bytes[i] = static_cast<char>(bytes[i] ^ 1);
    Write(bytes);
    ASSERT_EQ(ReadRecords(directory_.path(), kFirstLsn + small_.records.size()), Records()) << "byte " << i;
  }
}

TEST_F(OneSegmentTest, DamageBeforeTheFirstWantedIsDataLossIfThatIsBehindIt) {
  std::string bytes = small_.bytes;
  bytes[small_.offsets[1] + 4] ^= 1;
  Write(bytes);
  for (const uint64_t wanted : {9, 10}) {
    EXPECT_TRUE(FailsWith(ReadStatus(directory_.path(), wanted), StatusCode::kDataLoss,
                          StrCat("and a good frame follows at offset ", small_.offsets[wanted - kFirstLsn])));
  }
}

TEST(RedoReaderTest, AbsentDirectoryIsAnEmptyLog) {
  const TestDirectory directory;
  EXPECT_EQ(ReadRecords(directory / "none", 3), Records());
  EXPECT_FALSE(fs::exists(directory / "none"));
}

TEST(RedoReaderTest, FileInPlaceOfTheDirectoryIsAnError) {
  const TestDirectory directory;
  WriteFile(directory / "file", "");
  EXPECT_TRUE(FailsWith(ReadStatus(directory / "file", 0), StatusCode::kIoError, "list directory"));
}

TEST(RedoReaderTest, MissingSegmentIsDataLoss) {
  const TestDirectory directory;
  MakeSegments(directory.path(), 0, 4);
  fs::remove(SegmentPath(directory.path(), 2));
  EXPECT_TRUE(FailsWith(
      ReadStatus(directory.path(), 0), StatusCode::kDataLoss,
      StrCat(SegmentName(3), "', offset 0: the segment begins at LSN 3, the one before it ends at 2")));
  // What is wanted lies behind the gap.
  EXPECT_EQ(ReadRecords(directory.path(), 3), Records({{3, "record"}}));
}

TEST(RedoReaderTest, SegmentCutShortBeforeTheLastIsDataLoss) {
  const TestDirectory directory;
  MakeSegments(directory.path(), 0, 2);
  const std::string path = SegmentPath(directory.path(), 0);
  const std::string whole = ReadFile(path);
  for (size_t size = 0; size < whole.size(); ++size) {
    WriteFile(path, whole.substr(0, size));
    const Status status = ReadStatus(directory.path(), 0);
    if (size == kSegmentHeaderBytes) {  // a good segment, with no record
      ASSERT_TRUE(FailsWith(status, StatusCode::kDataLoss, "begins at LSN 1, the one before it ends at 0"));
      continue;
    }
    const size_t offset = size < kSegmentHeaderBytes ? 0 : kSegmentHeaderBytes;
    ASSERT_TRUE(FailsWith(status, StatusCode::kDataLoss, StrCat("'", path, "', offset ", offset, ": ")))
        << size;
    ASSERT_TRUE(FailsWith(status, StatusCode::kDataLoss, ", and another segment follows")) << size;
  }
}

TEST(RedoReaderTest, SegmentWhoseMakingWasCutShortIsTheEnd) {
  const TestDirectory directory;
  MakeSegments(directory.path(), 0, 2);
  const std::string whole = ReadFile(SegmentPath(directory.path(), 1));
  for (size_t size = 0; size < kSegmentHeaderBytes; ++size) {
    WriteFile(SegmentPath(directory.path(), 1), whole.substr(0, size));
    ASSERT_EQ(ReadRecords(directory.path(), 0), Records({{0, "record"}})) << size;
  }
}

TEST(RedoReaderTest, SegmentsBeforeTheFirstWantedAreNotLookedAt) {
  const TestDirectory directory;
  MakeSegments(directory.path(), 0, 3);
  WriteFile(SegmentPath(directory.path(), 0), "not a segment");
  EXPECT_EQ(ReadRecords(directory.path(), 1), Records({{1, "record"}, {2, "record"}}));
}

}  // namespace
}  // namespace damo
