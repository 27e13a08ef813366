// SPDX-License-Identifier: Apache-2.0
//
// TestDirectory: an empty directory of a test's own, removed with all it holds when the test is over.
#ifndef DAMO_BASE_TEST_DIRECTORY_H_
#define DAMO_BASE_TEST_DIRECTORY_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <map>
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

// Copies a directory that is in use, as it is at some moment: files come and go while RocksDB tidies up.
inline void CopyLiveDirectory(const std::string& from, const std::string& to) {
  namespace fs = std::filesystem;
  const auto list = [&from] {
    std::map<std::string, uintmax_t> sizes;
    std::error_code gone;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(from, gone)) {
      if (entry.is_regular_file(gone)) sizes[entry.path().string()] = entry.file_size(gone);
    }
    return sizes;
  };
  std::error_code error;
  std::map<std::string, uintmax_t> before;
  do {
    before = list();
    fs::remove_all(to);
    fs::copy(from, to, fs::copy_options::recursive, error);
  } while (error == std::errc::no_such_file_or_directory || list() != before);
  ASSERT_FALSE(error) << error.message();
}

}  // namespace damo

#endif  // DAMO_BASE_TEST_DIRECTORY_H_
