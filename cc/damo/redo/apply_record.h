// SPDX-License-Identifier: Apache-2.0
//
// ApplyRecord: one apply call as the redo log keeps it: which rows took a step, from which gradients. Byte by
// byte in docs/redo_format.md.
#ifndef DAMO_REDO_APPLY_RECORD_H_
#define DAMO_REDO_APPLY_RECORD_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "damo/base/endian.h"
#include "damo/base/status.h"

namespace damo {

// What a call's rows have in common.
struct ApplyRecordHeader {
  uint8_t group = 0;
  uint32_t dim = 0;
  int64_t step = 0;         // the group's global step before the call
  int64_t time_millis = 0;  // of the call; update_time of its rows
  double learning_rate = 0;
  uint64_t num_rows = 0;
  uint32_t num_counted = 0;  // keys whose occurrences went into the group's filter
};

inline constexpr size_t kApplyRecordHeaderBytes = 48;
std::array<char, kApplyRecordHeaderBytes> EncodeApplyRecordHeader(const ApplyRecordHeader& header);

// A row's part: key, number of the update, summed gradient. Parts follow each other in no particular order,
// each key once.
inline constexpr size_t kApplyRowPrefixBytes = 16;
inline constexpr size_t ApplyRowBytes(size_t dim) { return kApplyRowPrefixBytes + sizeof(float) * dim; }

// Set in the number of an update: the key had no row, live or expired, before this call.
inline constexpr uint64_t kAbsentRowFlag = uint64_t{1} << 63;

// Behind the rows: a key that had no row, and how often it occurred in the call; it may have got one. Each
// key once, in no particular order.
inline constexpr size_t kCountedKeyBytes = 12;
void AppendCountedKey(uint64_t key, uint32_t occurrences, std::string* bytes);

// A record taken apart. Borrows its bytes.
class ApplyRecord {
 public:
  // DataLoss unless the bytes are a record of this type, whole, with counts, times and dims that can be.
  static StatusOr<ApplyRecord> Decode(std::string_view bytes);

  const ApplyRecordHeader& header() const { return header_; }
  uint64_t key(uint64_t i) const { return LoadLittleEndian<uint64_t>(Row(i)); }
  // The row's update_num after this update; 1 for a row that began with it.
  int64_t update_num(uint64_t i) const {
    return static_cast<int64_t>(LoadLittleEndian<uint64_t>(Row(i) + 8) & ~kAbsentRowFlag);
  }
  bool absent(uint64_t i) const { return (LoadLittleEndian<uint64_t>(Row(i) + 8) & kAbsentRowFlag) != 0; }
  // dim floats, aligned for float if the record is.
  const char* gradient(uint64_t i) const { return Row(i) + kApplyRowPrefixBytes; }

  uint64_t counted_key(uint64_t i) const { return LoadLittleEndian<uint64_t>(Counted(i)); }
  uint32_t occurrences(uint64_t i) const { return LoadLittleEndian<uint32_t>(Counted(i) + sizeof(uint64_t)); }

 private:
  ApplyRecord(const ApplyRecordHeader& header, const char* rows) : header_(header), rows_(rows) {}
  const char* Row(uint64_t i) const { return rows_ + i * ApplyRowBytes(header_.dim); }
  const char* Counted(uint64_t i) const { return Row(header_.num_rows) + i * kCountedKeyBytes; }

  ApplyRecordHeader header_;
  const char* rows_;
};

}  // namespace damo

#endif  // DAMO_REDO_APPLY_RECORD_H_
