// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/convert_store.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "damo/base/float_environment.h"
#include "damo/checkpoint/staged_directory.h"
#include "damo/row/row_codec.h"
#include "damo/storage/copy_manifest.h"
#include "damo/storage/directory.h"
#include "damo/storage/rocksdb_storage.h"
#include "damo/table/group_recipe.h"
#include "damo/table/manifest.h"
#include "damo/table/store_snapshot.h"

namespace damo {
namespace {

// Rows copied between two calls of `progress`.
constexpr int64_t kRowsPerReport = 65536;

// Of the new store while it is written: rows come in one sorted batch.
constexpr int64_t kMemoryBudget = int64_t{8} << 20;

// Makes rows of one recipe of rows of another.
class RowConverter {
 public:
  RowConverter(const GroupRecipe& from, const GroupRecipe& to, uint64_t seed)
      : from_(from), to_(to), seed_(seed), weights_(to.layout.dim()), row_(to.layout.row_bytes(), '\0') {}

  // Valid until the next call.
  StatusOr<std::string_view> Convert(uint64_t key, std::string_view row) {
    const auto group = static_cast<uint8_t>(to_.config.group);
    DAMO_ASSIGN_OR_RETURN(RowHeader header, DecodeRowHeader(row, from_.layout, group, key));
    header.update_num = 1;
    EncodeRowHeader(header, row_.data());
    const size_t num_kept = std::min(from_.layout.dim(), to_.layout.dim());
    if (num_kept < weights_.size()) {
      const ScopedFloatEnvironment environment;
      to_.initializer->Fill(RowRandom(seed_, group, key), weights_);
    }
    std::memcpy(weights_.data(), row.data() + kRowHeaderBytes, sizeof(float) * num_kept);
    std::memcpy(row_.data() + kRowHeaderBytes, weights_.data(), sizeof(float) * weights_.size());
    return std::string_view(row_);
  }

 private:
  const GroupRecipe& from_;
  const GroupRecipe& to_;
  const uint64_t seed_;
  std::vector<float> weights_;
  std::string row_;  // its slots stay zero
};

// The recipe that the group is to have.
StatusOr<std::shared_ptr<const GroupRecipe>> NewRecipe(const Store& store, const StoreSnapshot& snapshot,
                                                       const GroupConversion& conversion) {
  DAMO_RETURN_IF_ERROR(ValidateGroup(conversion.group));
  const auto it = snapshot.groups().find(static_cast<int>(conversion.group));
  if (it == snapshot.groups().end()) return NotFound("the store has no group ", conversion.group);
  GroupConfig config = it->second.recipe->config;
  if (conversion.dim) config.dim = *conversion.dim;
  if (conversion.optimizer) config.optimizer = *conversion.optimizer;
  StatusOr<std::shared_ptr<const GroupRecipe>> recipe = MakeGroupRecipe(config, store.options().ttl_seconds);
  if (!recipe.ok()) return recipe.status().WithContext(StrCat("group ", conversion.group));
  return recipe;
}

Status CheckWhole(const StoreSnapshot& snapshot) {
  for (const auto& [number, group] : snapshot.groups()) {
    if (group.logged_steps == 0) continue;
    return FailedPrecondition("group ", number, " has ", group.logged_steps,
                              " steps in a redo log; open the store for writing, or convert a checkpoint");
  }
  return Status();
}

Status WriteManifest(const StoreSnapshot& snapshot, const GroupRecipe& new_recipe, Storage& to) {
  DAMO_RETURN_IF_ERROR(CopyManifest(snapshot.stored(), to));
  const std::unique_ptr<StorageBatch> batch = to.NewBatch();
  DAMO_RETURN_IF_ERROR(PutGroupConfig(new_recipe.config, *batch));
  return to.Write(*batch);
}

StatusOr<int64_t> WriteRows(const StoreSnapshot& snapshot, const GroupRecipe& new_recipe, uint64_t seed,
                            const ConvertProgress& progress, Storage& to) {
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, to.NewSortedBatch());
  int64_t num_rows = 0;
  for (const auto& [number, group] : snapshot.groups()) {
    const int64_t num_before = num_rows;
    RowConverter converter(*group.recipe, new_recipe, seed);
    const bool converted = number == new_recipe.config.group;
    const auto copy = [&, number = static_cast<uint8_t>(number)](uint64_t key,
                                                                 std::string_view row) -> Status {
      if (converted) {
        DAMO_ASSIGN_OR_RETURN(row, converter.Convert(key, row));
      }
      DAMO_RETURN_IF_ERROR(batch->PutRow(number, key, row));
      return ++num_rows % kRowsPerReport == 0 && progress ? progress(num_rows) : Status();
    };
    DAMO_RETURN_IF_ERROR(snapshot.Scan(number, copy));
    DAMO_RETURN_IF_ERROR(PutGroupState(number, {group.state.step, num_rows - num_before}, *batch));
  }
  DAMO_RETURN_IF_ERROR(batch->Commit());
  return num_rows;
}

StatusOr<int64_t> WriteStore(const StoreSnapshot& snapshot, const GroupRecipe& new_recipe, uint64_t seed,
                             const ConvertProgress& progress, const std::string& directory) {
  RocksDbStorageOptions options;
  options.memory_budget = kMemoryBudget;
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<Storage> storage, OpenRocksDbStorage(directory, options));
  const auto write = [&]() -> StatusOr<int64_t> {
    DAMO_RETURN_IF_ERROR(WriteManifest(snapshot, new_recipe, *storage));
    return WriteRows(snapshot, new_recipe, seed, progress, *storage);
  };
  StatusOr<int64_t> num_rows = write();
  const Status closed = storage->Close();
  return num_rows.ok() && !closed.ok() ? closed : num_rows;
}

}  // namespace

StatusOr<int64_t> ConvertStore(const Store& store, const std::string& directory,
                               const GroupConversion& conversion, const ConvertProgress& progress) {
  const auto convert = [&]() -> StatusOr<int64_t> {
    DAMO_RETURN_IF_ERROR(CheckOutsideStore(directory, store.directory()));
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StoreSnapshot> snapshot, store.TakeSnapshot());
    DAMO_RETURN_IF_ERROR(CheckWhole(*snapshot));
    DAMO_ASSIGN_OR_RETURN(const std::shared_ptr<const GroupRecipe> recipe,
                          NewRecipe(store, *snapshot, conversion));
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StagedDirectory> staged, StagedDirectory::Begin(directory));
    DAMO_ASSIGN_OR_RETURN(const int64_t num_rows,
                          WriteStore(*snapshot, *recipe, *store.options().seed, progress, staged->path()));
    DAMO_RETURN_IF_ERROR(staged->Publish());
    return num_rows;
  };
  StatusOr<int64_t> num_rows = convert();
  if (!num_rows.ok()) {
    return num_rows.status().WithContext(
        StrCat("convert store '", store.directory(), "' to '", directory, "'"));
  }
  return num_rows;
}

}  // namespace damo
