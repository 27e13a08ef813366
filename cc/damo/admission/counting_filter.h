// SPDX-License-Identifier: Apache-2.0
//
// CountingFilter: how often keys have occurred, roughly and in little memory: a counting Bloom filter (Bloom
// 1970; Fan, Cao, Almeida, Broder 2000) of four-bit counters, in pages.
//
// For `capacity` keys n and false-positive rate p it has, as a plain Bloom filter (Broder and Mitzenmacher,
// "Network applications of Bloom filters: a survey", 2004, section 2),
//
//   m = -n ln p / (ln 2)^2 counters, rounded up to whole pages,    k = m / n * ln 2 = -log2 p probes,
//   rounded.
//
// The k counters of a key lie in one page of 8,192: a key touches one page of memory, and dirties one page of
// those that are kept on disk. Pages hold slightly different numbers of keys, which raises the rate by less
// than a tenth (Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom filters", 2007).
//
// The count of a key is the least of its counters: never too small, save that it ends at 15; too large where
// other keys share all of them. Counts only ever grow.
#ifndef DAMO_ADMISSION_COUNTING_FILTER_H_
#define DAMO_ADMISSION_COUNTING_FILTER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "damo/config/filter_options.h"

namespace damo {

// The state is a function of the counts added, whatever their order. Thread-compatible.
class CountingFilter {
 public:
  static constexpr size_t kPageBytes = 4096;
  static constexpr int64_t kCountersPerPage = 2 * kPageBytes;

  // Requires options.Validate() to be OK. Memory is taken page by page, when a page is first added to or
  // reserved.
  explicit CountingFilter(const FilterOptions& options);

  const FilterOptions& options() const { return options_; }
  int num_probes() const { return num_probes_; }
  int64_t num_pages() const { return static_cast<int64_t>(pages_.size()); }
  int64_t num_counters() const { return num_pages() * kCountersPerPage; }
  // Bytes of a filter whose pages have all been added to.
  static int64_t FullBytes(const FilterOptions& options);
  // Bytes of the pages that have been, or are reserved.
  int64_t used_bytes() const { return used_pages_ * static_cast<int64_t>(kPageBytes); }
  // The share of counters that are not 0: about one half when `capacity` keys have been added. Beyond that
  // the filter lets keys pass more often than `fpr`: with the probability fill ^ num_probes().
  double fill() const;
  // Counters that are not 0.
  int64_t num_set() const { return num_set_; }

  // Sees to it that Add() of the key allocates nothing.
  void Reserve(uint64_t key);
  // Adds `occurrences` of a key; a counter that has reached 15 stays there.
  void Add(uint64_t key, uint64_t occurrences);
  // At most kMaxFilterCount.
  int64_t Count(uint64_t key) const;

  // ---- pages, which on disk are as they are in memory (docs/row_format.md) ----

  int64_t PageOf(uint64_t key) const;
  // Empty if it has never been added to, nor reserved: all 0.
  std::string_view page(int64_t i) const;
  // Replaces a page. Requires kPageBytes bytes.
  void SetPage(int64_t i, std::string_view bytes);
  // Counters of a page that are not 0.
  static int64_t CountSet(std::string_view page);

 private:
  using Page = std::array<uint8_t, kPageBytes>;
  class Probes;

  uint64_t PageOfHash(uint64_t hash) const;
  Page& ReservePage(uint64_t i);

  const FilterOptions options_;
  const int num_probes_;
  std::vector<std::unique_ptr<Page>> pages_;  // null: all 0
  int64_t used_pages_ = 0;
  int64_t num_set_ = 0;
};

}  // namespace damo

#endif  // DAMO_ADMISSION_COUNTING_FILTER_H_
