// SPDX-License-Identifier: Apache-2.0
#include "damo/table/group_filter.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "damo/table/manifest.h"

namespace damo {

GroupFilter::GroupFilter(int group, const FilterOptions& options, std::shared_ptr<CacheMemory> memory)
    : group_(group), memory_(std::move(memory)), counts_(options), is_changed_(counts_.num_pages()) {
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
  written_ = std::move(changed_);
  changed_.clear();
  for (const int64_t page : written_) is_changed_[page] = false;
  for (const int64_t page : written_) {
    DAMO_RETURN_IF_ERROR(PutFilterPage(group_, page, counts_.page(page), writer));
  }
  return Status();
}

void GroupFilter::EndWrite(bool in_storage) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const int64_t page : std::exchange(written_, {})) {
    if (in_storage || is_changed_[page]) continue;
    is_changed_[page] = true;
    changed_.push_back(page);
  }
}

}  // namespace damo
