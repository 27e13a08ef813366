// SPDX-License-Identifier: Apache-2.0
//
// UniqueKeys: the distinct keys of one call in ascending order, each with the places where it occurs.
#ifndef DAMO_TABLE_UNIQUE_KEYS_H_
#define DAMO_TABLE_UNIQUE_KEYS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "damo/base/span.h"

namespace damo {

// Immutable.
class UniqueKeys {
 public:
  // `padding_key` is left out wherever it occurs.
  UniqueKeys(Span<const uint64_t> keys, std::optional<uint64_t> padding_key);

  int64_t size() const { return static_cast<int64_t>(keys_.size()); }
  // Strictly ascending.
  Span<const uint64_t> keys() const { return keys_; }
  // Indices into the call's keys at which keys()[i] occurs, ascending, never empty.
  Span<const int64_t> Occurrences(int64_t i) const {
    return Span<const int64_t>(positions_).subspan(starts_[i], starts_[i + 1] - starts_[i]);
  }

 private:
  std::vector<uint64_t> keys_;
  std::vector<int64_t> starts_;  // size() + 1 offsets into positions_
  std::vector<int64_t> positions_;
};

}  // namespace damo

#endif  // DAMO_TABLE_UNIQUE_KEYS_H_
