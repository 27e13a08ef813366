// SPDX-License-Identifier: Apache-2.0
//
// FilterOptions: how large a counting filter is (admission/counting_filter.h).
#ifndef DAMO_CONFIG_FILTER_OPTIONS_H_
#define DAMO_CONFIG_FILTER_OPTIONS_H_

#include <cstdint>

#include "damo/base/status.h"

namespace damo {

// Counters of a filter have four bits, so thresholds end here.
inline constexpr int64_t kMaxFilterCount = 15;

// The size of a filter is fixed for its life: a counter cannot be told which keys it counts.
struct FilterOptions {
  // Keys that it can count before false positives are more frequent than `fpr`. 1..kMaxCapacity. A filter
  // takes 2.4 * log10(1 / fpr) bytes for each: 7.2 at the default rate.
  int64_t capacity = int64_t{1} << 28;
  // The share of keys never added that count as added once `capacity` keys have been. In [kMinFpr, kMaxFpr].
  double fpr = 1e-3;

  static constexpr int64_t kMaxCapacity = int64_t{1} << 32;
  static constexpr double kMinFpr = 1e-9;
  static constexpr double kMaxFpr = 0.5;

  Status Validate() const;

  friend bool operator==(const FilterOptions& a, const FilterOptions& b) {
    return a.capacity == b.capacity && a.fpr == b.fpr;
  }
};

}  // namespace damo

#endif  // DAMO_CONFIG_FILTER_OPTIONS_H_
