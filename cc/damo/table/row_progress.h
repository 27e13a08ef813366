// SPDX-License-Identifier: Apache-2.0
//
// How far a call that goes through many rows has come.
#ifndef DAMO_TABLE_ROW_PROGRESS_H_
#define DAMO_TABLE_ROW_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <utility>

#include "damo/base/status.h"

namespace damo {

// Called now and then with the rows that are done, and how many there will be, at most. A failure that it
// returns ends the call and is returned by it. Null: nobody asks.
using RowProgress = std::function<Status(int64_t num_rows, int64_t num_total)>;

// Counts rows and reports every so many of them. Thread-compatible.
class RowReporter {
 public:
  RowReporter(RowProgress progress, int64_t num_total)
      : progress_(std::move(progress)), num_total_(num_total) {}

  // One row more.
  Status Add() { return ++num_rows_ % kRowsPerReport == 0 ? Report() : Status(); }
  Status Report() const { return progress_ ? progress_(num_rows_, num_total_) : Status(); }

 private:
  static constexpr int64_t kRowsPerReport = 65536;

  const RowProgress progress_;
  const int64_t num_total_;
  int64_t num_rows_ = 0;
};

}  // namespace damo

#endif  // DAMO_TABLE_ROW_PROGRESS_H_
