// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/import_rows.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "damo/base/endian.h"
#include "damo/table/manifest.h"

namespace damo {
namespace {

// Rows that are looked for in the storage together.
constexpr size_t kRowsPerRead = 4096;

// Of more keys than this a table forgets all that is in memory, rather than those.
constexpr size_t kMaxForgottenKeys = size_t{1} << 20;

// Brings rows of a source into a sorted batch, a group after the other.
class Importer {
 public:
  Importer(RowSource& source, SortedBatch& batch) : source_(source), batch_(batch) {}

  // Before anything else: the first row.
  Status Begin() { return Advance(); }

  Status ImportGroup(uint8_t group, ImportMode mode, GroupEdit& edit) {
    edit.keys.emplace();
    DAMO_RETURN_IF_ERROR(mode == ImportMode::kMerge ? Merge(group, edit) : Replace(group, edit));
    return PutGroupState(group, edit.state, batch_);
  }

  // After the last group.
  StatusOr<int64_t> Finish() const {
    if (next_) return Internal("a row of group ", int{next_->group}, ", which is not to be imported");
    return num_rows_;
  }

 private:
  bool HasNextOf(uint8_t group) const { return next_ && next_->group == group; }

  Status Advance() {
    const std::optional<std::pair<uint8_t, uint64_t>> last =
        next_ ? std::optional(std::pair(next_->group, next_->key)) : std::nullopt;
    DAMO_ASSIGN_OR_RETURN(next_, source_.Next());
    if (next_ && last && *last == std::pair(next_->group, next_->key)) {
      return InvalidArgument("keys must be distinct. Received twice, in group ", int{next_->group}, ": ",
                             next_->key);
    }
    return Status();
  }

  // Puts the next row, and takes the one after it.
  Status PutNext(GroupEdit& edit) {
    DAMO_RETURN_IF_ERROR(batch_.PutRow(next_->group, next_->key, next_->bytes));
    Note(next_->key, edit);
    ++num_rows_;
    return Advance();
  }

  static void Note(uint64_t key, GroupEdit& edit) {
    if (!edit.keys) return;
    edit.keys->push_back(key);
    if (edit.keys->size() > kMaxForgottenKeys) edit.keys.reset();
  }

  Status Merge(uint8_t group, GroupEdit& edit) {
    const bool empty = edit.state.num_rows == 0;
    while (HasNextOf(group)) {
      const int64_t before = num_rows_;
      // Rows are put as they come; their keys are looked for in the storage, where the batch is not yet.
      chunk_.clear();
      while (HasNextOf(group) && chunk_.size() < kRowsPerRead) {
        chunk_.push_back(next_->key);
        DAMO_RETURN_IF_ERROR(PutNext(edit));
      }
      int64_t num_stored = 0;
      const auto count = [&](size_t /*index*/, std::optional<std::string_view> row) {
        num_stored += row ? 1 : 0;
        return Status();
      };
      if (!empty) DAMO_RETURN_IF_ERROR(edit.storage.MultiGet(group, chunk_, count));
      edit.state.num_rows += num_rows_ - before - num_stored;
    }
    return Status();
  }

  Status Replace(uint8_t group, GroupEdit& edit) {
    const int64_t before = num_rows_;
    DAMO_RETURN_IF_ERROR(edit.storage.Scan(group, [&](uint64_t key, std::string_view /*row*/) -> Status {
      while (HasNextOf(group) && next_->key < key) DAMO_RETURN_IF_ERROR(PutNext(edit));
      if (HasNextOf(group) && next_->key == key) return PutNext(edit);
      Note(key, edit);
      return batch_.DeleteRow(group, key);
    }));
    while (HasNextOf(group)) DAMO_RETURN_IF_ERROR(PutNext(edit));
    edit.state.num_rows = num_rows_ - before;
    return Status();
  }

  RowSource& source_;
  SortedBatch& batch_;
  std::optional<ImportedRow> next_;
  std::vector<uint64_t> chunk_;
  int64_t num_rows_ = 0;
};

}  // namespace

StatusOr<ImportMode> ParseImportMode(std::string_view name) {
  if (name == "merge") return ImportMode::kMerge;
  if (name == "replace") return ImportMode::kReplace;
  return InvalidArgument("`mode` must be 'merge' or 'replace'. Received: mode='", name, "'");
}

StatusOr<int64_t> ImportRows(Store& store, const std::vector<int64_t>& groups, ImportMode mode,
                             RowSource& source) {
  if (groups.empty()) return int64_t{0};
  int64_t num_rows = 0;
  const auto import = [&](std::vector<GroupEdit>& edits) -> Status {
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, edits.front().storage.NewSortedBatch());
    Importer importer(source, *batch);
    DAMO_RETURN_IF_ERROR(importer.Begin());
    for (size_t i = 0; i < groups.size(); ++i) {
      DAMO_RETURN_IF_ERROR(importer.ImportGroup(static_cast<uint8_t>(groups[i]), mode, edits[i]));
    }
    DAMO_ASSIGN_OR_RETURN(num_rows, importer.Finish());
    return batch->Commit();
  };
  DAMO_RETURN_IF_ERROR(store.EditGroups(groups, import));
  return num_rows;
}

std::string_view FreshRow::Make(uint8_t group, uint64_t key, std::string_view weights) {
  EncodeRowHeader({group, key, update_time_, /*update_num=*/1}, bytes_.data());
  std::memcpy(bytes_.data() + kRowHeaderBytes, weights.data(), weights.size());
  return bytes_;
}

Status CheckFinite(std::string_view what, uint64_t key, std::string_view bytes) {
  for (size_t i = 0; i < bytes.size(); i += sizeof(float)) {
    const auto value = LoadLittleEndian<float>(bytes.data() + i);
    if (!std::isfinite(value)) {
      return InvalidArgument(what, " must be finite. Received, of key ", key, ": ", value);
    }
  }
  return Status();
}

}  // namespace damo
