// SPDX-License-Identifier: Apache-2.0
//
// The bytes of redo segments: names, the header of a segment, the header of a frame. docs/redo_format.md.
#ifndef DAMO_REDO_REDO_FORMAT_H_
#define DAMO_REDO_REDO_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "damo/base/status.h"

namespace damo {

inline constexpr uint32_t kRedoFormatVersion = 1;
inline constexpr size_t kSegmentHeaderBytes = 24;
inline constexpr size_t kFrameHeaderBytes = 32;
// Frames begin at multiples of this, so that looking for one behind damage is cheap.
inline constexpr size_t kFrameAlignment = 8;

// Name of the file of a segment, and back; nullopt for the name of anything else.
std::string SegmentName(uint64_t first_lsn);
std::optional<uint64_t> ParseSegmentName(std::string_view name);

// First LSNs of the segments in `directory`, ascending; none if it is absent.
StatusOr<std::vector<uint64_t>> ListSegments(const std::string& directory);
std::string SegmentPath(const std::string& directory, uint64_t first_lsn);

struct SegmentHeader {
  uint32_t version = kRedoFormatVersion;
  uint64_t first_lsn = 0;
};
std::array<char, kSegmentHeaderBytes> EncodeSegmentHeader(const SegmentHeader& header);
// nullopt unless `bytes` begin with a whole header whose magic and checksum are right. Of any version.
std::optional<SegmentHeader> DecodeSegmentHeader(std::string_view bytes);

struct FrameHeader {
  uint32_t body_crc = 0;  // of the record and its padding
  uint64_t lsn = 0;
  uint64_t synced_lsn = 0;  // the records before it had been synced when this one was written
  uint64_t record_bytes = 0;
};
std::array<char, kFrameHeaderBytes> EncodeFrameHeader(const FrameHeader& header);
// nullopt unless `bytes` begin with a whole header whose checksum is right.
std::optional<FrameHeader> DecodeFrameHeader(std::string_view bytes);

// Zeros that follow a record of so many bytes.
inline constexpr size_t FramePadding(uint64_t record_bytes) { return (~record_bytes + 1) % kFrameAlignment; }

}  // namespace damo

#endif  // DAMO_REDO_REDO_FORMAT_H_
