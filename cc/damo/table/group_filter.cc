// SPDX-License-Identifier: Apache-2.0
#include "damo/table/group_filter.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "damo/config/store_options.h"
#include "damo/table/manifest.h"

namespace damo {

Status CheckFilterFits(const GroupConfig& config, int64_t other_bytes, int64_t memory_budget) {
  const int64_t filter_bytes = CountingFilter::FullBytes(*config.filter());
  const int64_t total_bytes = other_bytes + filter_bytes;
  const int64_t limit_bytes = PlanMemory(memory_budget).cache_bytes / 2;
  if (total_bytes <= limit_bytes) return Status();
  return InvalidArgument("a filter with filter_capacity=", *config.filter_capacity,
                         " and filter_fpr=", *config.filter_fpr, " takes ", filter_bytes,
                         " bytes, those of all groups ", total_bytes, "; memory_budget=", memory_budget,
                         " leaves ", limit_bytes, " to them: ask for a smaller capacity or a larger budget");
}

StatusOr<double> StoredFilterFill(const Storage& storage, int group, const FilterOptions& options) {
  const int64_t num_pages =
      CountingFilter::FullBytes(options) / static_cast<int64_t>(CountingFilter::kPageBytes);
  int64_t num_set = 0;
  for (int64_t page = 0; page < num_pages; ++page) {
    DAMO_ASSIGN_OR_RETURN(const std::optional<std::string> bytes, GetFilterPage(storage, group, page));
    if (bytes) num_set += CountingFilter::CountSet(*bytes);
  }
  return static_cast<double>(num_set) / static_cast<double>(num_pages * CountingFilter::kCountersPerPage);
}

GroupFilter::GroupFilter(int group, const FilterOptions& options, std::shared_ptr<CacheMemory> memory)
    : group_(group), memory_(std::move(memory)), counts_(options), is_changed_(counts_.num_pages()) {
  changed_.reserve(counts_.num_pages());
  written_.reserve(counts_.num_pages());
  // All of it at once, though it comes page by page: what rows have taken is not easily had back.
  if (memory_ != nullptr) memory_->Reserve(CountingFilter::FullBytes(options));
}

GroupFilter::~GroupFilter() {
  if (memory_ != nullptr) memory_->Reserve(-CountingFilter::FullBytes(counts_.options()));
}

Status GroupFilter::Load(const Storage& storage) {
  for (int64_t page = 0; page < counts_.num_pages(); ++page) {
    DAMO_RETURN_IF_ERROR(LoadPage(page, storage));
  }
  NoteFigures();
  return Status();
}

Status GroupFilter::LoadPagesOf(Span<const uint64_t> keys, const Storage& storage) {
  std::vector<bool> loaded(counts_.num_pages());
  for (const uint64_t key : keys) {
    const int64_t page = counts_.PageOf(key);
    if (!loaded[page]) DAMO_RETURN_IF_ERROR(LoadPage(page, storage));
    loaded[page] = true;
  }
  return Status();
}

Status GroupFilter::LoadPage(int64_t page, const Storage& storage) {
  DAMO_ASSIGN_OR_RETURN(const std::optional<std::string> bytes, GetFilterPage(storage, group_, page));
  if (bytes) counts_.SetPage(page, *bytes);
  return Status();
}

void GroupFilter::Reserve(Span<const CountedKey> keys) {
  for (const CountedKey& counted : keys) counts_.Reserve(counted.key);
}

void GroupFilter::Add(Span<const CountedKey> keys) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const CountedKey& counted : keys) {
    counts_.Add(counted.key, counted.occurrences);
    const int64_t page = counts_.PageOf(counted.key);
    if (is_changed_[page]) continue;
    is_changed_[page] = true;
    changed_.push_back(page);
  }
  NoteFigures();
}

void GroupFilter::NoteFigures() {
  memory_bytes_ = counts_.used_bytes();
  fill_ = counts_.fill();
}

Status GroupFilter::PutChangedPages(ManifestWriter& writer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  written_.swap(changed_);
  changed_.clear();
  for (const int64_t page : written_) is_changed_[page] = false;
  for (const int64_t page : written_) {
    DAMO_RETURN_IF_ERROR(PutFilterPage(group_, page, counts_.page(page), writer));
  }
  return Status();
}

void GroupFilter::EndWrite(bool in_storage) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const int64_t page : written_) {
    if (in_storage || is_changed_[page]) continue;
    is_changed_[page] = true;
    changed_.push_back(page);
  }
  written_.clear();
}

}  // namespace damo
