// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/redo_format.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <system_error>

#include "damo/base/crc32c.h"
#include "damo/base/endian.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

// Twenty digits hold any LSN, so that the order of names is that of LSNs.
constexpr size_t kNameDigits = 20;
constexpr std::string_view kNameSuffix = ".redo";

// On disk: never renumber. Magic, version and checksum stand where they are in every version.
constexpr std::string_view kMagic = "DAMOREDO";
constexpr size_t kFirstLsnOffset = 8;     // uint64
constexpr size_t kVersionOffset = 16;     // uint32
constexpr size_t kSegmentCrcOffset = 20;  // uint32, of what is before it

// On disk: never renumber.
constexpr size_t kFrameCrcOffset = 0;      // uint32, of the header's other fields
constexpr size_t kBodyCrcOffset = 4;       // uint32
constexpr size_t kLsnOffset = 8;           // uint64
constexpr size_t kSyncedLsnOffset = 16;    // uint64
constexpr size_t kRecordBytesOffset = 24;  // uint64

uint32_t SegmentHeaderCrc(const char* header) { return Crc32c({header, kSegmentCrcOffset}); }
uint32_t FrameHeaderCrc(const char* header) {
  return Crc32c({header + kBodyCrcOffset, kFrameHeaderBytes - kBodyCrcOffset});
}

}  // namespace

std::string SegmentName(uint64_t first_lsn) {
  const std::string digits = std::to_string(first_lsn);
  return std::string(kNameDigits - digits.size(), '0').append(digits).append(kNameSuffix);
}

std::optional<uint64_t> ParseSegmentName(std::string_view name) {
  if (name.size() != kNameDigits + kNameSuffix.size() || name.substr(kNameDigits) != kNameSuffix) {
    return std::nullopt;
  }
  uint64_t first_lsn = 0;
  const char* const end = name.data() + kNameDigits;
  const auto [stop, error] = std::from_chars(name.data(), end, first_lsn);
  if (error != std::errc() || stop != end) return std::nullopt;
  return first_lsn;
}

StatusOr<std::vector<uint64_t>> ListSegments(const std::string& directory) {
  std::vector<uint64_t> first_lsns;
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  if (error == std::errc::no_such_file_or_directory) return first_lsns;
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const auto first_lsn = ParseSegmentName(entry->path().filename().string());
    if (first_lsn) first_lsns.push_back(*first_lsn);
  }
  if (error) return IoError("list directory '", directory, "': ", error.message());
  std::sort(first_lsns.begin(), first_lsns.end());
  return first_lsns;
}

std::string SegmentPath(const std::string& directory, uint64_t first_lsn) {
  return directory + "/" + SegmentName(first_lsn);
}

std::array<char, kSegmentHeaderBytes> EncodeSegmentHeader(const SegmentHeader& header) {
  std::array<char, kSegmentHeaderBytes> bytes;
  std::copy(kMagic.begin(), kMagic.end(), bytes.begin());
  StoreLittleEndian<uint64_t>(header.first_lsn, bytes.data() + kFirstLsnOffset);
  StoreLittleEndian<uint32_t>(header.version, bytes.data() + kVersionOffset);
  StoreLittleEndian<uint32_t>(SegmentHeaderCrc(bytes.data()), bytes.data() + kSegmentCrcOffset);
  return bytes;
}

std::optional<SegmentHeader> DecodeSegmentHeader(std::string_view bytes) {
  if (bytes.size() < kSegmentHeaderBytes || bytes.substr(0, kMagic.size()) != kMagic) return std::nullopt;
  const auto crc = LoadLittleEndian<uint32_t>(bytes.data() + kSegmentCrcOffset);
  if (crc != SegmentHeaderCrc(bytes.data())) return std::nullopt;
  SegmentHeader header;
  header.version = LoadLittleEndian<uint32_t>(bytes.data() + kVersionOffset);
  header.first_lsn = LoadLittleEndian<uint64_t>(bytes.data() + kFirstLsnOffset);
  return header;
}

std::array<char, kFrameHeaderBytes> EncodeFrameHeader(const FrameHeader& header) {
  std::array<char, kFrameHeaderBytes> bytes;
  StoreLittleEndian<uint32_t>(header.body_crc, bytes.data() + kBodyCrcOffset);
  StoreLittleEndian<uint64_t>(header.lsn, bytes.data() + kLsnOffset);
  StoreLittleEndian<uint64_t>(header.synced_lsn, bytes.data() + kSyncedLsnOffset);
  StoreLittleEndian<uint64_t>(header.record_bytes, bytes.data() + kRecordBytesOffset);
  StoreLittleEndian<uint32_t>(FrameHeaderCrc(bytes.data()), bytes.data() + kFrameCrcOffset);
  return bytes;
}

std::optional<FrameHeader> DecodeFrameHeader(std::string_view bytes) {
  if (bytes.size() < kFrameHeaderBytes) return std::nullopt;
  const auto crc = LoadLittleEndian<uint32_t>(bytes.data() + kFrameCrcOffset);
  if (crc != FrameHeaderCrc(bytes.data())) return std::nullopt;
  FrameHeader header;
  header.body_crc = LoadLittleEndian<uint32_t>(bytes.data() + kBodyCrcOffset);
  header.lsn = LoadLittleEndian<uint64_t>(bytes.data() + kLsnOffset);
  header.synced_lsn = LoadLittleEndian<uint64_t>(bytes.data() + kSyncedLsnOffset);
  header.record_bytes = LoadLittleEndian<uint64_t>(bytes.data() + kRecordBytesOffset);
  return header;
}

}  // namespace damo
