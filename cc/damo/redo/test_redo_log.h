// SPDX-License-Identifier: Apache-2.0
//
// Redo logs in tests: whole files, and records as a map.
#ifndef DAMO_REDO_TEST_REDO_LOG_H_
#define DAMO_REDO_TEST_REDO_LOG_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "damo/redo/redo_log.h"

namespace damo {

using Records = std::map<uint64_t, std::string>;

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

inline void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << bytes;
  EXPECT_TRUE(file.flush()) << path;
}

// Opens or ends the test program: for the lines of a test that are not about opening.
inline std::unique_ptr<RedoLog> MustOpenRedoLog(const RedoLog::Options& options) {
  auto log = OpenRedoLog(options);
  if (!log.ok()) {
    ADD_FAILURE() << log.status().ToString();
    std::abort();
  }
  return std::move(*log);
}

inline std::unique_ptr<RedoLog> MustOpenRedoLog(const std::string& directory, uint64_t first_lsn,
                                                uint64_t segment_bytes = uint64_t{64} << 20) {
  RedoLog::Options options;
  options.directory = directory;
  options.first_lsn = first_lsn;
  options.segment_bytes = segment_bytes;
  return MustOpenRedoLog(options);
}

inline StatusOr<uint64_t> AppendRecord(RedoLog* log, std::string_view record) {
  const std::string_view pieces[] = {record};
  return log->Append(pieces);
}

// Adds the records that are read to `records`.
inline StatusOr<uint64_t> ReadInto(Records* records, const std::string& directory, uint64_t first_lsn,
                                   LogFileSystem* file_system = nullptr) {
  const auto add = [&](uint64_t lsn, std::string_view record) {
    EXPECT_TRUE(records->empty() || records->rbegin()->first + 1 == lsn) << lsn;
    (*records)[lsn] = std::string(record);
    return Status();
  };
  return ReadRedoLog(directory, first_lsn, add, file_system);
}

// Those of a log that must be readable, and end where ReadRedoLog() says.
inline Records ReadRecords(const std::string& directory, uint64_t first_lsn,
                           LogFileSystem* file_system = nullptr) {
  Records records;
  const auto end = ReadInto(&records, directory, first_lsn, file_system);
  EXPECT_TRUE(end.ok()) << end.status().ToString();
  const uint64_t expected = records.empty() ? first_lsn : records.rbegin()->first + 1;
  EXPECT_EQ(end.ok() ? *end : expected, expected);
  return records;
}

}  // namespace damo

#endif  // DAMO_REDO_TEST_REDO_LOG_H_
