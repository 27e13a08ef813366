// SPDX-License-Identifier: Apache-2.0
//
// Store's checkpoints: written, and restored. The rest of Store is in store.cc.
#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "damo/admission/counting_filter.h"
#include "damo/checkpoint/checkpoint_chain.h"
#include "damo/checkpoint/description.h"
#include "damo/checkpoint/staged_directory.h"
#include "damo/storage/copy_manifest.h"
#include "damo/storage/directory.h"
#include "damo/storage/merged_cursor.h"
#include "damo/table/cached_table.h"
#include "damo/table/described_groups.h"
#include "damo/table/store.h"

namespace damo {
namespace {

namespace fs = std::filesystem;

CheckpointDescription NewDescription(const StoreSession::Settings& settings) {
  CheckpointDescription description;
  description.id = NewCheckpointId();
  // Not the time of events: when the checkpoint was made is of interest to whoever keeps checkpoints.
  description.created_millis = (settings.clock != nullptr ? settings.clock : Clock::System())->NowMillis();
  description.seed = settings.seed;
  return description;
}

Status PublishWith(const CheckpointDescription& description, StagedDirectory& staged) {
  DAMO_RETURN_IF_ERROR(WriteDescription(description, staged.path()));
  return staged.Publish();
}

// Passes rows on, counts and reports them.
class CountingCursor final : public RowCursor {
 public:
  // `reporter` is borrowed.
  CountingCursor(std::unique_ptr<RowCursor> rows, RowReporter* reporter)
      : rows_(std::move(rows)), reporter_(reporter) {}
  bool Next() override {
    if (!reported_.ok() || !rows_->Next()) return false;
    ++num_rows_;
    reported_ = reporter_->Add();
    return reported_.ok();
  }
  uint64_t key() const override { return rows_->key(); }
  std::string_view row() const override { return rows_->row(); }
  Status status() const override { return reported_.ok() ? rows_->status() : reported_; }
  int64_t num_rows() const { return num_rows_; }

 private:
  const std::unique_ptr<RowCursor> rows_;
  RowReporter* const reporter_;
  Status reported_;
  int64_t num_rows_ = 0;
};

// ---- delta ----

Status WriteChangedRows(const StorageSnapshot& now, const CheckpointChain& base, const std::set<int>& groups,
                        Storage& to, RowReporter* reporter, CheckpointDescription::Base* counts) {
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, to.NewSortedBatch());
  for (const int number : groups) {
    const auto group = static_cast<uint8_t>(number);
    const auto put = [&](uint64_t key, std::optional<std::string_view> row) {
      ++(row ? counts->num_changed_rows : counts->num_deleted_rows);
      return batch->PutRow(group, key, row.value_or(kDeletedRow));
    };
    CountingCursor compared(now.NewCursor(group), reporter);
    DAMO_RETURN_IF_ERROR(DiffRows(*base.NewCursor(group), compared, put));
  }
  return batch->Commit();
}

// Fills `delta`, which is empty, and closes it.
Status FillDelta(Storage& delta, const StorageSnapshot& now, const CheckpointChain& base,
                 const std::set<int>& groups, RowReporter* reporter, CheckpointDescription::Base* counts) {
  const auto write = [&]() -> Status {
    DAMO_RETURN_IF_ERROR(CopyManifest(now, delta));
    return WriteChangedRows(now, base, groups, delta, reporter, counts);
  };
  const Status written = write();
  const Status closed = delta.Close();
  return written.ok() ? closed : written;
}

// ---- restore ----

// Compactions may have dropped rows of a group some of which have been released.
Status CheckNumRows(int group, int64_t num_rows, int64_t expected, bool rows_released) {
  if (num_rows == expected || (rows_released && num_rows < expected)) return Status();
  return DataLoss("the checkpoint has ", num_rows, " rows of group ", group, ", by its manifest ", expected);
}

// Writes what is not in a Manifest: as the checkpoint has it, byte by byte.
Status PutOtherEntries(const StorageSnapshot& now, const CheckpointChain& chain, SortedBatch& batch) {
  std::set<std::string, std::less<>> surplus;
  DAMO_RETURN_IF_ERROR(now.ScanManifest([&](std::string_view name, std::string_view /*value*/) {
    if (!IsManifestEntry(name)) surplus.emplace(name);
    return Status();
  }));
  DAMO_RETURN_IF_ERROR(chain.ScanManifest([&](std::string_view name, std::string_view value) {
    if (IsManifestEntry(name)) return Status();
    const auto it = surplus.find(name);
    if (it != surplus.end()) surplus.erase(it);
    return batch.PutManifest(name, value);
  }));
  for (const std::string& name : surplus) DAMO_RETURN_IF_ERROR(batch.DeleteManifest(name));
  return Status();
}

}  // namespace

// ---- write ----

Status Store::Checkpoint(const std::string& target, const ByteProgress& progress) {
  const auto checkpoint = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
    return WriteCheckpoint(*storage, target, progress);
  };
  return checkpoint().WithContext(StrCat("checkpoint store '", directory(), "' to '", target, "'"));
}

Status Store::WriteCheckpoint(Storage& storage, const std::string& target, const ByteProgress& progress) {
  DAMO_RETURN_IF_ERROR(CheckOutsideStore(target, directory()));
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StagedDirectory> staged, StagedDirectory::Begin(target));
  CheckpointDescription description = NewDescription(session_->settings());
  // Most of it before the locks, so that they are not held long.
  DAMO_RETURN_IF_ERROR(write_back_ != nullptr ? write_back_->Flush(storage) : SaveEventTime(storage));
  DAMO_RETURN_IF_ERROR(storage.Flush());
  std::unique_ptr<StorageImage> image;
  {
    // I/O under the locks on purpose, as in TakeSnapshot().
    const std::lock_guard<std::mutex> change_lock(change_mutex_);
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<std::shared_ptr<EmbeddingTable>> tables;
    for (const auto& [number, group] : groups_) tables.push_back(group.table);
    DAMO_RETURN_IF_ERROR(AtOneMoment(storage, tables, [&]() -> Status {
      for (const auto& table : tables) {
        description.groups.push_back(DescribeGroup(*table->recipe(), table->state()));
      }
      DAMO_ASSIGN_OR_RETURN(image, storage.NewImage());
      return Status();
    }));
  }
  DAMO_ASSIGN_OR_RETURN(description.files, image->WriteTo(staged->path(), progress));
  return PublishWith(description, *staged);
}

Status Store::CheckpointDelta(const std::string& target, const std::string& since,
                              const RowProgress& progress) {
  const auto checkpoint = [&]() -> Status {
    {
      DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
      if (write_back_ == nullptr) DAMO_RETURN_IF_ERROR(SaveEventTime(*storage));
    }
    return WriteDelta(target, since, progress);
  };
  return checkpoint().WithContext(
      StrCat("checkpoint changes of store '", directory(), "' since '", since, "' to '", target, "'"));
}

Status Store::WriteDelta(const std::string& target, const std::string& since, const RowProgress& progress) {
  DAMO_RETURN_IF_ERROR(CheckOutsideStore(target, directory()));
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointChain> base, CheckpointChain::Open(since));
  CheckpointDescription description = NewDescription(session_->settings());
  if (base->description().seed != description.seed) {
    return InvalidArgument("checkpoint '", since, "' has seed ", base->description().seed, ", the store has ",
                           description.seed);
  }
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StagedDirectory> staged, StagedDirectory::Begin(target));
  DAMO_ASSIGN_OR_RETURN(const fs::path base_path, ResolvePath(since));
  DAMO_ASSIGN_OR_RETURN(const fs::path target_path, ResolvePath(target));
  description.base =
      CheckpointDescription::Base{base->description().id, base_path.lexically_relative(target_path).string()};
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StoreSnapshot> now, TakeSnapshot());
  std::set<int> groups;
  int64_t num_total = 0;
  for (const CheckpointDescription::Group& group : base->description().groups) {
    groups.insert(group.config.group);
  }
  for (const auto& [number, group] : now->groups()) {
    groups.insert(number);
    num_total += group.state.num_rows;
    description.groups.push_back(DescribeGroup(*group.recipe, group.state));
  }
  const std::string database = staged->path() + "/" + kDeltaFolder;
  RowReporter reporter(progress, num_total);
  {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<Storage> delta, storage->NewStorageIn(database));
    DAMO_RETURN_IF_ERROR(FillDelta(*delta, now->stored(), *base, groups, &reporter, &*description.base));
  }
  std::error_code ignored;  // an empty folder does no harm
  fs::remove(fs::path(database) / kIngestFolder, ignored);
  DAMO_RETURN_IF_ERROR(reporter.Report());
  DAMO_ASSIGN_OR_RETURN(description.files, DescribeFiles(database, StrCat(kDeltaFolder, "/")));
  return PublishWith(description, *staged);
}

// ---- restore ----

Status Store::Restore(const std::vector<std::string>& directories, const RowProgress& progress) {
  const auto restore = [&]() -> Status {
    DAMO_RETURN_IF_ERROR(session_->BeginWrite().status());
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointChain> chain, CheckpointChain::Open(directories));
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
    return RestoreFrom(*storage, *chain, progress);
  };
  const std::string newest = directories.empty() ? "" : directories.back();
  return restore().WithContext(StrCat("restore store '", directory(), "' from '", newest, "'"));
}

Status Store::RestoreFrom(Storage& storage, CheckpointChain& chain, const RowProgress& progress) {
  // I/O under the lock on purpose: whoever adds a group waits to be told whether it is there, and a moment of
  // all groups is before the restore or after it.
  const std::lock_guard<std::mutex> change_lock(change_mutex_);
  DAMO_ASSIGN_OR_RETURN(RestoredGroups groups, PlanRestore(chain));
  // All that may fail comes before the commit: tables of groups that the store lacks, too.
  CachedTables cached;
  DAMO_ASSIGN_OR_RETURN(const TableMap new_tables, MakeNewTables(groups, storage, &cached));
  const auto replace = [&] { return ReplaceContent(storage, chain, groups, progress); };
  if (write_back_ != nullptr) {
    std::vector<WriteBackSource*> sources;
    for (const auto& [number, table] : cached) sources.push_back(table->source());
    DAMO_RETURN_IF_ERROR(write_back_->Replace(sources, replace));
  } else {
    DAMO_RETURN_IF_ERROR(AtOneMoment(storage, Tables(), replace));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [number, table] : new_tables) groups_[number].table = table;
  for (const auto& [number, group] : groups_) {
    // Best effort: the next apply call tries again, and fails if it must.
    if (group.asked_for) group.table->PrepareToApply(storage).IgnoreError();
  }
  return Status();
}

StatusOr<Store::TableMap> Store::MakeNewTables(const RestoredGroups& groups, const Storage& storage,
                                               CachedTables* cached) {
  TableMap tables;
  for (const auto& [number, group] : groups) {
    if (group.table != nullptr) continue;
    DAMO_ASSIGN_OR_RETURN(tables[number], MakeTable(group.recipe, group.state, storage, cached));
    tables[number]->set_rows_released(group.rows_released);
  }
  return tables;
}

StatusOr<Store::RestoredGroups> Store::PlanRestore(CheckpointChain& chain) const {
  DAMO_ASSIGN_OR_RETURN(const Manifest manifest,
                        LoadOrCreateManifest(chain.newest(), std::nullopt, /*read_only=*/true));
  DAMO_RETURN_IF_ERROR(CheckDescribedGroups(chain.description(), manifest));
  if (manifest.seed != session_->settings().seed) {
    return InvalidArgument("the checkpoint has seed ", manifest.seed, ", the store has ",
                           session_->settings().seed);
  }
  if (manifest.clock() != *options_.clock) {
    return InvalidArgument("the checkpoint has clock '", ClockName(manifest.clock()), "', the store has '",
                           ClockName(*options_.clock), "'");
  }
  RestoredGroups groups;
  groups.event_millis = manifest.event_millis.value_or(0);
  for (const auto& [number, config] : manifest.configs) {
    StatusOr<std::shared_ptr<const GroupRecipe>> recipe = MakeGroupRecipe(config, options_.ttl_seconds);
    if (!recipe.ok()) return recipe.status().WithContext(StrCat("group ", number));
    groups[number] = RestoredGroup{nullptr, std::move(*recipe), manifest.states.at(number),
                                   manifest.released.count(number) != 0};
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [number, has] : groups_) {
    RestoredGroup& group = groups[number];
    group.table = has.table;
    StatusOr<std::shared_ptr<const GroupRecipe>> recipe = RestoredRecipe(has, group.recipe);
    if (!recipe.ok()) return recipe.status().WithContext(StrCat("group ", number, " of the store"));
    group.recipe = std::move(*recipe);
  }
  DAMO_RETURN_IF_ERROR(CheckFiltersFit(groups));
  return groups;
}

StatusOr<std::shared_ptr<const GroupRecipe>> Store::RestoredRecipe(
    const Group& has, std::shared_ptr<const GroupRecipe> restored) const {
  const std::shared_ptr<const GroupRecipe> recipe = has.table->recipe();
  if (restored == nullptr) return recipe;
  // The pages will be the checkpoint's, so that their size must be; what nobody has asked for gives way.
  GroupConfig config = recipe->config;
  if (restored->config.filter()) {
    if (!has.asked_capacity) config.filter_capacity = restored->config.filter_capacity;
    if (!has.asked_fpr) config.filter_fpr = restored->config.filter_fpr;
  }
  DAMO_RETURN_IF_ERROR(CheckSameRows(config, restored->config));
  // Settings that someone has asked for since opening stay in force, as after opening anew.
  if (!has.asked_for) return restored;
  return MakeGroupRecipe(config, options_.ttl_seconds);
}

Status Store::CheckFiltersFit(const RestoredGroups& groups) const {
  int64_t filter_bytes = 0;
  for (const auto& [number, has] : groups_) {
    const GroupConfig& config = groups.at(number).recipe->config;
    if (!has.asked_for || config.min_count == 0) continue;
    DAMO_RETURN_IF_ERROR(
        CheckFilterFits(config, filter_bytes, *options_.memory_budget).WithContext(StrCat("group ", number)));
    filter_bytes += CountingFilter::FullBytes(*config.filter());
  }
  return Status();
}

// While nothing else writes. What was applied since the last flush is void: neither are rows newer in memory
// written, nor is the log replayed again.
Status Store::ReplaceContent(Storage& storage, const CheckpointChain& chain, const RestoredGroups& groups,
                             const RowProgress& progress) {
  DAMO_RETURN_IF_ERROR(session_->CheckStillWriting());
  // What is alike here and in the checkpoint is not written, and must not go as a row that expired after that
  // was made: the time may be about to go back.
  DAMO_RETURN_IF_ERROR(storage.RevokeReleases());
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<SortedBatch> batch, storage.NewSortedBatch());
  DAMO_RETURN_IF_ERROR(WriteContent(storage, chain, groups, progress, *batch));
  DAMO_RETURN_IF_ERROR(batch->Finish());
  Status committed = batch->Commit();
  if (!committed.ok()) {
    session_->StopWriting(FailedPrecondition(
        "a restore failed as it was recorded (", committed.message(),
        "); whether the store is as before or restored shows when it is opened again: close it and open it"));
    return committed;
  }
  if (session_->clock().is_event_clock()) session_->clock().Restore(groups.event_millis);
  for (const auto& [number, group] : groups) {
    if (group.table == nullptr) continue;
    group.table->BeginAnew(group.recipe, group.state);
    group.table->set_rows_released(group.rows_released);
  }
  // Records that stay are before the position in the manifest; the next flush deletes them.
  if (log_ != nullptr) log_->Trim(log_->next_lsn()).IgnoreError();
  return Status();
}

Status Store::WriteContent(Storage& storage, const CheckpointChain& chain, const RestoredGroups& groups,
                           const RowProgress& progress, SortedBatch& batch) const {
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StorageSnapshot> now, storage.NewSnapshot());
  int64_t num_total = 0;
  for (const auto& [number, group] : groups) num_total += group.state.num_rows;
  RowReporter reporter(progress, num_total);
  for (const auto& [number, group] : groups) {
    const auto byte = static_cast<uint8_t>(number);
    const auto write = [&](uint64_t key, std::optional<std::string_view> row) {
      return row ? batch.PutRow(byte, key, *row) : batch.DeleteRow(byte, key);
    };
    CountingCursor restored(chain.NewCursor(byte), &reporter);
    DAMO_RETURN_IF_ERROR(DiffRows(*now->NewCursor(byte), restored, write));
    DAMO_RETURN_IF_ERROR(
        CheckNumRows(number, restored.num_rows(), group.state.num_rows, group.rows_released));
    DAMO_RETURN_IF_ERROR(PutGroupConfig(group.recipe->config, batch));
    DAMO_RETURN_IF_ERROR(PutGroupState(number, group.state, batch));
  }
  DAMO_RETURN_IF_ERROR(reporter.Report());
  DAMO_RETURN_IF_ERROR(PutOtherEntries(*now, chain, batch));
  if (log_ == nullptr) return Status();
  const uint64_t end = log_->next_lsn();
  DAMO_RETURN_IF_ERROR(log_->Sync(end));  // the manifest must not name a record that loss of power can take
  return PutRedoLsn(end, batch);
}

}  // namespace damo
