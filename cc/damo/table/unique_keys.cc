// SPDX-License-Identifier: Apache-2.0
#include "damo/table/unique_keys.h"

#include <algorithm>
#include <utility>

namespace damo {

UniqueKeys::UniqueKeys(Span<const uint64_t> keys, std::optional<uint64_t> padding_key) {
  std::vector<std::pair<uint64_t, int64_t>> sorted;  // (key, position): a total order, so any sort will do
  sorted.reserve(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] != padding_key) sorted.emplace_back(keys[i], static_cast<int64_t>(i));
  }
  std::sort(sorted.begin(), sorted.end());

  positions_.reserve(sorted.size());
  for (const auto& [key, position] : sorted) {
    if (keys_.empty() || keys_.back() != key) {
      keys_.push_back(key);
      starts_.push_back(static_cast<int64_t>(positions_.size()));
    }
    positions_.push_back(position);
  }
  starts_.push_back(static_cast<int64_t>(positions_.size()));
}

}  // namespace damo
