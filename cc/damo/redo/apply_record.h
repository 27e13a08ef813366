// SPDX-License-Identifier: Apache-2.0
//
// ApplyRecord: one apply call as the redo log keeps it: which rows took a step, from which gradients. Byte by
// byte in docs/redo_format.md.
#ifndef DAMO_REDO_APPLY_RECORD_H_
#define DAMO_REDO_APPLY_RECORD_H_

#include <array>
#include <cstddef>
#include <cstdint>
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
};

inline constexpr size_t kApplyRecordHeaderBytes = 48;
std::array<char, kApplyRecordHeaderBytes> EncodeApplyRecordHeader(const ApplyRecordHeader& header);

// A row's part: key, number of the update, summed gradient. Parts follow each other in no particular order,
// each key once.
inline constexpr size_t kApplyRowPrefixBytes = 16;
inline constexpr size_t ApplyRowBytes(size_t dim) { return kApplyRowPrefixBytes + sizeof(float) * dim; }

// Set in the number of an update: the key had no row, live or expired, before this call.
inline constexpr uint64_t kAbsentRowFlag = uint64_t{1} << 63;

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

 private:
  ApplyRecord(const ApplyRecordHeader& header, const char* rows) : header_(header), rows_(rows) {}
  const char* Row(uint64_t i) const { return rows_ + i * ApplyRowBytes(header_.dim); }

  ApplyRecordHeader header_;
  const char* rows_;
};

}  // namespace damo

#endif  // DAMO_REDO_APPLY_RECORD_H_
