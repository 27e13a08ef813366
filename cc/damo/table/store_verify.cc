// SPDX-License-Identifier: Apache-2.0
//
// Store::Verify(): reads every file and every row, and goes on after each problem.
#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "damo/base/endian.h"
#include "damo/table/store.h"

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

// What is wrong with the bytes of a row; OK if nothing is.
Status CheckRow(const GroupRecipe& recipe, uint64_t key, std::string_view row) {
  const auto group = static_cast<uint8_t>(recipe.config.group);
  DAMO_RETURN_IF_ERROR(DecodeRowHeader(row, recipe.layout, group, key).status());
  const std::string_view floats = row.substr(kRowHeaderBytes);
  for (size_t i = 0; i < floats.size() / sizeof(float); ++i) {
    const auto value = LoadLittleEndian<float>(floats.data() + i * sizeof(float));
    if (!std::isfinite(value)) {
      return DataLoss("row of key ", key, " has ", FloatName(recipe, i), " = ", value, ", expected finite");
    }
  }
  return Status();
}

class StoreVerifier {
 public:
  StoreVerifier(const StoreSnapshot& snapshot, const Store::VerifyProgress& progress)
      : snapshot_(snapshot), progress_(progress) {
    for (const auto& [number, group] : snapshot.groups()) num_expected_rows_ += group.state.num_rows;
  }

  Status VerifyFiles(const Storage& storage) {
    return storage.VerifyFiles([&](const std::string& name, const Status& outcome) -> Status {
      ++found_.num_files;
      if (!outcome.ok()) found_.AddProblem(StrCat("file '", name, "': ", outcome.message()));
      return Report();
    });
  }

  Status VerifyGroup(int number) {
    const auto it = snapshot_.groups().find(number);
    return it == snapshot_.groups().end() ? VerifyAbsent(number) : VerifyRows(number, it->second);
  }

  Verification TakeFound() { return std::move(found_); }

 private:
  // Progress between files and rows. A failure of the caller's own ends everything, unlike a problem.
  Status Report() {
    stop_ = progress_ ? progress_(found_.num_rows, num_expected_rows_) : Status();
    return stop_;
  }

  Status VerifyRows(int number, const StoreSnapshot::Group& group) {
    const int64_t before = found_.num_rows;
    const Status scanned = snapshot_.Scan(number, [&](uint64_t key, std::string_view row) -> Status {
      const Status checked = CheckRow(*group.recipe, key, row);
      if (!checked.ok()) found_.AddProblem(StrCat("group ", number, ": ", checked.message()));
      return ++found_.num_rows % kRowsPerReport == 0 ? Report() : Status();
    });
    DAMO_RETURN_IF_ERROR(stop_);
    if (!scanned.ok()) {
      found_.AddProblem(StrCat("group ", number, ": its rows cannot all be read: ", scanned.message()));
      return Status();
    }
    const int64_t num_rows = found_.num_rows - before;
    const bool dropped = group.rows_released && num_rows < group.state.num_rows;
    if (num_rows != group.state.num_rows && !dropped) {
      found_.AddProblem(
          StrCat("group ", number, ": has ", num_rows, " rows, by the manifest ", group.state.num_rows));
    }
    return Status();
  }

  // A group that the manifest does not know.
  Status VerifyAbsent(int number) {
    int64_t num_rows = 0;
    const Status scanned =
        snapshot_.stored().Scan(static_cast<uint8_t>(number), [&](uint64_t, std::string_view) {
          ++num_rows;
          return Status();
        });
    // A damaged block can lie where the group would be; its file has been told of then.
    if (!scanned.ok() && found_.ok()) found_.AddProblem(StrCat("group ", number, ": ", scanned.message()));
    if (num_rows > 0) {
      found_.AddProblem(
          StrCat("group ", number, ": has ", num_rows, " rows, but the manifest has no such group"));
    }
    return Status();
  }

  const StoreSnapshot& snapshot_;
  const Store::VerifyProgress& progress_;
  int64_t num_expected_rows_ = 0;
  Verification found_;
  Status stop_;
};

}  // namespace

StatusOr<Verification> Store::Verify(const VerifyProgress& progress) const {
  const auto verify = [&]() -> StatusOr<Verification> {
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StoreSnapshot> snapshot, TakeSnapshot());
    StoreVerifier verifier(*snapshot, progress);
    {
      DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
      DAMO_RETURN_IF_ERROR(verifier.VerifyFiles(*storage));
    }
    for (int group = 0; group < kNumGroups; ++group) DAMO_RETURN_IF_ERROR(verifier.VerifyGroup(group));
    return verifier.TakeFound();
  };
  StatusOr<Verification> found = verify();
  if (!found.ok()) return found.status().WithContext(StrCat("verify store '", directory(), "'"));
  return found;
}

}  // namespace damo
