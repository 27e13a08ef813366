// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/apply_record.h"

#include <algorithm>

namespace damo {
namespace {

// What kind of record it is. On disk: never renumber.
constexpr uint32_t kApplyRecordType = 1;
constexpr uint32_t kCountingApplyRecordType = 2;  // has counted keys behind its rows

// Byte offsets of the header's fields. On disk: never renumber.
constexpr size_t kTypeOffset = 0;           // uint32
constexpr size_t kGroupOffset = 4;          // uint32
constexpr size_t kDimOffset = 8;            // uint32
constexpr size_t kNumCountedOffset = 12;    // uint32; of type 1: reserved, 0
constexpr size_t kStepOffset = 16;          // int64
constexpr size_t kTimeOffset = 24;          // int64
constexpr size_t kLearningRateOffset = 32;  // float64
constexpr size_t kNumRowsOffset = 40;       // uint64

// As in rows: more than can be counted in the life of a machine.
constexpr int64_t kMaxUpdates = int64_t{1} << 62;

Status CheckTypeAndReserved(const char* bytes) {
  const auto type = LoadLittleEndian<uint32_t>(bytes + kTypeOffset);
  if (type == kCountingApplyRecordType) return Status();
  if (type != kApplyRecordType) {
    return DataLoss("redo record has type ", type, ", expected ", kApplyRecordType, " or ",
                    kCountingApplyRecordType);
  }
  const auto reserved = LoadLittleEndian<uint32_t>(bytes + kNumCountedOffset);
  if (reserved != 0) return DataLoss("apply record has reserved field ", reserved, ", expected 0");
  return Status();
}

StatusOr<ApplyRecordHeader> DecodeHeader(const char* bytes) {
  DAMO_RETURN_IF_ERROR(CheckTypeAndReserved(bytes));
  const auto group = LoadLittleEndian<uint32_t>(bytes + kGroupOffset);
  if (group > 255) return DataLoss("apply record has group ", group, ", expected in [0, 255]");
  ApplyRecordHeader header;
  header.group = static_cast<uint8_t>(group);
  header.dim = LoadLittleEndian<uint32_t>(bytes + kDimOffset);
  header.num_counted = LoadLittleEndian<uint32_t>(bytes + kNumCountedOffset);
  header.step = LoadLittleEndian<int64_t>(bytes + kStepOffset);
  header.time_millis = LoadLittleEndian<int64_t>(bytes + kTimeOffset);
  header.learning_rate = LoadLittleEndian<double>(bytes + kLearningRateOffset);
  header.num_rows = LoadLittleEndian<uint64_t>(bytes + kNumRowsOffset);
  if (header.dim < 1) return DataLoss("apply record has dim 0, expected >= 1");
  if (header.step < 0) return DataLoss("apply record has step ", header.step, ", expected >= 0");
  if (header.time_millis < 0)
    return DataLoss("apply record has time ", header.time_millis, ", expected >= 0");
  return header;
}

// Divides instead of multiplying: the count is not trusted yet.
Status CheckSize(const ApplyRecordHeader& header, size_t record_bytes) {
  const size_t row_bytes = ApplyRowBytes(header.dim);
  const size_t counted_bytes = header.num_counted * kCountedKeyBytes;
  const size_t body_bytes = record_bytes - kApplyRecordHeaderBytes;
  const size_t rows_bytes = body_bytes - std::min(body_bytes, counted_bytes);
  if (counted_bytes <= body_bytes && rows_bytes % row_bytes == 0 &&
      header.num_rows == rows_bytes / row_bytes) {
    return Status();
  }
  const std::string of_counted =
      header.num_counted == 0 ? "" : StrCat(" and ", header.num_counted, " counted keys");
  return DataLoss("apply record of ", header.num_rows, " rows of dim ", header.dim, of_counted, " has ",
                  record_bytes, " bytes, expected ", kApplyRecordHeaderBytes, " + ", row_bytes, " per row",
                  header.num_counted == 0 ? "" : StrCat(" + ", kCountedKeyBytes, " per counted key"));
}

Status CheckUpdateNums(const ApplyRecord& record) {
  for (uint64_t i = 0; i < record.header().num_rows; ++i) {
    const int64_t update_num = record.update_num(i);
    if (update_num < 1 || update_num >= kMaxUpdates) {
      return DataLoss("apply record has update_num ", update_num, " for key ", record.key(i),
                      ", expected in [1, 2^62)");
    }
    if (record.absent(i) && update_num != 1) {
      return DataLoss("apply record has update_num ", update_num, " for key ", record.key(i),
                      ", which had no row: expected 1");
    }
  }
  return Status();
}

Status CheckOccurrences(const ApplyRecord& record) {
  for (uint64_t i = 0; i < record.header().num_counted; ++i) {
    if (record.occurrences(i) != 0) continue;
    return DataLoss("apply record has 0 occurrences of key ", record.counted_key(i), ", expected >= 1");
  }
  return Status();
}

}  // namespace

void AppendCountedKey(uint64_t key, uint32_t occurrences, std::string* bytes) {
  char part[kCountedKeyBytes];
  StoreLittleEndian(key, part);
  StoreLittleEndian(occurrences, part + sizeof(key));
  bytes->append(part, sizeof(part));
}

std::array<char, kApplyRecordHeaderBytes> EncodeApplyRecordHeader(const ApplyRecordHeader& header) {
  std::array<char, kApplyRecordHeaderBytes> bytes;
  char* const to = bytes.data();
  // Without counted keys as ever: an earlier release reads it, too.
  StoreLittleEndian<uint32_t>(header.num_counted == 0 ? kApplyRecordType : kCountingApplyRecordType,
                              to + kTypeOffset);
  StoreLittleEndian<uint32_t>(header.group, to + kGroupOffset);
  StoreLittleEndian<uint32_t>(header.dim, to + kDimOffset);
  StoreLittleEndian<uint32_t>(header.num_counted, to + kNumCountedOffset);
  StoreLittleEndian<int64_t>(header.step, to + kStepOffset);
  StoreLittleEndian<int64_t>(header.time_millis, to + kTimeOffset);
  StoreLittleEndian<double>(header.learning_rate, to + kLearningRateOffset);
  StoreLittleEndian<uint64_t>(header.num_rows, to + kNumRowsOffset);
  return bytes;
}

StatusOr<ApplyRecord> ApplyRecord::Decode(std::string_view bytes) {
  if (bytes.size() < kApplyRecordHeaderBytes) {
    return DataLoss("redo record has ", bytes.size(), " bytes, expected at least ", kApplyRecordHeaderBytes);
  }
  DAMO_ASSIGN_OR_RETURN(const ApplyRecordHeader header, DecodeHeader(bytes.data()));
  DAMO_RETURN_IF_ERROR(CheckSize(header, bytes.size()));
  const ApplyRecord record(header, bytes.data() + kApplyRecordHeaderBytes);
  DAMO_RETURN_IF_ERROR(CheckUpdateNums(record));
  DAMO_RETURN_IF_ERROR(CheckOccurrences(record));
  return record;
}

}  // namespace damo
