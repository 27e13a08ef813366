// SPDX-License-Identifier: Apache-2.0
#include "damo/table/verifier.h"

#include <cmath>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "damo/base/float_math.h"
#include "damo/table/group_filter.h"

namespace damo {
namespace {

// Rows looked at between two calls of `progress`.
constexpr int64_t kRowsPerReport = 65536;

// Where the float at `index` of a row's floats lies, for messages: "weights[3]", "slot 'm'[0]".
std::string FloatName(const GroupRecipe& recipe, size_t index) {
  const size_t dim = recipe.layout.dim();
  if (index < dim || dim == 0) return StrCat("weights[", index, "]");
  return StrCat("slot '", recipe.optimizer->slot_names()[index / dim - 1], "'[", index % dim, "]");
}

// Looks at rows of one group.
class RowCheck {
 public:
  explicit RowCheck(const GroupRecipe& recipe)
      : recipe_(recipe), floats_(recipe.layout.dim() + recipe.layout.slot_floats()) {}

  // What is wrong with the bytes of a row; OK if nothing is.
  Status Check(uint64_t key, std::string_view row) {
    const auto group = static_cast<uint8_t>(recipe_.config.group);
    DAMO_RETURN_IF_ERROR(DecodeRowHeader(row, recipe_.layout, group, key).status());
    std::memcpy(floats_.data(), row.data() + kRowHeaderBytes, floats_.size() * sizeof(float));
    if (AllFinite(floats_)) return Status();
    size_t i = 0;
    while (std::isfinite(floats_[i])) ++i;
    return DataLoss("row of key ", key, " has ", FloatName(recipe_, i), " = ", floats_[i],
                    ", expected finite");
  }

 private:
  const GroupRecipe& recipe_;
  std::vector<float> floats_;  // of the row, aligned
};

}  // namespace

Verifier::Verifier(Groups expected, VerifyProgress progress)
    : expected_(std::move(expected)), progress_(std::move(progress)) {
  for (const auto& [number, group] : expected_) num_expected_rows_ += group.num_rows;
}

// Progress between files and rows. A failure of the caller's own ends everything, unlike a problem.
Status Verifier::Report() {
  stop_ = progress_ ? progress_(found_.num_rows, num_expected_rows_) : Status();
  return stop_;
}

Status Verifier::AddFile(const std::string& name, const Status& outcome) {
  ++found_.num_files;
  AddOutcome(StrCat("file '", name, "'"), outcome);
  return Report();
}

Status Verifier::VerifyGroups(const GroupScan& scan) {
  for (int number = 0; number < kNumGroups; ++number) {
    const auto it = expected_.find(number);
    DAMO_RETURN_IF_ERROR(it == expected_.end() ? VerifyAbsent(number, scan)
                                               : VerifyRows(number, it->second, scan));
  }
  return Status();
}

Status Verifier::VerifyFilters(const Storage& storage) {
  for (const auto& [number, group] : expected_) {
    const std::optional<FilterOptions> filter = group.recipe->config.filter();
    if (!filter) continue;
    AddOutcome(StrCat("group ", number), StoredFilterFill(storage, number, *filter).status());
    DAMO_RETURN_IF_ERROR(Report());
  }
  return Status();
}

Status Verifier::VerifyRows(int number, const Group& group, const GroupScan& scan) {
  const int64_t before = found_.num_rows;
  RowCheck check(*group.recipe);
  const std::string name = StrCat("group ", number);
  const Status scanned = scan(number, [&](uint64_t key, std::string_view row) -> Status {
    AddOutcome(name, check.Check(key, row));
    return ++found_.num_rows % kRowsPerReport == 0 ? Report() : Status();
  });
  DAMO_RETURN_IF_ERROR(stop_);
  if (!scanned.ok()) {
    AddProblem(StrCat("group ", number, ": its rows cannot all be read: ", scanned.message()));
    return Status();
  }
  const int64_t num_rows = found_.num_rows - before;
  const bool dropped = group.rows_released && num_rows < group.num_rows;
  if (num_rows != group.num_rows && !dropped) {
    AddProblem(StrCat("group ", number, ": has ", num_rows, " rows, by the manifest ", group.num_rows));
  }
  return Status();
}

// A group that the manifest does not know.
Status Verifier::VerifyAbsent(int number, const GroupScan& scan) {
  int64_t num_rows = 0;
  const Status scanned = scan(number, [&](uint64_t, std::string_view) {
    ++num_rows;
    return Status();
  });
  // A damaged block can lie where the group would be; its file has been told of then.
  if (!scanned.ok() && found_.ok()) AddProblem(StrCat("group ", number, ": ", scanned.message()));
  if (num_rows > 0) {
    AddProblem(StrCat("group ", number, ": has ", num_rows, " rows, but the manifest has no such group"));
  }
  return Status();
}

}  // namespace damo
