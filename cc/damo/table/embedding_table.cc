// SPDX-License-Identifier: Apache-2.0
#include "damo/table/embedding_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "damo/base/float_environment.h"
#include "damo/table/unique_keys.h"

namespace damo {
namespace {

// Rows per parallel block: enough work to be worth a thread, and a MultiGet long enough to share block reads.
constexpr int64_t kMinRowsPerBlock = 256;

// sum = the gradients at `occurrences`, added in that order, each scaled first.
void SumGradients(Span<const float> gradients, Span<const int64_t> occurrences, float scale,
                  Span<float> sum) {
  const size_t dim = sum.size();
  const float* first = gradients.data() + occurrences[0] * dim;
  for (size_t j = 0; j < dim; ++j) sum[j] = first[j] * scale;
  for (size_t i = 1; i < occurrences.size(); ++i) {
    const float* next = gradients.data() + occurrences[i] * dim;
    for (size_t j = 0; j < dim; ++j) sum[j] += next[j] * scale;
  }
}

// Bytes of floats, aligned or not, as floats.
std::vector<float> CopyFloats(std::string_view bytes) {
  std::vector<float> floats(bytes.size() / sizeof(float));
  if (!floats.empty()) std::memcpy(floats.data(), bytes.data(), bytes.size());
  return floats;
}

bool AllFinite(Span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

}  // namespace

// The distinct rows of one apply call, in their stored form, and what became of each. Different rows may be
// touched by different threads.
class EmbeddingTable::RowBuffer {
 public:
  enum class Outcome : uint8_t { kUpdated, kInserted, kSkipped };

  RowBuffer(const RowLayout& layout, int64_t num_rows)
      : layout_(layout),
        stride_((layout.row_bytes() + 7) / 8 * 8),
        bytes_(new char[stride_ * num_rows]),
        headers_(num_rows),
        outcomes_(num_rows, Outcome::kUpdated) {}

  const RowLayout& layout() const { return layout_; }
  char* row(int64_t i) { return bytes_.get() + i * stride_; }
  std::string_view bytes(int64_t i) const { return {bytes_.get() + i * stride_, layout_.row_bytes()}; }
  RowHeader& header(int64_t i) { return headers_[i]; }
  Outcome& outcome(int64_t i) { return outcomes_[i]; }
  Outcome outcome(int64_t i) const { return outcomes_[i]; }

  ApplyResult Result() const {
    ApplyResult result;
    for (const Outcome outcome : outcomes_) {
      result.num_skipped += outcome == Outcome::kSkipped ? 1 : 0;
      result.num_inserted += outcome == Outcome::kInserted ? 1 : 0;
    }
    result.num_updated = static_cast<int64_t>(outcomes_.size()) - result.num_skipped;
    return result;
  }

 private:
  const RowLayout layout_;
  const size_t stride_;  // a multiple of 8: floats and integers of every row are aligned
  const std::unique_ptr<char[]> bytes_;
  std::vector<RowHeader> headers_;
  std::vector<Outcome> outcomes_;
};

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
  counters.missing_keys = counters_.missing_keys;
  counters.updated_rows = counters_.updated_rows;
  counters.inserted_rows = counters_.inserted_rows;
  counters.skipped_rows = counters_.skipped_rows;
  counters.expired_rows = counters_.expired_rows;
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

StatusOr<std::optional<RowHeader>> EmbeddingTable::DecodeLiveRow(const GroupRecipe& recipe, uint64_t key,
                                                                 std::string_view row,
                                                                 int64_t now_millis) const {
  DAMO_ASSIGN_OR_RETURN(const RowHeader header, DecodeRowHeader(row, recipe.layout, group_, key));
  if (!session_->Expired(header.update_time, now_millis)) return std::optional<RowHeader>(header);
  counters_.expired_rows += 1;
  return std::optional<RowHeader>();
}

void EmbeddingTable::FillInitial(const GroupRecipe& recipe, uint64_t key, Span<float> weights) const {
  recipe.initializer->Fill(RowRandom(session_->settings().seed, group_, key), weights);
}

Status EmbeddingTable::Lookup(Span<const uint64_t> keys, const LookupOptions& options, Executor& executor,
                              Span<float> weights) const {
  const auto lookup = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
    DAMO_RETURN_IF_ERROR(CheckSizes(keys, weights.size(), "weights"));
    if (options.padding_key) std::fill(weights.begin(), weights.end(), 0.0f);
    const UniqueKeys unique(keys, options.padding_key);
    counters_.lookup_keys += unique.size();
    const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
    const Moment moment{*recipe, session_->settings().clock->NowMillis(), /*learning_rate=*/0};
    return ParallelForStatus(executor, unique.size(), kMinRowsPerBlock, [&](int64_t begin, int64_t end) {
      return LookupUnique(unique, begin, end, *storage, options, moment, weights);
    });
  };
  const Status status = lookup();
  return status.ok() ? status : status.WithContext(Context("lookup in"));
}

Status EmbeddingTable::LookupUnique(const UniqueKeys& unique, int64_t begin, int64_t end,
                                    const Storage& storage, const LookupOptions& options,
                                    const Moment& moment, Span<float> weights) const {
  const ScopedFloatEnvironment float_environment;
  const Span<const uint64_t> keys = unique.keys().subspan(begin, end - begin);
  const size_t weight_bytes = sizeof(float) * dim_;
  return storage.MultiGet(group_, keys, [&](size_t i, std::optional<std::string_view> row) {
    const Span<const int64_t> occurrences = unique.Occurrences(begin + static_cast<int64_t>(i));
    const Span<float> first = weights.subspan(occurrences[0] * dim_, dim_);
    std::optional<RowHeader> header;
    if (row) {
      DAMO_ASSIGN_OR_RETURN(header, DecodeLiveRow(moment.recipe, keys[i], *row, moment.now_millis));
    }
    if (header) {
      std::memcpy(first.data(), row->data() + kRowHeaderBytes, weight_bytes);
    } else {
      counters_.missing_keys += 1;
      if (options.missing == MissingRow::kInitial) {
        FillInitial(moment.recipe, keys[i], first);
      } else {
        std::fill(first.begin(), first.end(), 0.0f);
      }
    }
    for (size_t k = 1; k < occurrences.size(); ++k) {
      std::memcpy(weights.data() + occurrences[k] * dim_, first.data(), weight_bytes);
    }
    return Status();
  });
}

StatusOr<ApplyResult> EmbeddingTable::ApplyGradients(Span<const uint64_t> keys, Span<const float> gradients,
                                                     const ApplyOptions& options, Executor& executor) {
  ApplyResult result;
  const auto apply = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginWrite());
    DAMO_RETURN_IF_ERROR(CheckSizes(keys, gradients.size(), "gradients"));
    const UniqueKeys unique(keys, options.padding_key);
    const std::shared_ptr<const GroupRecipe> recipe = this->recipe();

    // I/O under the lock on purpose: read, compute and write of a row must not interleave with another
    // call's.
    const std::lock_guard<std::mutex> lock(apply_mutex_);
    DAMO_ASSIGN_OR_RETURN(const double learning_rate, NextLearningRate(*recipe));
    const Moment moment{*recipe, session_->settings().clock->NowMillis(), learning_rate};
    RowBuffer rows(recipe->layout, unique.size());
    const auto update = [&](int64_t begin, int64_t end) -> Status {
      const ScopedFloatEnvironment float_environment;
      DAMO_RETURN_IF_ERROR(LoadRows(unique, begin, end, *storage, moment, rows));
      UpdateRows(unique, begin, end, gradients, options, moment, rows);
      return Status();
    };
    DAMO_RETURN_IF_ERROR(ParallelForStatus(executor, unique.size(), kMinRowsPerBlock, update));
    result = rows.Result();
    return WriteRows(unique, rows, result, *storage);
  };
  const Status status = apply();
  if (!status.ok()) return status.WithContext(Context("apply gradients to"));
  counters_.updated_rows += result.num_updated;
  counters_.inserted_rows += result.num_inserted;
  counters_.skipped_rows += result.num_skipped;
  return result;
}

Status EmbeddingTable::LoadRows(const UniqueKeys& unique, int64_t begin, int64_t end, const Storage& storage,
                                const Moment& moment, RowBuffer& rows) const {
  const Span<const uint64_t> keys = unique.keys().subspan(begin, end - begin);
  return storage.MultiGet(group_, keys, [&](size_t i, std::optional<std::string_view> stored) {
    const int64_t r = begin + static_cast<int64_t>(i);
    std::optional<RowHeader> header;
    if (stored) {
      DAMO_ASSIGN_OR_RETURN(header, DecodeLiveRow(moment.recipe, keys[i], *stored, moment.now_millis));
    }
    if (header) {
      std::memcpy(rows.row(r), stored->data(), stored->size());
      rows.header(r) = *header;
    } else {
      FillInitial(moment.recipe, keys[i], rows.layout().Weights(rows.row(r)));
      const Span<float> slots = rows.layout().Slots(rows.row(r));
      std::fill(slots.begin(), slots.end(), 0.0f);
      rows.header(r) = RowHeader{group_, keys[i], 0, 0};
      // An expired row still lies in the storage, so it is written over, not inserted.
      if (!stored) rows.outcome(r) = RowBuffer::Outcome::kInserted;
    }
    return Status();
  });
}

void EmbeddingTable::UpdateRows(const UniqueKeys& unique, int64_t begin, int64_t end,
                                Span<const float> gradients, const ApplyOptions& options,
                                const Moment& moment, RowBuffer& rows) const {
  std::vector<float> sum(dim_);
  for (int64_t r = begin; r < end; ++r) {
    SumGradients(gradients, unique.Occurrences(r), options.gradient_scale, sum);
    if (!AllFinite(sum)) {
      rows.outcome(r) = RowBuffer::Outcome::kSkipped;
      continue;
    }
    RowHeader& header = rows.header(r);
    header.update_num += 1;
    header.update_time = moment.now_millis;
    char* const row = rows.row(r);
    EncodeRowHeader(header, row);
    const Span<float> weights = rows.layout().Weights(row);
    const Span<float> slots = rows.layout().Slots(row);
    moment.recipe.optimizer->Update({moment.learning_rate, header.update_num}, sum, weights, slots);
    if (!AllFinite(weights) || !AllFinite(slots)) rows.outcome(r) = RowBuffer::Outcome::kSkipped;
  }
}

StatusOr<double> EmbeddingTable::NextLearningRate(const GroupRecipe& recipe) const {
  const double rate = recipe.LearningRate(step_);
  if (rate >= 0 && std::isfinite(static_cast<float>(rate))) return rate;
  return FailedPrecondition("the learning rate must be >= 0 and finite in float32; at step ", step_.load(),
                            " the schedule gives ", rate);
}

Status EmbeddingTable::WriteRows(const UniqueKeys& unique, const RowBuffer& rows, const ApplyResult& result,
                                 Storage& storage) {
  const GroupState state{step_ + 1, num_rows_ + result.num_inserted};
  const std::unique_ptr<StorageBatch> batch = storage.NewBatch();
  for (int64_t r = 0; r < unique.size(); ++r) {
    if (rows.outcome(r) == RowBuffer::Outcome::kSkipped) continue;
    DAMO_RETURN_IF_ERROR(batch->PutRow(group_, unique.keys()[r], rows.bytes(r)));
  }
  DAMO_RETURN_IF_ERROR(PutGroupState(group_, state, *batch));
  DAMO_RETURN_IF_ERROR(storage.Write(*batch));
  step_ = state.step;
  num_rows_ = state.num_rows;
  return Status();
}

StatusOr<std::optional<Row>> EmbeddingTable::GetRow(uint64_t key) const {
  std::optional<Row> result;
  const auto get = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
    const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
    const int64_t now_millis = session_->settings().clock->NowMillis();
    const auto visit = [&](size_t /*index*/, std::optional<std::string_view> row) -> Status {
      if (!row) return Status();
      DAMO_ASSIGN_OR_RETURN(const auto header, DecodeLiveRow(*recipe, key, *row, now_millis));
      if (!header) return Status();
      const std::string_view floats = row->substr(kRowHeaderBytes);
      const size_t weight_bytes = sizeof(float) * dim_;
      result =
          Row{*header, CopyFloats(floats.substr(0, weight_bytes)), CopyFloats(floats.substr(weight_bytes))};
      return Status();
    };
    return storage->MultiGet(group_, Span<const uint64_t>(&key, 1), visit);
  };
  const Status status = get();
  if (!status.ok()) return status.WithContext(Context("read a row of"));
  return result;
}

StatusOr<int64_t> EmbeddingTable::Size() const {
  int64_t num_live = 0;
  const auto count = [&]() -> Status {
    DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
    const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
    if (!session_->settings().ttl_seconds) {
      num_live = num_rows_;
      return Status();
    }
    const int64_t now_millis = session_->settings().clock->NowMillis();
    return storage->Scan(group_, [&](uint64_t key, std::string_view row) -> Status {
      DAMO_ASSIGN_OR_RETURN(const RowHeader header, DecodeRowHeader(row, recipe->layout, group_, key));
      num_live += session_->Expired(header.update_time, now_millis) ? 0 : 1;
      return Status();
    });
  };
  const Status status = count();
  if (!status.ok()) return status.WithContext(Context("count the rows of"));
  return num_live;
}

}  // namespace damo
