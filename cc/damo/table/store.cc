// SPDX-License-Identifier: Apache-2.0
#include "damo/table/store.h"

#include <utility>

#include "damo/admission/counting_filter.h"
#include "damo/base/idle_memory.h"
#include "damo/row/key.h"
#include "damo/storage/overlay_storage.h"
#include "damo/table/cached_table.h"
#include "damo/table/direct_table.h"

namespace damo {
namespace {

std::string RedoDirectory(const std::string& directory) { return directory + "/redo"; }

// Of a reader that has found nothing in the log. If its rows are still the latest, there is nothing; else a
// flush may have ended after the rows were opened and have left no segment: then the records that belong to
// these rows are gone. A single record shows that they are not: the log begins with the first one wanted.
Status CheckUpToDate(const Storage& storage) {
  DAMO_ASSIGN_OR_RETURN(const bool up_to_date, storage.UpToDate());
  if (up_to_date) return Status();
  return IoError("the process that writes it has moved on while it was being opened");
}

// A power of two, so that budgets which are nearly the same mostly have the same filter: what an eighth of
// the rows' memory has room for, kDefaultFilterCapacity at most.
int64_t DefaultFilterCapacity(int64_t cache_bytes, double fpr) {
  constexpr int64_t kMinCapacity = 1024;
  FilterOptions options;
  options.capacity = kDefaultFilterCapacity;
  options.fpr = fpr;
  while (options.capacity > kMinCapacity && CountingFilter::FullBytes(options) > cache_bytes / 8) {
    options.capacity /= 2;
  }
  return options.capacity;
}

}  // namespace

StatusOr<std::unique_ptr<Store>> Store::Open(std::string directory, const StoreOptions& asked,
                                             std::unique_ptr<Storage> storage, const Clock* clock,
                                             LogFileSystem* log_files) {
  StoreOptions options = asked;
  options.memory_budget = asked.memory_budget.value_or(StoreOptions::kDefaultMemoryBudget);
  options.durability = asked.durability.value_or(Durability::kWal);
  options.read_only = asked.read_only.value_or(false);
  options.row_cache = asked.row_cache.value_or(true);

  if (*options.read_only) {
    const int64_t bytes = PlanMemory(*options.memory_budget).overlay_bytes;
    storage = NewOverlayStorage(std::move(storage), [bytes] { return MakeTemporaryTop(bytes); });
  }
  const std::string context = StrCat("open store '", directory, "'");
  StatusOr<Manifest> manifest = LoadOrCreateManifest(*storage, asked.seed, *options.read_only, asked.clock);
  if (!manifest.ok()) {
    storage->Close().IgnoreError();  // the first failure is the one worth telling
    return manifest.status().WithContext(context);
  }
  options.seed = manifest->seed;
  options.clock = manifest->clock();

  StoreSession::Settings settings;
  settings.directory = std::move(directory);
  settings.read_only = *options.read_only;
  settings.seed = manifest->seed;
  settings.clock = manifest->event_millis ? nullptr : clock;
  settings.event_millis = manifest->event_millis.value_or(0);
  Storage& borrowed = *storage;
  auto session = std::make_shared<StoreSession>(std::move(settings), std::move(storage));
  std::unique_ptr<Store> store(new Store(options, std::move(session)));
  const Status opened = store->OpenTables(*manifest, borrowed, log_files);
  if (!opened.ok()) {
    store->session_->Close().IgnoreError();  // without a flush: what is in the log stays in the log
    return opened.WithContext(context);
  }
  return store;
}

Store::Store(const StoreOptions& options, std::shared_ptr<StoreSession> session)
    : options_(options), session_(std::move(session)) {}

Store::~Store() {
  if (!session_->owned_by_this_process()) {
    // Leaked on purpose, as the session's storage is: the thread to be joined is the parent's.
    (void)write_back_.release();
    return;
  }
  Close().IgnoreError();  // nobody is left to tell; whoever must know calls Close() first
}

Status Store::OpenTables(const Manifest& manifest, Storage& storage, LogFileSystem* log_files) {
  const bool read_only = *options_.read_only;
  const MemoryPlan plan = PlanMemory(*options_.memory_budget);
  memory_ = std::make_shared<CacheMemory>(plan.cache_bytes);
  if (!read_only) {
    RedoLog::Options log_options;
    log_options.directory = RedoDirectory(directory());
    log_options.first_lsn = manifest.redo_lsn;
    log_options.segment_bytes = plan.segment_bytes;
    log_options.file_system = log_files;
    DAMO_ASSIGN_OR_RETURN(log_, OpenRedoLog(log_options));
  }
  WriteBack::Options write_back_options;
  write_back_options.cache_bytes = plan.cache_bytes;
  write_back_options.redo_bytes = plan.redo_bytes;
  write_back_options.at_one_moment = options_.durability == Durability::kCheckpoint;
  auto& write_back = read_only ? replay_write_back_ : write_back_;
  write_back = std::make_unique<WriteBack>(write_back_options, *session_, log_.get());
  CachedTables cached;
  for (const auto& [group, config] : manifest.configs) {
    StatusOr<std::shared_ptr<const GroupRecipe>> recipe = MakeGroupRecipe(config, options_.ttl_seconds);
    if (!recipe.ok()) return recipe.status().WithContext(StrCat("group ", group));
    DAMO_ASSIGN_OR_RETURN(groups_[group].table,
                          MakeTable(std::move(*recipe), manifest.states.at(group), storage, &cached));
    groups_[group].table->set_rows_released(manifest.released.count(group) != 0);
  }
  for (const auto& [group, table] : cached) write_back->AddSource(table->source());
  DAMO_RETURN_IF_ERROR(Recover(manifest, cached, storage, log_files));
  if (read_only) return Status();
  if (*options_.row_cache) {
    write_back_->Start();
  } else {
    GoDirect();
  }
  return Status();
}

Status Store::Recover(const Manifest& manifest, const CachedTables& tables, Storage& storage,
                      LogFileSystem* log_files) {
  const std::string redo_directory = RedoDirectory(directory());
  DAMO_ASSIGN_OR_RETURN(const uint64_t end_lsn,
                        ReplayRedoLog(redo_directory, manifest.redo_lsn, tables, storage, log_files));
  if (*options_.read_only) {
    if (end_lsn == manifest.redo_lsn) return CheckUpToDate(storage);
    for (auto& [number, group] : groups_) {
      group.logged_steps = group.table->step() - manifest.states.at(number).step;
    }
    // What the writer has not brought into its storage is from now on in this reader's own, on top of that.
    DAMO_RETURN_IF_ERROR(replay_write_back_->Flush(storage));
    ReleaseIdleMemory();
    return Status();
  }
  if (log_->bytes() == 0) return Status();
  return write_back_->Flush(storage);
}

void Store::GoDirect() {
  for (auto& [number, group] : groups_) {
    const bool rows_released = group.table->rows_released();
    group.table = std::make_shared<DirectTable>(session_, group.table->recipe(), group.table->state());
    group.table->set_rows_released(rows_released);
  }
  write_back_.reset();
  log_.reset();
  memory_.reset();
}

StatusOr<std::shared_ptr<EmbeddingTable>> Store::MakeTable(std::shared_ptr<const GroupRecipe> recipe,
                                                           const GroupState& state, const Storage& storage,
                                                           CachedTables* cached) {
  if (memory_ == nullptr) {
    return std::shared_ptr<EmbeddingTable>(std::make_shared<DirectTable>(session_, std::move(recipe), state));
  }
  auto table = std::make_shared<CachedTable>(
      session_, std::move(recipe), state,
      CachedTable::Shared{memory_, log_.get(),
                          *options_.read_only ? replay_write_back_.get() : write_back_.get(),
                          *options_.durability, *options_.memory_budget});
  DAMO_RETURN_IF_ERROR(table->CheckWhetherEmpty(storage));
  (*cached)[table->group()] = table.get();
  return std::shared_ptr<EmbeddingTable>(std::move(table));
}

Status Store::Close() {
  DAMO_RETURN_IF_ERROR(session_->CheckProcess());
  // Before the session closes: it waits for calls under way, and the thread's flushes are such calls.
  if (write_back_ != nullptr) write_back_->Stop();
  return session_->Close([this](Storage& storage) {
    if (write_back_ != nullptr) return write_back_->Flush(storage);
    return *options_.read_only ? Status() : SaveEventTime(storage);
  });
}

StatusOr<std::shared_ptr<EmbeddingTable>> Store::AddGroup(const GroupConfig& config) {
  const std::string context = StrCat("add group ", config.group, " to store '", directory(), "'");
  DAMO_RETURN_IF_ERROR(MakeGroupRecipe(config, options_.ttl_seconds).status().WithContext(context));
  // Before the locks, which in a forked child may be held for ever. A closed store refuses what it has, too.
  const StatusOr<StoreSession::Use> storage = session_->BeginRead();
  if (!storage.ok()) return storage.status().WithContext(context);
  // I/O under the locks on purpose: a group is written once, before anyone can use its table.
  const std::lock_guard<std::mutex> change_lock(change_mutex_);
  const std::lock_guard<std::mutex> lock(mutex_);
  StatusOr<std::shared_ptr<EmbeddingTable>> table = AddGroupLocked(**storage, config);
  if (!table.ok()) return table.status().WithContext(context);
  return table;
}

void Store::CompleteFilter(GroupConfig* asked) const {
  const auto it = groups_.find(asked->group);
  std::optional<FilterOptions> has;
  if (it != groups_.end()) has = it->second.table->recipe()->config.filter();
  if (has) {
    if (!asked->filter_capacity) asked->filter_capacity = has->capacity;
    if (!asked->filter_fpr) asked->filter_fpr = has->fpr;
  } else if (asked->min_count == 0) {
    asked->filter_capacity.reset();
    asked->filter_fpr.reset();
  } else {
    if (!asked->filter_fpr) asked->filter_fpr = FilterOptions().fpr;
    if (!asked->filter_capacity) {
      asked->filter_capacity =
          DefaultFilterCapacity(PlanMemory(*options_.memory_budget).cache_bytes, *asked->filter_fpr);
    }
  }
}

Status Store::CheckFilterFitsAll(const GroupConfig& config) const {
  if (config.min_count == 0 || *options_.read_only) return Status();
  int64_t other_bytes = 0;
  for (const auto& [number, group] : groups_) {
    const std::shared_ptr<const GroupRecipe> recipe = group.table->recipe();
    if (number == config.group || recipe->config.min_count == 0) continue;
    other_bytes += CountingFilter::FullBytes(*recipe->config.filter());
  }
  return CheckFilterFits(config, other_bytes, *options_.memory_budget);
}

StatusOr<std::shared_ptr<EmbeddingTable>> Store::AddGroupLocked(Storage& storage,
                                                                const GroupConfig& as_asked) {
  GroupConfig completed = as_asked;
  CompleteFilter(&completed);
  DAMO_ASSIGN_OR_RETURN(std::shared_ptr<const GroupRecipe> recipe,
                        MakeGroupRecipe(completed, options_.ttl_seconds));
  const GroupConfig& asked = recipe->config;
  DAMO_RETURN_IF_ERROR(CheckFilterFitsAll(asked));
  const auto it = groups_.find(asked.group);
  if (it == groups_.end()) {
    const GroupState state;
    DAMO_RETURN_IF_ERROR(session_->CheckMayWrite());
    DAMO_RETURN_IF_ERROR(SaveConfig(storage, asked, &state));
    CachedTables cached;
    DAMO_ASSIGN_OR_RETURN(std::shared_ptr<EmbeddingTable> table,
                          MakeTable(std::move(recipe), state, storage, &cached));
    if (write_back_ != nullptr) write_back_->AddSource(cached.at(table->group())->source());
    Group& group = groups_[table->group()];
    group.table = table;
    DAMO_RETURN_IF_ERROR(SetAskedFor(group, as_asked, storage));
    return table;
  }
  Group& group = it->second;
  const std::shared_ptr<const GroupRecipe> has = group.table->recipe();
  if (group.asked_for) {
    DAMO_RETURN_IF_ERROR(CheckSameConfig(has->config, asked));
    NoteAskedFor(group, as_asked);
    return group.table;
  }
  DAMO_RETURN_IF_ERROR(CheckSameRows(has->config, asked));
  if (!CheckSameConfig(has->config, asked).ok()) {
    DAMO_RETURN_IF_ERROR(ChangeConfig(storage, *group.table, recipe));
  }
  DAMO_RETURN_IF_ERROR(SetAskedFor(group, as_asked, storage));
  return group.table;
}

Status Store::SetAskedFor(Group& group, const GroupConfig& asked, const Storage& storage) {
  DAMO_RETURN_IF_ERROR(group.table->PrepareToApply(storage));
  NoteAskedFor(group, asked);
  group.table->AllowRelease();
  return Status();
}

void Store::NoteAskedFor(Group& group, const GroupConfig& asked) {
  group.asked_for = true;
  group.asked_capacity = group.asked_capacity || asked.filter_capacity.has_value();
  group.asked_fpr = group.asked_fpr || asked.filter_fpr.has_value();
}

Status Store::ChangeConfig(Storage& storage, EmbeddingTable& table,
                           const std::shared_ptr<const GroupRecipe>& recipe) {
  // A read-only store reads under the settings asked for and leaves the manifest alone.
  const auto save = [&] {
    return session_->settings().read_only ? Status() : SaveConfig(storage, recipe->config, nullptr);
  };
  for (;;) {
    DAMO_ASSIGN_OR_RETURN(const bool changed, table.TryChangeRecipe(recipe, storage, save));
    if (changed) return Status();
    DAMO_RETURN_IF_ERROR(session_->CheckMayWrite());
    DAMO_RETURN_IF_ERROR(write_back_->Flush(storage));  // only a cached table, which has one, is not ready
  }
}

Status Store::SaveConfig(Storage& storage, const GroupConfig& config, const GroupState* new_state) {
  const std::unique_ptr<StorageBatch> batch = storage.NewBatch();
  DAMO_RETURN_IF_ERROR(PutGroupConfig(config, *batch));
  if (new_state != nullptr) DAMO_RETURN_IF_ERROR(PutGroupState(config.group, *new_state, *batch));
  return storage.Write(*batch);
}

StatusOr<std::shared_ptr<EmbeddingTable>> Store::Table(int64_t group) const {
  DAMO_RETURN_IF_ERROR(ValidateGroup(group));
  DAMO_RETURN_IF_ERROR(session_->CheckProcess());  // before the lock, as in AddGroup()
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto it = groups_.find(static_cast<int>(group));
  if (it != groups_.end()) return it->second.table;
  std::string known;
  for (const auto& entry : groups_) known += StrCat(known.empty() ? "" : ", ", entry.first);
  return NotFound("store '", directory(), "' has no group ", group,
                  "; it has: ", known.empty() ? "none" : known);
}

std::vector<std::shared_ptr<EmbeddingTable>> Store::Tables() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::shared_ptr<EmbeddingTable>> tables;
  for (const auto& entry : groups_) tables.push_back(entry.second.table);
  return tables;
}

StatusOr<std::vector<int>> Store::Groups() const {
  DAMO_RETURN_IF_ERROR(session_->BeginRead().status());
  std::vector<int> numbers;
  for (const auto& table : Tables()) numbers.push_back(table->group());
  return numbers;
}

StatusOr<int64_t> Store::Size() const {
  DAMO_RETURN_IF_ERROR(
      session_->BeginRead().status());  // an empty store that is closed is closed all the same
  int64_t total = 0;
  for (const auto& table : Tables()) {
    DAMO_ASSIGN_OR_RETURN(const int64_t size, table->Size());
    total += size;
  }
  return total;
}

StatusOr<StoreStats> Store::Stats(bool count_rows) const {
  StoreStats stats;
  {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
    DAMO_ASSIGN_OR_RETURN(stats.storage, storage->Stats());
    if (memory_ != nullptr) stats.cache_bytes = memory_->used_bytes();
    if (log_ != nullptr) stats.redo_bytes = log_->bytes();
    if (write_back_ != nullptr) stats.num_flushes = write_back_->num_flushes();
  }
  for (const auto& table : Tables()) {
    const std::shared_ptr<const GroupRecipe> recipe = table->recipe();
    GroupStats group;
    group.config = recipe->config;
    group.num_rows_exact = count_rows || table->num_rows_is_size();
    group.num_rows = table->num_rows();
    if (count_rows) {
      DAMO_ASSIGN_OR_RETURN(group.num_rows, table->Size());
    }
    group.row_bytes = static_cast<int64_t>(kRowKeyBytes + recipe->layout.row_bytes());
    group.step = table->step();
    group.counters = table->counters();
    group.memory = table->memory();
    DAMO_ASSIGN_OR_RETURN(group.filter_fill, FilterFill(*recipe, group.memory));
    stats.groups.push_back(std::move(group));
  }
  return stats;
}

StatusOr<double> Store::FilterFill(const GroupRecipe& recipe, const TableMemory& memory) const {
  if (memory.filter_fill) return *memory.filter_fill;
  if (recipe.config.min_count == 0) return 0.0;
  DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
  return StoredFilterFill(*storage, recipe.config.group, *recipe.config.filter());
}

Status Store::Flush() {
  DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
  const Status status = [&]() -> Status {
    if (write_back_ != nullptr) {
      DAMO_RETURN_IF_ERROR(write_back_->Flush(*storage));
    } else {
      DAMO_RETURN_IF_ERROR(SaveEventTime(*storage));
      for (const auto& table : Tables()) DAMO_RETURN_IF_ERROR(table->ReleaseExpired(*storage));
    }
    return storage->Flush();
  }();
  return status.WithContext(StrCat("flush store '", directory(), "'"));
}

Status Store::Compact(const ByteProgress& progress) {
  const auto compact = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
    std::vector<uint8_t> groups;
    for (const auto& table : Tables()) groups.push_back(static_cast<uint8_t>(table->group()));
    return storage->Compact(groups, progress);
  };
  return compact().WithContext(StrCat("compact store '", directory(), "'"));
}

Status Store::SaveEventTime(Storage& storage) const {
  if (!session_->clock().is_event_clock()) return Status();
  const std::unique_ptr<StorageBatch> batch = storage.NewBatch();
  DAMO_RETURN_IF_ERROR(PutEventTime(NowMillis(), *batch));
  return storage.Write(*batch);
}

Status Store::AdvanceClock(int64_t millis) {
  const auto advance = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
    if (!session_->clock().is_event_clock()) {
      return FailedPrecondition(
          "the clock of the store is 'system'; only a store created with clock 'event' ", "is told the time");
    }
    if (millis < 0 || millis > kMaxEventMillis) {
      return InvalidArgument("`milliseconds` must be in [0, ", kMaxEventMillis,
                             "], milliseconds since 1970. Received: milliseconds=", millis);
    }
    session_->clock().AdvanceTo(millis);
    return Status();
  };
  return advance().WithContext(StrCat("advance the clock of store '", directory(), "'"));
}

Status Store::AtOneMoment(Storage& storage, const std::vector<std::shared_ptr<EmbeddingTable>>& tables,
                          const std::function<Status()>& then) const {
  if (write_back_ != nullptr) return write_back_->FlushAndHold(storage, then);
  const std::lock_guard<std::mutex> moment_lock(moment_mutex_);  // a storage has one sorted batch at a time
  DAMO_RETURN_IF_ERROR(session_->CheckStillWriting());
  std::vector<std::unique_lock<std::mutex>> apply_locks;
  apply_locks.reserve(tables.size());
  for (const auto& table : tables) apply_locks.emplace_back(table->apply_mutex());
  return then();
}

StatusOr<std::unique_ptr<StoreSnapshot>> Store::TakeSnapshot() const {
  const auto take = [this]() -> StatusOr<std::unique_ptr<StoreSnapshot>> {
    DAMO_ASSIGN_OR_RETURN(StoreSession::Use storage, session_->BeginRead());
    // Before the lock, so that it is not held long.
    if (write_back_ != nullptr) DAMO_RETURN_IF_ERROR(write_back_->Flush(*storage));
    // I/O under the locks on purpose: a group that is added meanwhile, or restored, would be in the snapshot
    // by half.
    const std::lock_guard<std::mutex> change_lock(change_mutex_);
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<std::shared_ptr<EmbeddingTable>> tables;
    for (const auto& [number, group] : groups_) tables.push_back(group.table);
    StoreSnapshot::Groups groups;
    int64_t now_millis = 0;
    std::unique_ptr<StorageSnapshot> rows;
    DAMO_RETURN_IF_ERROR(AtOneMoment(*storage, tables, [&]() -> Status {
      for (const auto& table : tables) {
        groups[table->group()] = {table->recipe(), table->state(), groups_.at(table->group()).logged_steps,
                                  table->rows_released(), std::make_shared<ReleaseHold>(table)};
      }
      now_millis = NowMillis();
      DAMO_ASSIGN_OR_RETURN(rows, storage->NewSnapshot());
      return Status();
    }));
    return std::make_unique<StoreSnapshot>(std::move(storage), now_millis, std::move(rows),
                                           std::move(groups));
  };
  StatusOr<std::unique_ptr<StoreSnapshot>> snapshot = take();
  if (!snapshot.ok()) return snapshot.status().WithContext(StrCat("read store '", directory(), "'"));
  return snapshot;
}

Status Store::EditGroup(int64_t group, const std::function<Status(GroupEdit& edit)>& edit) {
  DAMO_ASSIGN_OR_RETURN(const std::shared_ptr<EmbeddingTable> table, Table(group));
  return EditTables({table}, [&](std::vector<GroupEdit>& edits) { return edit(edits.front()); })
      .WithContext(StrCat("change group ", group, " of store '", directory(), "'"));
}

Status Store::EditGroups(const std::vector<int64_t>& groups,
                         const std::function<Status(std::vector<GroupEdit>& edits)>& edit) {
  std::vector<std::shared_ptr<EmbeddingTable>> tables;
  for (const int64_t group : groups) {
    DAMO_ASSIGN_OR_RETURN(std::shared_ptr<EmbeddingTable> table, Table(group));
    tables.push_back(std::move(table));
  }
  return EditTables(tables, edit).WithContext(StrCat("change groups of store '", directory(), "'"));
}

Status Store::EditTables(const std::vector<std::shared_ptr<EmbeddingTable>>& tables,
                         const std::function<Status(std::vector<GroupEdit>& edits)>& edit) {
  DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
  return AtOneMoment(*storage, tables, [&]() -> Status {
    std::vector<GroupEdit> edits;
    edits.reserve(tables.size());
    for (const auto& table : tables) edits.push_back({*storage, table->state(), std::nullopt});
    const Status edited = edit(edits);
    if (!edited.ok()) return TakeWhatIsThere(*storage, tables, edited);
    for (size_t i = 0; i < tables.size(); ++i) tables[i]->TakeFromStorage(edits[i].state, edits[i].keys);
    return Status();
  });
}

// A batch that failed while the disk recorded it may be there, all of it. What the tables log from now on
// must be on top of the rows that the next opening finds, and the number of rows is part of the batch.
Status Store::TakeWhatIsThere(Storage& storage, const std::vector<std::shared_ptr<EmbeddingTable>>& tables,
                              const Status& failure) {
  const StatusOr<bool> in_doubt = storage.SettleCommit();
  if (in_doubt.ok() && !*in_doubt) return failure;
  const auto take = [&]() -> Status {
    DAMO_RETURN_IF_ERROR(in_doubt.status());
    std::vector<GroupState> states;
    for (const auto& table : tables) {
      DAMO_ASSIGN_OR_RETURN(states.emplace_back(), GetGroupState(storage, table->group()));
    }
    for (size_t i = 0; i < tables.size(); ++i) tables[i]->TakeFromStorage(states[i], std::nullopt);
    return Status();
  };
  const Status taken = take();
  if (!taken.ok()) {
    for (const auto& table : tables) table->TakeFromStorage(table->state(), std::nullopt);
    session_->StopWriting(
        FailedPrecondition("a change of rows failed as it was recorded (", failure.message(),
                           "), and whether it is there could not be found out (", taken.message(),
                           "); that shows when the store is opened again: close it and open it"));
  }
  return failure.WithContext("it failed as it was recorded, and all of it may be there");
}

}  // namespace damo
