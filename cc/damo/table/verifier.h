// SPDX-License-Identifier: Apache-2.0
//
// Verifier: looks for damage in files and rows, of a store or of a checkpoint, and goes on after each
// problem.
#ifndef DAMO_TABLE_VERIFIER_H_
#define DAMO_TABLE_VERIFIER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "damo/base/status.h"
#include "damo/storage/storage.h"
#include "damo/table/group_recipe.h"
#include "damo/table/verification.h"

namespace damo {

// Called now and then with the rows looked at and those there should be; a failure that it returns ends the
// work and is returned.
using VerifyProgress = std::function<Status(int64_t num_rows, int64_t num_expected_rows)>;

// Thread-compatible.
class Verifier {
 public:
  // What the manifest has of a group.
  struct Group {
    std::shared_ptr<const GroupRecipe> recipe;
    int64_t num_rows = 0;
    bool rows_released = false;  // num_rows may count rows that compactions have dropped
  };
  // By number.
  using Groups = std::map<int, Group>;
  // Visits all rows that are there of a group, whether it is one of the manifest's or not.
  using GroupScan = std::function<Status(int group, const ScanVisitor& visit)>;

  // `progress` may be null.
  Verifier(Groups expected, VerifyProgress progress);

  void AddProblem(std::string problem) { found_.AddProblem(std::move(problem)); }
  // Adds what is wrong with it, if anything is.
  void AddOutcome(const std::string& of_what, const Status& outcome) {
    if (!outcome.ok()) AddProblem(StrCat(of_what, ": ", outcome.message()));
  }

  // Counts a file that has been read. Fails if `progress` does, as do those below.
  Status AddFile(const std::string& name, const Status& outcome);
  // Reads the rows of all groups there can be: each must be a row, and finite; their numbers must be as
  // expected.
  Status VerifyGroups(const GroupScan& scan);
  // Reads what `storage` has of the groups' admission filters, in use or not.
  Status VerifyFilters(const Storage& storage);

  Verification TakeFound() { return std::move(found_); }

 private:
  Status Report();
  Status VerifyRows(int number, const Group& group, const GroupScan& scan);
  Status VerifyAbsent(int number, const GroupScan& scan);

  const Groups expected_;
  const VerifyProgress progress_;
  int64_t num_expected_rows_ = 0;
  Verification found_;
  Status stop_;
};

}  // namespace damo

#endif  // DAMO_TABLE_VERIFIER_H_
