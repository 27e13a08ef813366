// SPDX-License-Identifier: Apache-2.0
//
// Apply calls of a CachedTable that are carried out in parts, from their record in the redo log: those whose
// rows do not fit into the cache, and the replay of what an earlier process logged.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "damo/base/catch_exceptions.h"
#include "damo/base/float_environment.h"
#include "damo/base/float_math.h"
#include "damo/table/cached_apply.h"
#include "damo/table/unique_keys.h"

namespace damo {
namespace {

// The sum of one key's gradients, in the order of its occurrences.
void SumGradients(const GradientRows& gradients, Span<const int64_t> positions, std::vector<float>* sum) {
  bool first = true;
  for (const int64_t position : positions) {
    const float* const gradient = gradients.row(position);
    const float coefficient = gradients.coefficient(position);
    for (size_t j = 0; j < sum->size(); ++j) {
      const float scaled = gradient[j] * coefficient;
      (*sum)[j] = first ? scaled : (*sum)[j] + scaled;
    }
    first = false;
  }
}

}  // namespace

// A call that is in the redo log, and how much of it is in the rows.
struct CachedTable::LoggedCall {
  std::string bytes;  // what `record` borrows, unless that is someone else's
  std::optional<ApplyRecord> record;
  uint64_t lsn = 0;
  std::atomic<uint64_t> num_done{0};  // of the record's rows, from the first on
  ApplyResult result;                 // of these rows, and of keys that the record leaves out

  // Whether one of `keys` is of a row that is not done yet. Requires the order of MakeRecord(): by key.
  bool WaitsFor(Span<const uint64_t> keys) const {
    const uint64_t num_rows = record->header().num_rows;
    const uint64_t first = num_done;
    return std::any_of(keys.begin(), keys.end(), [&](uint64_t key) {
      uint64_t begin = first;
      for (uint64_t end = num_rows; begin < end;) {
        const uint64_t middle = begin + (end - begin) / 2;
        if (record->key(middle) < key) {
          begin = middle + 1;
        } else {
          end = middle;
        }
      }
      return begin < num_rows && record->key(begin) == key;
    });
  }
};

// ---- batches that do not fit into the cache ----

// Logs the whole call first, as a record like any other, whatever the durability, and then takes its rows
// part by part as a replay would, flushing in between. Once it is in the log it is a fact: if the rest of it
// fails, it waits to be finished.
StatusOr<ApplyResult> CachedTable::ApplyInParts(Storage& storage, Span<const uint64_t> keys,
                                                const GradientRows& gradients, const ApplyOptions& options,
                                                Executor& executor) {
  std::unique_lock<std::mutex> flush_lock = shared_.write_back->LockFlush();
  std::unique_lock<std::mutex> lock(apply_mutex_);
  DAMO_RETURN_IF_ERROR(FinishUnfinished(storage));
  DAMO_RETURN_IF_ERROR(LoadFilter(storage));
  // Without redo records what came before survives by this flush only; the record is no use without it. It
  // comes before the call has a time: rows that expire until it ends are released.
  if (shared_.durability == Durability::kCheckpoint) {
    DAMO_RETURN_IF_ERROR(shared_.write_back->FlushLocked(storage, this));
  }
  const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
  ApplyRecordHeader header;
  DAMO_ASSIGN_OR_RETURN(header.learning_rate, NextLearningRate(*recipe, options));
  header.group = group_byte();
  header.dim = static_cast<uint32_t>(dim());
  header.step = state().step;
  header.time_millis = NowMillis();
  const auto call = std::make_shared<LoggedCall>();
  DAMO_ASSIGN_OR_RETURN(call->bytes, MakeRecord(storage, keys, gradients, options, header, &call->result));
  DAMO_ASSIGN_OR_RETURN(call->record, ApplyRecord::Decode(call->bytes));
  const std::string_view piece = call->bytes;
  DAMO_ASSIGN_OR_RETURN(call->lsn, shared_.log->Append(Span<const std::string_view>(&piece, 1)));
  SetUnfinished(call);
  const Status status = GoOn(storage, executor);
  if (!status.ok()) {
    return status.WithContext(
        "the call is in the redo log and must not be repeated, what is left of it is done before the next "
        "one; it came to a halt");
  }
  lock.unlock();
  flush_lock.unlock();
  DAMO_RETURN_IF_ERROR(AwaitDurable(storage, call->lsn));
  return call->result;
}

void CachedTable::SetUnfinished(std::shared_ptr<LoggedCall> call) {
  const std::lock_guard<std::mutex> lock(unfinished_mutex_);
  unfinished_ = std::move(call);
}

// Does what is left of the unfinished call. Requires flush mutex and apply mutex.
Status CachedTable::GoOn(Storage& storage, Executor& executor) {
  Status status = CatchExceptions([&] { return ApplyLogged(storage, *unfinished_, executor); });
  stalled_ = !status.ok();
  if (status.ok()) SetUnfinished(nullptr);
  return status;
}

// Requires flush mutex and apply mutex.
Status CachedTable::FinishUnfinished(Storage& storage) {
  DAMO_RETURN_IF_ERROR(session().CheckStillWriting());
  if (unfinished_ == nullptr) return Status();
  const std::shared_ptr<const LoggedCall> call = unfinished_;
  const Status status = GoOn(storage, *Executor::Inline());
  if (!status.ok()) {
    return status.WithContext(
        StrCat("finish an earlier call for group ", group(), ", which is in the redo log"));
  }
  CountResult(call->result);
  return Status();
}

Status CachedTable::FinishCall(Storage& storage) {
  if (!stalled_) return Status();  // waits for no apply call
  const std::lock_guard<std::mutex> lock(apply_mutex_);
  return FinishUnfinished(storage);
}

Status CachedTable::FinishCallOf(Storage& storage, Span<const uint64_t> keys) const {
  if (!stalled_) return Status();
  const std::shared_ptr<const LoggedCall> call = [this] {
    const std::lock_guard<std::mutex> lock(unfinished_mutex_);
    return unfinished_;
  }();
  if (call == nullptr || !call->WaitsFor(keys)) return Status();
  return shared_.write_back->FinishCall(storage, this);
}

StatusOr<std::optional<std::string_view>> CachedTable::HalfDoneRecord() const {
  if (!open_record_) return std::optional<std::string_view>();
  if (unfinished_ != nullptr) return std::optional<std::string_view>(unfinished_->bytes);
  return IoError("group ", group(), ": record ", open_record_->lsn, " is being replayed from it");
}

void CachedTable::SetHalfDoneLsn(uint64_t lsn) {
  open_record_->lsn = lsn;
  unfinished_->lsn = lsn;
}

StatusOr<std::string> CachedTable::MakeRecord(const Storage& storage, Span<const uint64_t> keys,
                                              const GradientRows& gradients, const ApplyOptions& options,
                                              ApplyRecordHeader& header, ApplyResult* result) {
  const ScopedFloatEnvironment float_environment;
  const UniqueKeys unique(keys, options.padding_key);
  const size_t num_floats = dim();
  std::vector<uint64_t> kept;
  std::vector<CountedKey> kept_occurrences;
  std::string rows;
  std::vector<float> sum(num_floats);
  for (int64_t i = 0; i < unique.size(); ++i) {
    SumGradients(gradients, unique.Occurrences(i), &sum);
    if (!AllFinite(sum)) {
      ++result->num_skipped;
      continue;
    }
    kept.push_back(unique.keys()[i]);
    kept_occurrences.push_back({kept.back(), static_cast<uint32_t>(unique.Occurrences(i).size())});
    char prefix[kApplyRowPrefixBytes] = {};
    StoreLittleEndian(kept.back(), prefix);
    rows.append(prefix, sizeof(prefix));
    rows.append(reinterpret_cast<const char*>(sum.data()), num_floats * sizeof(float));
  }
  header.num_rows = kept.size();
  DAMO_RETURN_IF_ERROR(SetNextNumbers(storage, kept, header.time_millis, rows));
  std::string counted;
  if (filter_ != nullptr) counted = AdmitRecorded(kept_occurrences, &rows, header, result);
  const auto bytes = EncodeApplyRecordHeader(header);
  return std::string(bytes.data(), bytes.size()) + rows + counted;
}

// Removes from the rows of a record those whose keys have no row and have not occurred often enough for one.
// `keys` are all of the rows', with their occurrences in the call. Returns what the record is to say of the
// keys counted.
std::string CachedTable::AdmitRecorded(const std::vector<CountedKey>& keys, std::string* rows,
                                       ApplyRecordHeader& header, ApplyResult* result) const {
  const int64_t min_count = recipe()->config.min_count;
  const size_t stride = ApplyRowBytes(dim());
  std::string counted;
  size_t num_kept = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    const char* const row = rows->data() + i * stride;
    if (BeginsRow(LoadLittleEndian<uint64_t>(row + sizeof(uint64_t)))) {
      AppendCountedKey(keys[i].key, keys[i].occurrences, &counted);
      ++header.num_counted;
      if (filter_->Count(keys[i].key) + keys[i].occurrences < min_count) continue;
    }
    std::memmove(rows->data() + num_kept * stride, row, stride);
    ++num_kept;
  }
  result->num_blocked += static_cast<int64_t>(keys.size() - num_kept);
  rows->resize(num_kept * stride);
  header.num_rows = num_kept;
  return counted;
}

// Fills in the numbers of the updates that the rows of a record are about to have.
Status CachedTable::SetNextNumbers(const Storage& storage, Span<const uint64_t> keys, int64_t now_millis,
                                   std::string& rows) const {
  const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
  const size_t stride = ApplyRowBytes(dim());
  const auto set = [&](size_t i, int64_t update_num, int64_t update_time) {
    StoreLittleEndian(NextUpdateNumber(update_num, update_time, recipe->lifetime, now_millis),
                      rows.data() + i * stride + sizeof(uint64_t));
  };
  std::vector<uint64_t> uncached;
  std::vector<size_t> indices;
  {
    const std::shared_lock<FairSharedMutex> lock(cache_->mutex());
    for (size_t i = 0; i < keys.size(); ++i) {
      const uint64_t hash = HashKey(keys[i]);
      const RowShard& shard = cache_->ShardFor(hash);
      const uint32_t slot = shard.Find(keys[i], TagOf(hash));
      if (slot != RowShard::kNoSlot) {
        set(i, shard.row(slot)->update_num, shard.row(slot)->update_time);
      } else {
        uncached.push_back(keys[i]);
        indices.push_back(i);
      }
    }
  }
  return storage.MultiGet(
      group_byte(), uncached, [&](size_t i, std::optional<std::string_view> row) -> Status {
        RowHeader header;
        if (row) {
          DAMO_ASSIGN_OR_RETURN(header, DecodeRowHeader(*row, recipe->layout, group_byte(), uncached[i]));
        }
        set(indices[i], header.update_num, header.update_time);
        return Status();
      });
}

// ---- records ----

// Brings what is left of a call into the rows, in parts of which each fits into the cache. After a failure,
// or an exception, it may be called again. Requires flush mutex and apply mutex.
Status CachedTable::ApplyLogged(Storage& storage, LoggedCall& call, Executor& executor) {
  open_record_ = {call.lsn, call.record->header().time_millis};
  const Status applied = ApplyParts(storage, call, executor);
  KeepBuffers();
  DAMO_RETURN_IF_ERROR(applied);
  // After the last flush of a part: what is flushed is never a part of the counts.
  DAMO_RETURN_IF_ERROR(CountRecorded(*call.record));
  open_record_.reset();
  set_state({state().step + 1, state().num_rows + call.result.num_inserted});
  return Status();
}

Status CachedTable::CountRecorded(const ApplyRecord& record) {
  if (record.header().num_counted == 0 || session().settings().read_only) return Status();
  if (filter_ == nullptr) {
    return DataLoss("redo record of group ", group(), " counts keys, but the group has no min_count");
  }
  std::vector<CountedKey> keys;
  keys.reserve(record.header().num_counted);
  for (uint64_t i = 0; i < record.header().num_counted; ++i) {
    keys.push_back({record.counted_key(i), record.occurrences(i)});
  }
  filter_->Reserve(keys);  // all of them are counted, or none
  filter_->Add(keys);
  full_filter_warning_.Note(filter_->fill(), recipe()->config, session());
  return Status();
}

Status CachedTable::ApplyParts(Storage& storage, LoggedCall& call, Executor& executor) {
  const uint64_t num_rows = call.record->header().num_rows;
  uint64_t part = num_rows - call.num_done;
  bool flushed = false;
  while (call.num_done < num_rows) {
    part = std::min(part, num_rows - call.num_done);
    DAMO_ASSIGN_OR_RETURN(const bool done, ApplyPart(storage, call, part, executor));
    if (done) {
      flushed = false;
    } else if (!flushed) {
      DAMO_RETURN_IF_ERROR(shared_.write_back->FlushLocked(storage, this));
      flushed = true;
    } else if (part > 1) {
      part = (part + 1) / 2;
    } else {
      return Internal("the row cache has no room for a single row");
    }
  }
  return Status();
}

// The next `num_rows` rows: all of them, or if it returns false or fails, none.
StatusOr<bool> CachedTable::ApplyPart(Storage& storage, LoggedCall& logged, uint64_t num_rows,
                                      Executor& executor) {
  const ApplyRecord& record = *logged.record;
  const uint64_t begin = logged.num_done;
  std::vector<uint64_t> keys;
  std::vector<uint64_t> numbers;
  for (uint64_t i = begin; i < begin + num_rows; ++i) {
    keys.push_back(record.key(i));
    numbers.push_back(static_cast<uint64_t>(record.update_num(i)) | (record.absent(i) ? kAbsentRowFlag : 0));
  }
  const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
  const ApplyRecordHeader& header = record.header();
  ApplyCall call(keys, std::nullopt, {record.gradient(begin), ApplyRowBytes(dim()), /*scale=*/1.0f},
                 {*recipe, session(), group_byte(), header.time_millis, header.learning_rate});
  call.hard_pressed = true;
  partition_.Build(call.keys, call.padding_key, *cache_, executor);
  Gathered gathered(this);
  DAMO_ASSIGN_OR_RETURN(const bool fits, Gather(call, executor));
  if (!fits) return false;
  DAMO_RETURN_IF_ERROR(Load(storage, call, executor));
  SetRecorded(numbers);
  gathered.Keep();
  Update(call, executor);
  logged.num_done += num_rows;
  logged.result.num_updated += call.result.num_updated;
  logged.result.num_inserted += call.result.num_inserted;
  logged.result.num_skipped += call.result.num_skipped;
  if (shared_.write_back != nullptr) shared_.write_back->NoteDirty(call.num_newly_dirty, row_bytes());
  return true;
}

void CachedTable::SetRecorded(Span<const uint64_t> numbers) {
  const std::lock_guard<FairSharedMutex> lock(cache_->mutex());
  std::vector<uint64_t> gaps;
  std::vector<uint64_t> born;
  for (int i = 0; i < cache_->num_shards(); ++i) {
    updates_[i].SetRecorded(cache_->shard(i), numbers, &gaps, &born);
  }
  replay_gaps_.insert(gaps.begin(), gaps.end());
  for (const uint64_t key : born) replay_gaps_.erase(key);
}

Status CachedTable::Replay(Storage& storage, uint64_t lsn, const ApplyRecord& record, Executor& executor) {
  std::unique_lock<std::mutex> flush_lock;
  if (shared_.write_back != nullptr) flush_lock = shared_.write_back->LockFlush();
  const std::lock_guard<std::mutex> lock(apply_mutex_);
  const ApplyRecordHeader& header = record.header();
  NoteEventTime(header.time_millis);
  if (header.step < state().step) return Status();  // in the rows since the last flush
  if (header.step > state().step || header.dim != dim()) {
    return DataLoss("redo record ", lsn, " of group ", group(), " has step ", header.step, " and dim ",
                    header.dim, ", expected step ", state().step, " and dim ", dim());
  }
  if (header.num_counted > 0) DAMO_RETURN_IF_ERROR(LoadFilter(storage));
  LoggedCall call;
  call.record = record;
  call.lsn = lsn;
  return ApplyLogged(storage, call, executor);
}

Status CachedTable::FinishReplay() const {
  if (replay_gaps_.empty()) return Status();
  return DataLoss("group ", group(), ": ", replay_gaps_.size(),
                  " rows lack updates before those in the redo ", "log, the first of key ",
                  *replay_gaps_.begin());
}

}  // namespace damo
