// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/write_behind.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <thread>

#include "damo/base/test_status.h"

namespace damo {
namespace {

constexpr size_t kBufferBytes = WriteBehind::kBufferBytes;

Status Append(WriteBehind& stream, std::string_view bytes) {
  DAMO_ASSIGN_OR_RETURN(char* const room, stream.Append(bytes.size()));
  std::memcpy(room, bytes.data(), bytes.size());
  return Status();
}

TEST(WriteBehindTest, WritesWhatWasAppendedInOrderOnAnotherThread) {
  std::string written;
  bool is_other_thread = true;
  const std::thread::id caller = std::this_thread::get_id();
  WriteBehind stream([&](std::string_view part) {
    is_other_thread &= std::this_thread::get_id() != caller;
    written += part;
    return Status();
  });
  std::string appended;
  std::mt19937_64 random(7);
  const auto append = [&](size_t num_bytes) {
    const std::string bytes(num_bytes, static_cast<char>('a' + random() % 26));
    ASSERT_OK(Append(stream, bytes));
    appended += bytes;
  };
  while (appended.size() < 3 * kBufferBytes) append(random() % (kBufferBytes / 7));
  append(kBufferBytes);
  append(0);
  ASSERT_OK(stream.Flush());
  EXPECT_TRUE(written == appended);
  append(3);
  ASSERT_OK(stream.Flush());
  ASSERT_OK(stream.Flush());
  EXPECT_TRUE(written == appended);
  EXPECT_TRUE(is_other_thread);
}

TEST(WriteBehindTest, NothingIsWrittenBehindAPartThatCouldNotBe) {
  int num_calls = 0;
  WriteBehind stream([&](std::string_view /*part*/) {
    ++num_calls;
    return IoError("no room");
  });
  const std::string part(kBufferBytes, 'p');
  ASSERT_OK(Append(stream, part));
  ASSERT_OK(Append(stream, part)) << "the first is on its way";
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(FailsWith(Append(stream, part), StatusCode::kIoError, "no room"));
    EXPECT_TRUE(FailsWith(stream.Flush(), StatusCode::kIoError, "no room"));
  }
  EXPECT_EQ(num_calls, 1);
}

TEST(WriteBehindTest, AnExceptionIsAFailure) {
  WriteBehind stream([](std::string_view /*part*/) -> Status { throw std::string("thrown"); });
  ASSERT_OK(Append(stream, "bytes"));
  EXPECT_TRUE(FailsWith(stream.Flush(), StatusCode::kInternal, "exception of unknown type"));
}

TEST(WriteBehindTest, MayGoBeforeItIsFlushed) {
  WriteBehind stream([](std::string_view /*part*/) { return Status(); });
  ASSERT_OK(Append(stream, std::string(kBufferBytes, 'p')));
  ASSERT_OK(Append(stream, "more"));
}

}  // namespace
}  // namespace damo
