// SPDX-License-Identifier: Apache-2.0
//
// CachedTable as a whole: making, flushing, reading of single rows. Lookups are in cached_lookup.cc, apply
// calls in cached_apply.cc, those that do not fit into the cache, and replay, in cached_apply_in_parts.cc.
#include "damo/table/cached_table.h"

#include <algorithm>
#include <cstring>
#include <shared_mutex>
#include <utility>

#include "damo/base/float_environment.h"

namespace damo {

CachedTable::CachedTable(std::shared_ptr<StoreSession> session,
                         const std::shared_ptr<const GroupRecipe>& recipe, const GroupState& state,
                         const Shared& shared)
    : EmbeddingTable(std::move(session), recipe, state),
      shared_(shared),
      cache_(std::make_unique<RowCache>(recipe->layout.row_bytes(), shared.memory.get())),
      updates_(cache_->num_shards()),
      flushed_step_(state.step) {}

Status CachedTable::CheckWhetherEmpty(const Storage& storage) {
  if (num_rows() != 0) return Status();
  bool found = false;  // the count is no proof: a row must never be taken for absent that is there
  Status scanned = storage.Scan(group_byte(), [&found](uint64_t /*key*/, std::string_view /*row*/) {
    found = true;
    return FailedPrecondition("one row is enough");
  });
  if (found) return Status();
  if (scanned.ok()) cache_->set_began_empty();
  return scanned;
}

StatusOr<std::shared_ptr<GroupFilter>> CachedTable::MakeFilter(const GroupRecipe& recipe,
                                                               const Storage& storage) const {
  const GroupConfig& config = recipe.config;
  if (config.min_count == 0 || session().settings().read_only) return std::shared_ptr<GroupFilter>();
  DAMO_RETURN_IF_ERROR(CheckFilterFits(config, shared_.memory->reserved_bytes(), shared_.memory_budget));
  auto filter = std::make_shared<GroupFilter>(group(), *config.filter(), shared_.memory);
  DAMO_RETURN_IF_ERROR(filter->Load(storage));
  return filter;
}

// Not before it is needed: who opens a store to look at it, or to delete rows, is to need no memory for it.
Status CachedTable::LoadFilter(const Storage& storage) {
  if (filter_ != nullptr) return Status();
  DAMO_ASSIGN_OR_RETURN(std::shared_ptr<GroupFilter> filter, MakeFilter(*recipe(), storage));
  if (filter != nullptr) SetFilter(std::move(filter));
  return Status();
}

void CachedTable::SetFilter(std::shared_ptr<GroupFilter> filter) {
  const std::lock_guard<std::mutex> lock(filter_mutex_);
  filter_ = std::move(filter);
}

Status CachedTable::PrepareToApply(const Storage& storage) {
  const std::lock_guard<std::mutex> apply_lock(apply_mutex_);
  return LoadFilter(storage);
}

TableMemory CachedTable::memory() const {
  const RowCacheStats stats = cache_->Stats();
  TableMemory memory;
  memory.num_rows = stats.num_rows;
  memory.num_dirty = stats.num_dirty;
  memory.num_evicted = stats.num_evicted;
  memory.buffer_bytes = buffer_bytes_;
  // Not under the apply mutex, which may be held long.
  const std::shared_ptr<const GroupFilter> filter = [this] {
    const std::lock_guard<std::mutex> lock(filter_mutex_);
    return filter_;
  }();
  if (filter != nullptr) {
    memory.filter_bytes = filter->memory_bytes();
    memory.filter_fill = filter->fill();
  }
  return memory;
}

StatusOr<bool> CachedTable::TryChangeRecipe(std::shared_ptr<const GroupRecipe> recipe, const Storage& storage,
                                            const std::function<Status()>& save) {
  const std::lock_guard<std::mutex> apply_lock(apply_mutex_);
  if (state().step != flushed_step_ || unfinished_ != nullptr) return false;
  // A filter goes on with what it has counted, which is in the storage as well: its size is fixed.
  std::shared_ptr<GroupFilter> filter = recipe->config.min_count > 0 ? filter_ : nullptr;
  if (filter == nullptr) {
    DAMO_ASSIGN_OR_RETURN(filter, MakeFilter(*recipe, storage));
  }
  DAMO_RETURN_IF_ERROR(save());
  SetRecipe(std::move(recipe));
  SetFilter(std::move(filter));
  // Keys without a row are in the cache with initial values of the recipe before.
  const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
  cache_->DropCleanRows();  // and what is being read under the old one
  return true;
}

void CachedTable::Forget(const std::optional<std::vector<uint64_t>>& keys) {
  const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
  cache_->EndHoldingAllRows();
  if (!keys) {
    cache_->DropCleanRows();
  } else {
    for (const uint64_t key : *keys) cache_->DropCleanRow(key);
  }
  flushed_step_ = state().step;
}

void CachedTable::ForgetAll() {
  SetFilter(nullptr);
  const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
  cache_->EndHoldingAllRows();
  cache_->DropAllRows();
  open_record_.reset();
  SetUnfinished(nullptr);
  stalled_ = false;
  flushed_step_ = state().step;
}

StatusOr<std::optional<std::string>> CachedTable::DoGetRow(const Storage& storage, uint64_t key) const {
  {
    const std::shared_lock<FairSharedMutex> lock(cache_->mutex());
    const uint64_t hash = HashKey(key);
    const RowShard& shard = cache_->ShardFor(hash);
    const uint32_t slot = shard.Find(key, TagOf(hash));
    if (slot != RowShard::kNoSlot && shard.row(slot)->state == SlotState::kReady) {
      const CachedRow& cached = *shard.row(slot);
      if (cached.update_num == 0) return std::optional<std::string>();
      std::string stored(recipe()->layout.row_bytes(), '\0');
      CopyStoredForm(cached, stored.size(), stored.data());
      return std::optional<std::string>(std::move(stored));
    }
  }
  return ReadStoredRow(storage, key);
}

// Gives a slot the row as the storage has it, or, where there is none, its initial values. The slot is
// loading: nobody else looks at it.
Status CachedTable::FillSlot(const GroupRecipe& recipe, uint64_t key, std::optional<std::string_view> stored,
                             CachedRow* cached) const {
  const RowLayout& layout = recipe.layout;
  if (stored) {
    DAMO_ASSIGN_OR_RETURN(const RowHeader header, DecodeRowHeader(*stored, layout, group_byte(), key));
    cached->update_num = header.update_num;
    cached->update_time = header.update_time;
    std::memcpy(cached->floats(), stored->data() + kRowHeaderBytes, layout.row_bytes() - kRowHeaderBytes);
    return Status();
  }
  const ScopedFloatEnvironment float_environment;
  FillInitial(recipe, key, {cached->floats(), layout.dim()});
  std::fill_n(cached->floats() + layout.dim(), layout.slot_floats(), 0.0f);
  return Status();
}

// Writes a cached row to `stored` as the storage is to hold it. Not the whole of it is copied: lookups and
// flushes change flags in its first bytes meanwhile.
void CachedTable::CopyStoredForm(const CachedRow& cached, size_t row_bytes, char* stored) const {
  EncodeRowHeader({group_byte(), cached.key, cached.update_time, cached.update_num}, stored);
  std::memcpy(stored + kRowHeaderBytes, cached.floats(), row_bytes - kRowHeaderBytes);
}

StatusOr<int64_t> CachedTable::CountLiveRows(const Storage& storage, int64_t now_millis) const {
  const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
  // Rows newer than in the storage, by key, and whether they are not expired.
  std::vector<std::pair<uint64_t, bool>> newer;
  std::unique_ptr<StorageSnapshot> snapshot;
  {
    // While no flush runs the storage and the list of dirty rows together are the table.
    std::unique_lock<std::mutex> flush_lock;
    if (shared_.write_back != nullptr) flush_lock = shared_.write_back->LockFlush();
    DAMO_ASSIGN_OR_RETURN(snapshot, storage.NewSnapshot());
    const std::shared_lock<FairSharedMutex> lock(cache_->mutex());
    for (int i = 0; i < cache_->num_shards(); ++i) {
      const RowShard& shard = cache_->shard(i);
      for (const RowShard::DirtyRow& dirty : shard.dirty_rows()) {
        newer.emplace_back(dirty.key,
                           !recipe->lifetime.Expired(shard.row(dirty.slot)->update_time, now_millis));
      }
    }
  }
  std::sort(newer.begin(), newer.end());
  int64_t num_live = 0;
  for (const auto& row : newer) num_live += row.second ? 1 : 0;
  auto next = newer.begin();
  const auto count = [&](uint64_t key, std::string_view row) -> Status {
    while (next != newer.end() && next->first < key) ++next;
    if (next != newer.end() && next->first == key) return Status();
    DAMO_ASSIGN_OR_RETURN(const RowHeader header, DecodeRowHeader(row, recipe->layout, group_byte(), key));
    num_live += recipe->lifetime.Expired(header.update_time, now_millis) ? 0 : 1;
    return Status();
  };
  DAMO_RETURN_IF_ERROR(snapshot->Scan(group_byte(), count));
  return num_live;
}

// Requires apply_mutex_.
WriteBackSource::Snapshot CachedTable::BeginFlush(uint8_t flush_number) {
  Snapshot snapshot;
  snapshot.state = state();
  if (shared_.log != nullptr) {
    snapshot.redo_lsn = open_record_ ? open_record_->lsn : shared_.log->next_lsn();
  }
  // Records to come are not of an earlier time: the clock does not go back.
  snapshot.release_time = ReleaseTime(open_record_ ? open_record_->time_millis : NowMillis());
  snapshot.filter = filter_;
  const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
  size_t num_rows = 0;
  for (int i = 0; i < cache_->num_shards(); ++i) num_rows += cache_->shard(i).dirty_rows().size();
  snapshot.dirty_rows.reserve(num_rows);  // from here on nothing fails
  cache_->BeginFlush(flush_number);
  for (int i = 0; i < cache_->num_shards(); ++i) {
    cache_->shard(i).TakeDirtyRows(&snapshot.dirty_rows);
  }
  return snapshot;
}

Status CachedTable::CopyRows(Snapshot& snapshot, size_t num_rows, uint8_t flush_number,
                             const std::function<Status(uint64_t key, std::string_view row)>& visit) {
  const size_t row_bytes = recipe()->layout.row_bytes();
  const Span<const RowShard::DirtyRow> rows(snapshot.dirty_rows.data() + snapshot.num_copied, num_rows);
  std::string copies(num_rows * row_bytes, '\0');
  {
    // Shared: lookups go on beside it, apply calls wait. Only a flush looks at what SetCopied() changes then.
    const std::shared_lock<FairSharedMutex> lock(cache_->mutex());
    for (size_t i = 0; i < num_rows; ++i) {
      RowShard& shard = cache_->ShardFor(HashKey(rows[i].key));
      CopyStoredForm(*shard.row(rows[i].slot), row_bytes, copies.data() + i * row_bytes);
      shard.SetCopied(rows[i].slot, flush_number);
    }
    snapshot.num_copied += num_rows;
  }
  for (size_t i = 0; i < num_rows; ++i) {
    DAMO_RETURN_IF_ERROR(visit(rows[i].key, {copies.data() + i * row_bytes, row_bytes}));
  }
  return Status();
}

int64_t CachedTable::EndFlush(const Snapshot& snapshot, uint8_t /*flush_number*/, bool in_storage) {
  if (snapshot.filter != nullptr) snapshot.filter->EndWrite(in_storage);
  const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
  cache_->EndFlush();
  if (in_storage) {
    flushed_step_ = snapshot.state.step;
    if (snapshot.release_time) set_rows_released(true);
    return 0;
  }
  int64_t num_dirty_again = 0;
  for (size_t i = 0; i < snapshot.dirty_rows.size(); ++i) {
    const RowShard::DirtyRow& dirty = snapshot.dirty_rows[i];
    RowShard& shard = cache_->ShardFor(HashKey(dirty.key));
    if (i >= snapshot.num_copied) {
      shard.ReturnDirtyRow(dirty);
    } else if (!shard.SetDirty(dirty.slot)) {
      ++num_dirty_again;
    }
  }
  return num_dirty_again;
}

}  // namespace damo
