// SPDX-License-Identifier: Apache-2.0
#include "damo/table/store.h"

#include <utility>

#include "damo/row/key.h"

namespace damo {

StatusOr<std::unique_ptr<Store>> Store::Open(std::string directory, const StoreOptions& asked,
                                             std::unique_ptr<Storage> storage, const Clock* clock) {
  StoreOptions options = asked;
  options.memory_budget = asked.memory_budget.value_or(StoreOptions::kDefaultMemoryBudget);
  options.durability = asked.durability.value_or(Durability::kWal);
  options.read_only = asked.read_only.value_or(false);

  const std::string context = StrCat("open store '", directory, "'");
  StatusOr<Manifest> manifest = LoadOrCreateManifest(*storage, asked.seed, *options.read_only);
  if (!manifest.ok()) {
    storage->Close().IgnoreError();  // the first failure is the one worth telling
    return manifest.status().WithContext(context);
  }
  options.seed = manifest->seed;

  StoreSession::Settings settings;
  settings.directory = std::move(directory);
  settings.ttl_seconds = options.ttl_seconds;
  settings.read_only = *options.read_only;
  settings.seed = manifest->seed;
  settings.clock = clock;
  auto session = std::make_shared<StoreSession>(std::move(settings), std::move(storage));
  std::unique_ptr<Store> store(new Store(options, std::move(session)));
  DAMO_RETURN_IF_ERROR(store->LoadGroups(*manifest).WithContext(context));
  return store;
}

Status Store::LoadGroups(const Manifest& manifest) {
  for (const auto& [group, config] : manifest.configs) {
    StatusOr<std::shared_ptr<const GroupRecipe>> recipe = MakeGroupRecipe(config);
    if (!recipe.ok()) return recipe.status().WithContext(StrCat("group ", group));
    groups_[group].table =
        std::make_shared<EmbeddingTable>(session_, std::move(*recipe), manifest.states.at(group));
  }
  return Status();
}

StatusOr<std::shared_ptr<EmbeddingTable>> Store::AddGroup(const GroupConfig& config) {
  const std::string context = StrCat("add group ", config.group, " to store '", directory(), "'");
  StatusOr<std::shared_ptr<const GroupRecipe>> recipe = MakeGroupRecipe(config);
  if (!recipe.ok()) return recipe.status().WithContext(context);
  // Before the lock, which in a forked child may be held for ever. A closed store refuses what it has, too.
  DAMO_RETURN_IF_ERROR(session_->BeginRead().status().WithContext(context));
  // I/O under the lock on purpose: a group is written once, before anyone can use its table.
  const std::lock_guard<std::mutex> lock(mutex_);
  StatusOr<std::shared_ptr<EmbeddingTable>> table = AddGroupLocked(std::move(*recipe));
  if (!table.ok()) return table.status().WithContext(context);
  return table;
}

StatusOr<std::shared_ptr<EmbeddingTable>> Store::AddGroupLocked(std::shared_ptr<const GroupRecipe> recipe) {
  const GroupConfig& asked = recipe->config;
  const auto it = groups_.find(asked.group);
  if (it == groups_.end()) {
    const GroupState state;
    DAMO_RETURN_IF_ERROR(SaveConfig(asked, &state));
    auto table = std::make_shared<EmbeddingTable>(session_, std::move(recipe), state);
    groups_[table->group()] = Group{table, /*asked_for=*/true};
    return table;
  }
  Group& group = it->second;
  const std::shared_ptr<const GroupRecipe> has = group.table->recipe();
  if (group.asked_for) {
    DAMO_RETURN_IF_ERROR(CheckSameConfig(has->config, asked));
    return group.table;
  }
  DAMO_RETURN_IF_ERROR(CheckSameRows(has->config, asked));
  if (!CheckSameConfig(has->config, asked).ok()) {
    // A read-only store reads under the settings asked for and leaves the manifest alone.
    if (!session_->settings().read_only) DAMO_RETURN_IF_ERROR(SaveConfig(asked, nullptr));
    group.table->SetRecipe(std::move(recipe));
  }
  group.asked_for = true;
  return group.table;
}

Status Store::SaveConfig(const GroupConfig& config, const GroupState* new_state) {
  DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
  const std::unique_ptr<StorageBatch> batch = storage->NewBatch();
  DAMO_RETURN_IF_ERROR(PutGroupConfig(config, *batch));
  if (new_state != nullptr) DAMO_RETURN_IF_ERROR(PutGroupState(config.group, *new_state, *batch));
  return storage->Write(*batch);
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

StatusOr<StoreStats> Store::Stats() const {
  StoreStats stats;
  {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
    DAMO_ASSIGN_OR_RETURN(stats.storage, storage->Stats());
  }
  for (const auto& table : Tables()) {
    const std::shared_ptr<const GroupRecipe> recipe = table->recipe();
    GroupStats group;
    group.config = recipe->config;
    DAMO_ASSIGN_OR_RETURN(group.num_rows, table->Size());
    group.row_bytes = static_cast<int64_t>(kRowKeyBytes + recipe->layout.row_bytes());
    group.step = table->step();
    group.counters = table->counters();
    stats.groups.push_back(std::move(group));
  }
  return stats;
}

Status Store::Flush() {
  DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
  return storage->Flush().WithContext(StrCat("flush store '", directory(), "'"));
}

}  // namespace damo
