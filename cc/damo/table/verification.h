// SPDX-License-Identifier: Apache-2.0
//
// Verification: what Store::Verify() finds.
#ifndef DAMO_TABLE_VERIFICATION_H_
#define DAMO_TABLE_VERIFICATION_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace damo {

// Thread-compatible.
class Verification {
 public:
  // So many are told one by one. In a file that is damaged from end to end, one says as much as a million.
  static constexpr size_t kMaxProblems = 100;

  void AddProblem(std::string problem) {
    if (problems_.size() < kMaxProblems) {
      problems_.push_back(std::move(problem));
    } else {
      ++num_more_problems_;
    }
  }

  bool ok() const { return problems_.empty(); }
  const std::vector<std::string>& problems() const { return problems_; }
  int64_t num_more_problems() const { return num_more_problems_; }  // that are not among them

  int64_t num_files = 0;
  int64_t num_rows = 0;

 private:
  std::vector<std::string> problems_;
  int64_t num_more_problems_ = 0;
};

}  // namespace damo

#endif  // DAMO_TABLE_VERIFICATION_H_
