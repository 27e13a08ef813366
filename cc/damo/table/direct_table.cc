// SPDX-License-Identifier: Apache-2.0
#include "damo/table/direct_table.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "damo/base/float_environment.h"
#include "damo/base/float_math.h"
#include "damo/table/unique_keys.h"

namespace damo {
namespace {

// Rows per parallel block: enough work to be worth a thread, and a MultiGet long enough to share block reads.
constexpr int64_t kMinRowsPerBlock = 256;

// sum = the gradients at `occurrences`, added in that order, each times its coefficient.
void SumGradients(const GradientRows& gradients, Span<const int64_t> occurrences, Span<float> sum) {
  for (size_t i = 0; i < occurrences.size(); ++i) {
    const float* const gradient = gradients.row(occurrences[i]);
    const float coefficient = gradients.coefficient(occurrences[i]);
    for (size_t j = 0; j < sum.size(); ++j) {
      const float scaled = gradient[j] * coefficient;
      sum[j] = i == 0 ? scaled : sum[j] + scaled;
    }
  }
}

}  // namespace

// The distinct rows of one apply call, in their stored form, and what became of each. Different rows may be
// touched by different threads.
class DirectTable::RowBuffer {
 public:
  // kSkipped is of gradients that are not finite, kFailed of steps that would not be: these occurrences
  // count.
  enum class Outcome : uint8_t { kUpdated, kInserted, kSkipped, kFailed, kBlocked };

  RowBuffer(const RowLayout& layout, int64_t num_rows)
      : layout_(layout),
        stride_((layout.row_bytes() + 7) / 8 * 8),
        bytes_(new char[stride_ * num_rows]),
        headers_(num_rows),
        outcomes_(num_rows, Outcome::kUpdated),
        is_new_(num_rows, 0) {}

  const RowLayout& layout() const { return layout_; }
  char* row(int64_t i) { return bytes_.get() + i * stride_; }
  std::string_view bytes(int64_t i) const { return {bytes_.get() + i * stride_, layout_.row_bytes()}; }
  RowHeader& header(int64_t i) { return headers_[i]; }
  Outcome& outcome(int64_t i) { return outcomes_[i]; }
  Outcome outcome(int64_t i) const { return outcomes_[i]; }
  bool written(int64_t i) const {
    return outcomes_[i] == Outcome::kUpdated || outcomes_[i] == Outcome::kInserted;
  }
  // Whether a row is one that its key did not have before the call.
  bool is_new(int64_t i) const { return is_new_[i] != 0; }
  void set_new(int64_t i) { is_new_[i] = 1; }

  ApplyResult Result() const {
    ApplyResult result;
    for (const Outcome outcome : outcomes_) {
      result.num_skipped += outcome == Outcome::kSkipped || outcome == Outcome::kFailed ? 1 : 0;
      result.num_blocked += outcome == Outcome::kBlocked ? 1 : 0;
      result.num_inserted += outcome == Outcome::kInserted ? 1 : 0;
    }
    result.num_updated = static_cast<int64_t>(outcomes_.size()) - result.num_skipped - result.num_blocked;
    return result;
  }

 private:
  const RowLayout layout_;
  const size_t stride_;  // a multiple of 8: floats and integers of every row are aligned
  const std::unique_ptr<char[]> bytes_;
  std::vector<RowHeader> headers_;
  std::vector<Outcome> outcomes_;
  std::vector<uint8_t> is_new_;
};

Status DirectTable::DoLookup(const Storage& storage, Span<const uint64_t> keys, const LookupOptions& options,
                             Executor& executor, Span<float> weights) const {
  if (options.padding_key) std::fill(weights.begin(), weights.end(), 0.0f);
  const UniqueKeys unique(keys, options.padding_key);
  const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
  const Moment moment{*recipe, NowMillis(), /*learning_rate=*/0};
  return ParallelForStatus(executor, unique.size(), kMinRowsPerBlock, [&](int64_t begin, int64_t end) {
    return LookupUnique(unique, begin, end, storage, OptionsFor(*recipe, options), moment, weights);
  });
}

Status DirectTable::LookupUnique(const UniqueKeys& unique, int64_t begin, int64_t end, const Storage& storage,
                                 const LookupOptions& options, const Moment& moment,
                                 Span<float> weights) const {
  const ScopedFloatEnvironment float_environment;
  const Span<const uint64_t> keys = unique.keys().subspan(begin, end - begin);
  const size_t weight_bytes = sizeof(float) * dim();
  return storage.MultiGet(
      static_cast<uint8_t>(group()), keys, [&](size_t i, std::optional<std::string_view> row) {
        const Span<const int64_t> occurrences = unique.Occurrences(begin + static_cast<int64_t>(i));
        const Span<float> first = weights.subspan(occurrences[0] * dim(), dim());
        atomic_counters().lookup_keys += static_cast<int64_t>(occurrences.size());
        atomic_counters().cache_misses += static_cast<int64_t>(occurrences.size());
        std::optional<RowHeader> header;
        if (row) {
          DAMO_ASSIGN_OR_RETURN(header, DecodeLiveRow(moment.recipe, keys[i], *row, moment.now_millis));
        }
        if (header) {
          std::memcpy(first.data(), row->data() + kRowHeaderBytes, weight_bytes);
        } else {
          atomic_counters().missing_keys += static_cast<int64_t>(occurrences.size());
          if (options.missing == MissingRow::kInitial) {
            FillInitial(moment.recipe, keys[i], first);
          } else {
            std::fill(first.begin(), first.end(), 0.0f);
          }
        }
        for (size_t k = 1; k < occurrences.size(); ++k) {
          std::memcpy(weights.data() + occurrences[k] * dim(), first.data(), weight_bytes);
        }
        return Status();
      });
}

StatusOr<ApplyResult> DirectTable::DoApplyGradients(Storage& storage, Span<const uint64_t> keys,
                                                    const GradientRows& gradients,
                                                    const ApplyOptions& options, Executor& executor) {
  const UniqueKeys unique(keys, options.padding_key);

  // I/O under the lock on purpose: read, compute and write of a row must not interleave with another call's.
  const std::lock_guard<std::mutex> lock(apply_mutex_);
  DAMO_RETURN_IF_ERROR(session().CheckStillWriting());
  const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
  DAMO_ASSIGN_OR_RETURN(const double learning_rate, NextLearningRate(*recipe, options));
  const Moment moment{*recipe, NowMillis(), learning_rate};
  RowBuffer rows(recipe->layout, unique.size());
  const auto load = [&](int64_t begin, int64_t end) -> Status {
    const ScopedFloatEnvironment float_environment;
    return LoadRows(unique, begin, end, storage, moment, rows);
  };
  DAMO_RETURN_IF_ERROR(ParallelForStatus(executor, unique.size(), kMinRowsPerBlock, load));
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<GroupFilter> filter,
                        LoadFilter(unique, *recipe, storage, rows));
  const auto update = [&](int64_t begin, int64_t end) -> Status {
    const ScopedFloatEnvironment float_environment;
    UpdateRows(unique, begin, end, gradients, moment, filter.get(), rows);
    return Status();
  };
  DAMO_RETURN_IF_ERROR(ParallelForStatus(executor, unique.size(), kMinRowsPerBlock, update));
  const ApplyResult result = rows.Result();
  DAMO_RETURN_IF_ERROR(WriteRows(unique, rows, result, filter.get(), storage));
  if (filter != nullptr) NoteFill(filter->counts(), recipe->config);
  return result;
}

// `counts` has the pages of this call's new keys only. The pages of keys are random ones, so that those of a
// few calls tell how full all of them are.
void DirectTable::NoteFill(const CountingFilter& counts, const GroupConfig& config) {
  constexpr int64_t kPagesPerSample = 16;  // then it is right to a hundredth
  sampled_pages_ += counts.used_bytes() / static_cast<int64_t>(CountingFilter::kPageBytes);
  sampled_set_ += counts.num_set();
  if (sampled_pages_ < std::min(kPagesPerSample, counts.num_pages())) return;
  const auto num_counters = static_cast<double>(sampled_pages_ * CountingFilter::kCountersPerPage);
  full_filter_warning_.Note(static_cast<double>(sampled_set_) / num_counters, config, session());
  sampled_pages_ = 0;
  sampled_set_ = 0;
}

StatusOr<std::unique_ptr<GroupFilter>> DirectTable::LoadFilter(const UniqueKeys& unique,
                                                               const GroupRecipe& recipe,
                                                               const Storage& storage,
                                                               RowBuffer& rows) const {
  if (recipe.config.min_count == 0) return std::unique_ptr<GroupFilter>();
  auto filter = std::make_unique<GroupFilter>(group(), *recipe.config.filter(), /*memory=*/nullptr);
  std::vector<uint64_t> new_keys;
  for (int64_t r = 0; r < unique.size(); ++r) {
    if (rows.is_new(r)) new_keys.push_back(unique.keys()[r]);
  }
  DAMO_RETURN_IF_ERROR(filter->LoadPagesOf(new_keys, storage));
  return filter;
}

Status DirectTable::LoadRows(const UniqueKeys& unique, int64_t begin, int64_t end, const Storage& storage,
                             const Moment& moment, RowBuffer& rows) const {
  const Span<const uint64_t> keys = unique.keys().subspan(begin, end - begin);
  return storage.MultiGet(
      static_cast<uint8_t>(group()), keys, [&](size_t i, std::optional<std::string_view> stored) {
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
          rows.header(r) = RowHeader{static_cast<uint8_t>(group()), keys[i], 0, 0};
          rows.set_new(r);
          // An expired row still lies in the storage, so it is written over, not inserted.
          if (!stored) rows.outcome(r) = RowBuffer::Outcome::kInserted;
        }
        return Status();
      });
}

void DirectTable::UpdateRows(const UniqueKeys& unique, int64_t begin, int64_t end,
                             const GradientRows& gradients, const Moment& moment, const GroupFilter* filter,
                             RowBuffer& rows) const {
  std::vector<float> sum(dim());
  for (int64_t r = begin; r < end; ++r) {
    SumGradients(gradients, unique.Occurrences(r), sum);
    if (!AllFinite(sum)) {
      rows.outcome(r) = RowBuffer::Outcome::kSkipped;
      continue;
    }
    const auto occurrences = static_cast<int64_t>(unique.Occurrences(r).size());
    if (filter != nullptr && rows.is_new(r) &&
        filter->Count(unique.keys()[r]) + occurrences < moment.recipe.config.min_count) {
      rows.outcome(r) = RowBuffer::Outcome::kBlocked;
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
    if (!AllFinite(weights) || !AllFinite(slots)) rows.outcome(r) = RowBuffer::Outcome::kFailed;
  }
}

Status DirectTable::WriteRows(const UniqueKeys& unique, const RowBuffer& rows, const ApplyResult& result,
                              GroupFilter* filter, Storage& storage) {
  const GroupState next{state().step + 1, state().num_rows + result.num_inserted};
  const std::unique_ptr<StorageBatch> batch = storage.NewBatch();
  for (int64_t r = 0; r < unique.size(); ++r) {
    if (!rows.written(r)) continue;
    DAMO_RETURN_IF_ERROR(batch->PutRow(static_cast<uint8_t>(group()), unique.keys()[r], rows.bytes(r)));
  }
  if (filter != nullptr) {
    std::vector<CountedKey> counted;
    for (int64_t r = 0; r < unique.size(); ++r) {
      if (!rows.is_new(r) || rows.outcome(r) == RowBuffer::Outcome::kSkipped) continue;
      counted.push_back({unique.keys()[r], static_cast<uint32_t>(unique.Occurrences(r).size())});
    }
    filter->Add(counted);
    DAMO_RETURN_IF_ERROR(filter->PutChangedPages(*batch));
  }
  DAMO_RETURN_IF_ERROR(PutGroupState(group(), next, *batch));
  if (session().clock().is_event_clock()) {
    DAMO_RETURN_IF_ERROR(PutEventTime(session().clock().NowMillis(), *batch));
  }
  DAMO_RETURN_IF_ERROR(storage.Write(*batch));
  set_state(next);
  return Status();
}

StatusOr<std::optional<std::string>> DirectTable::DoGetRow(const Storage& storage, uint64_t key) const {
  return ReadStoredRow(storage, key);
}

StatusOr<int64_t> DirectTable::CountLiveRows(const Storage& storage, int64_t now_millis) const {
  const std::shared_ptr<const GroupRecipe> recipe = this->recipe();
  const auto number = static_cast<uint8_t>(group());
  int64_t num_live = 0;
  const auto count = [&](uint64_t key, std::string_view row) -> Status {
    DAMO_ASSIGN_OR_RETURN(const RowHeader header, DecodeRowHeader(row, recipe->layout, number, key));
    num_live += recipe->lifetime.Expired(header.update_time, now_millis) ? 0 : 1;
    return Status();
  };
  DAMO_RETURN_IF_ERROR(storage.Scan(number, count));
  return num_live;
}

StatusOr<bool> DirectTable::TryChangeRecipe(std::shared_ptr<const GroupRecipe> recipe,
                                            const Storage& /*storage*/, const std::function<Status()>& save) {
  const std::lock_guard<std::mutex> lock(apply_mutex_);
  DAMO_RETURN_IF_ERROR(save());
  SetRecipe(std::move(recipe));
  return true;
}

}  // namespace damo
