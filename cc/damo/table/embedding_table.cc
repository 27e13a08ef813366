// SPDX-License-Identifier: Apache-2.0
#include "damo/table/embedding_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace damo {
namespace {

// Bytes of floats, aligned or not, as floats.
std::vector<float> CopyFloats(std::string_view bytes) {
  std::vector<float> floats(bytes.size() / sizeof(float));
  if (!floats.empty()) std::memcpy(floats.data(), bytes.data(), bytes.size());
  return floats;
}

bool IsLearningRate(double rate) { return rate >= 0 && std::isfinite(static_cast<float>(rate)); }

}  // namespace

Status CheckLearningRate(double learning_rate) {
  if (IsLearningRate(learning_rate)) return Status();
  return InvalidArgument("`learning_rate` must be >= 0 and finite in float32. Received: learning_rate=",
                         learning_rate);
}

Status CheckNumKeys(uint64_t num_keys) {
  constexpr uint64_t kLimit = uint64_t{1} << 32;
  if (num_keys < kLimit) return Status();
  return InvalidArgument("`keys` of one call must be fewer than 2^32 = ", kLimit, ". Received: ", num_keys,
                         " keys");
}

EmbeddingTable::EmbeddingTable(std::shared_ptr<StoreSession> session,
                               std::shared_ptr<const GroupRecipe> recipe, const GroupState& state)
    : session_(std::move(session)),
      group_(static_cast<uint8_t>(recipe->config.group)),
      dim_(recipe->config.dim),
      recipe_(std::move(recipe)),
      step_(state.step),
      num_rows_(state.num_rows) {}

std::shared_ptr<const GroupRecipe> EmbeddingTable::recipe() const {
  const std::lock_guard<std::mutex> lock(recipe_mutex_);
  return recipe_;
}

void EmbeddingTable::SetRecipe(std::shared_ptr<const GroupRecipe> recipe) {
  const std::lock_guard<std::mutex> lock(recipe_mutex_);
  recipe_ = std::move(recipe);
}

TableCounters EmbeddingTable::counters() const {
  TableCounters counters;
  counters.lookup_keys = counters_.lookup_keys;
  counters.cache_misses = counters_.cache_misses;
  counters.missing_keys = counters_.missing_keys;
  counters.updated_rows = updated_rows_;
  counters.inserted_rows = inserted_rows_;
  counters.skipped_rows = skipped_rows_;
  counters.blocked_keys = blocked_keys_;
  counters.expired_rows = counters_.expired_rows;
  counters.lookup_calls = lookup_times_.num_calls();
  counters.lookup_nanos = lookup_times_.nanos();
  counters.apply_calls = apply_times_.num_calls();
  counters.apply_nanos = apply_times_.nanos();
  return counters;
}

std::string EmbeddingTable::Context(const char* action) const {
  return StrCat(action, " group ", int{group_}, " of store '", session_->settings().directory, "'");
}

Status EmbeddingTable::CheckSizes(Span<const uint64_t> keys, size_t num_floats, const char* name) const {
  if (num_floats == keys.size() * dim_) return Status();
  return InvalidArgument("`", name, "` must hold keys.size() * dim = ", keys.size(), " * ", dim_, " = ",
                         keys.size() * dim_, " floats. Received: ", num_floats);
}

Status EmbeddingTable::CheckGradients(Span<const uint64_t> keys, size_t num_floats) const {
  DAMO_RETURN_IF_ERROR(CheckNumKeys(keys.size()));
  return CheckSizes(keys, num_floats, "gradients");
}

StatusOr<std::optional<std::string>> EmbeddingTable::ReadStoredRow(const Storage& storage,
                                                                   uint64_t key) const {
  std::optional<std::string> stored;
  const auto visit = [&stored](size_t /*index*/, std::optional<std::string_view> row) {
    if (row) stored = std::string(*row);
    return Status();
  };
  DAMO_RETURN_IF_ERROR(storage.MultiGet(group_, Span<const uint64_t>(&key, 1), visit));
  return stored;
}

StatusOr<std::optional<RowHeader>> EmbeddingTable::DecodeLiveRow(const GroupRecipe& recipe, uint64_t key,
                                                                 std::string_view row,
                                                                 int64_t now_millis) const {
  DAMO_ASSIGN_OR_RETURN(const RowHeader header, DecodeRowHeader(row, recipe.layout, group_, key));
  if (!recipe.lifetime.Expired(header.update_time, now_millis)) return std::optional<RowHeader>(header);
  counters_.expired_rows += 1;
  return std::optional<RowHeader>();
}

std::optional<int64_t> EmbeddingTable::ReleaseTime(int64_t now_millis) const {
  if (release_holds_ > 0) return std::nullopt;
  const int64_t time = recipe()->lifetime.LastExpired(now_millis);
  return time >= 0 ? std::optional(time) : std::nullopt;
}

Status EmbeddingTable::ReleaseExpired(Storage& storage) {
  // I/O under the lock on purpose: a restore may set the time back, and must not come in between.
  const std::lock_guard<std::mutex> lock(apply_mutex());
  const std::optional<int64_t> release_time = ReleaseTime(NowMillis());
  if (!release_time) return Status();
  if (!rows_released_) {
    const std::unique_ptr<StorageBatch> batch = storage.NewBatch();
    DAMO_RETURN_IF_ERROR(PutReleased(group_, *batch));
    DAMO_RETURN_IF_ERROR(storage.Write(*batch));
    DAMO_RETURN_IF_ERROR(
        storage.Flush());  // a row must not be gone before the manifest says that some may be
    set_rows_released(true);
  }
  storage.ReleaseRows(group_, *release_time);
  return Status();
}

void EmbeddingTable::FillInitial(const GroupRecipe& recipe, uint64_t key, Span<float> weights) const {
  recipe.initializer->Fill(RowRandom(session_->settings().seed, group_, key), weights);
}

StatusOr<double> EmbeddingTable::NextLearningRate(const GroupRecipe& recipe,
                                                  const ApplyOptions& options) const {
  if (options.learning_rate) {
    DAMO_RETURN_IF_ERROR(CheckLearningRate(*options.learning_rate));
    return *options.learning_rate;
  }
  const double rate = recipe.LearningRate(step_);
  if (IsLearningRate(rate)) return rate;
  return FailedPrecondition("the learning rate must be >= 0 and finite in float32; at step ", step_.load(),
                            " the schedule gives ", rate);
}

Status EmbeddingTable::Lookup(Span<const uint64_t> keys, const LookupOptions& options, Executor& executor,
                              Span<float> weights) const {
  const CallTimes::Call call(lookup_times_);
  DAMO_RETURN_IF_ERROR(PrepareToRead(keys, "lookup in"));
  return LookupRows(keys, options, executor, weights);
}

Status EmbeddingTable::PrepareToRead(Span<const uint64_t> keys, const char* action) const {
  const auto prepare = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
    return FinishCallOf(*storage, keys);
  };
  const Status status = prepare();
  return status.ok() ? status : status.WithContext(Context(action));
}

Status EmbeddingTable::LookupRows(Span<const uint64_t> keys, const LookupOptions& options, Executor& executor,
                                  Span<float> weights) const {
  const auto lookup = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
    DAMO_RETURN_IF_ERROR(CheckSizes(keys, weights.size(), "weights"));
    return DoLookup(*storage, keys, options, executor, weights);
  };
  const Status status = lookup();
  return status.ok() ? status : status.WithContext(Context("lookup in"));
}

Status EmbeddingTable::Prefetch(Span<const uint64_t> keys, std::optional<uint64_t> padding_key,
                                Executor& executor) const {
  const auto prefetch = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
    DAMO_RETURN_IF_ERROR(FinishCallOf(*storage, keys));
    return DoPrefetch(*storage, keys, padding_key, executor);
  };
  const Status status = prefetch();
  return status.ok() ? status : status.WithContext(Context("prefetch rows of"));
}

StatusOr<ApplyResult> EmbeddingTable::ApplyGradients(Span<const uint64_t> keys, Span<const float> gradients,
                                                     const ApplyOptions& options, Executor& executor) {
  return ApplyRows(keys, CheckGradients(keys, gradients.size()), gradients, /*sources=*/nullptr, options,
                   executor);
}

// `checked` is what became of checking the arguments, of which a closed store is told first.
StatusOr<ApplyResult> EmbeddingTable::ApplyRows(Span<const uint64_t> keys, const Status& checked,
                                                Span<const float> gradients,
                                                const GradientRows::Source* sources,
                                                const ApplyOptions& options, Executor& executor) {
  const CallTimes::Call call(apply_times_);
  const auto apply = [&]() -> StatusOr<ApplyResult> {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
    DAMO_RETURN_IF_ERROR(checked);
    const GradientRows rows{reinterpret_cast<const char*>(gradients.data()), sizeof(float) * dim_,
                            options.gradient_scale, sources};
    return DoApplyGradients(*storage, keys, rows, options, executor);
  };
  StatusOr<ApplyResult> result = apply();
  if (!result.ok()) return result.status().WithContext(Context("apply gradients to"));
  CountResult(*result);
  return result;
}

void EmbeddingTable::CountResult(const ApplyResult& result) {
  updated_rows_ += result.num_updated;
  inserted_rows_ += result.num_inserted;
  skipped_rows_ += result.num_skipped;
  blocked_keys_ += result.num_blocked;
}

StatusOr<std::optional<Row>> EmbeddingTable::GetRow(uint64_t key) const {
  const auto get = [&]() -> StatusOr<std::optional<Row>> {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
    DAMO_RETURN_IF_ERROR(FinishCallOf(*storage, Span<const uint64_t>(&key, 1)));
    const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
    DAMO_ASSIGN_OR_RETURN(const std::optional<std::string> row, DoGetRow(*storage, key));
    if (!row) return std::optional<Row>();
    DAMO_ASSIGN_OR_RETURN(const auto header, DecodeLiveRow(*recipe, key, *row, NowMillis()));
    if (!header) return std::optional<Row>();
    const std::string_view floats = std::string_view(*row).substr(kRowHeaderBytes);
    const size_t weight_bytes = sizeof(float) * dim_;
    return std::optional<Row>(
        Row{*header, CopyFloats(floats.substr(0, weight_bytes)), CopyFloats(floats.substr(weight_bytes))});
  };
  StatusOr<std::optional<Row>> row = get();
  if (!row.ok()) return row.status().WithContext(Context("read a row of"));
  return row;
}

StatusOr<int64_t> EmbeddingTable::Size() const {
  const auto count = [&]() -> StatusOr<int64_t> {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
    if (num_rows_is_size()) return num_rows();
    return CountLiveRows(*storage, NowMillis());
  };
  StatusOr<int64_t> num_rows = count();
  if (!num_rows.ok()) return num_rows.status().WithContext(Context("count the rows of"));
  return num_rows;
}

}  // namespace damo
