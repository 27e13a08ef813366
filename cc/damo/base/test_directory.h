// SPDX-License-Identifier: Apache-2.0
//
// TestDirectory: an empty directory of a test's own, removed with all it holds when the test is over.
#ifndef DAMO_BASE_TEST_DIRECTORY_H_
#define DAMO_BASE_TEST_DIRECTORY_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

namespace damo {

class TestDirectory {
 public:
  TestDirectory() : path_(std::filesystem::path(testing::TempDir()) / "damo_test_XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "no temporary directory: " << path_;
  }
  ~TestDirectory() {
    std::error_code ignored;  // a leftover in the temporary directory fails no test
    std::filesystem::remove_all(path_, ignored);
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Copies a directory in which files go meanwhile: those that RocksDB has no more use for.
inline void CopyLiveDirectory(const std::string& from, const std::string& to) {
  std::error_code error;
  do {
    std::filesystem::remove_all(to);
    std::filesystem::copy(from, to, std::filesystem::copy_options::recursive, error);
  } while (error == std::errc::no_such_file_or_directory);
  ASSERT_FALSE(error) << error.message();
}

}  // namespace damo

#endif  // DAMO_BASE_TEST_DIRECTORY_H_
