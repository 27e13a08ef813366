// SPDX-License-Identifier: Apache-2.0
#include "damo/base/crc32c.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <string>

namespace damo {
namespace {

// From the definition: the remainder by the reflected polynomial 0x82f63b78, bit by bit.
uint32_t PlainCrc32c(std::string_view bytes) {
  uint32_t crc = ~uint32_t{0};
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
  }
  return ~crc;
}

// Bytes without a pattern.
std::string Noise(size_t size) {
  std::string bytes(size, '\0');
  uint32_t state = 12345;
  for (char& byte : bytes) byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

TEST(Crc32cTest, MatchesPublishedCheckValues) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);    // RFC 3720, B.4
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);  // RFC 3720, B.4
}

TEST(Crc32cTest, MatchesTheDefinitionAtEveryShortLengthAndAlignment) {
  const std::string noise = Noise(72);
  for (size_t start = 0; start < 8; ++start) {
    for (size_t length = 0; length <= 64; ++length) {
      const std::string_view bytes = std::string_view(noise).substr(start, length);
      ASSERT_EQ(Crc32c(bytes), PlainCrc32c(bytes)) << "start " << start << ", length " << length;
    }
  }
}

TEST(Crc32cTest, MatchesTheDefinitionOfLongInput) {
  const std::string noise = Noise(100003);
  EXPECT_EQ(Crc32c(noise), PlainCrc32c(noise));
}

TEST(Crc32cTest, ExtendedByPartsIsThatOfTheWhole) {
  const std::string noise = Noise(64);
  for (size_t cut = 0; cut <= noise.size(); ++cut) {
    const std::string_view whole(noise);
    ASSERT_EQ(ExtendCrc32c(Crc32c(whole.substr(0, cut)), whole.substr(cut)), Crc32c(whole)) << "cut " << cut;
  }
}

// Longer than ISA-L's int can say. Address space only: every page is the one page of zeros.
TEST(Crc32cTest, LengthBeyond31BitsIsThatOfItsParts) {
  const size_t size = (size_t{1} << 31) + 123457;
  void* const zeros = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(zeros, MAP_FAILED);
  const std::string_view whole(static_cast<const char*>(zeros), size);

  uint32_t expected = 0;
  constexpr size_t kPart = 100000007;
  for (size_t i = 0; i < size; i += kPart) expected = ExtendCrc32c(expected, whole.substr(i, kPart));

  EXPECT_EQ(Crc32c(whole), expected);
  munmap(zeros, size);
}

}  // namespace
}  // namespace damo
