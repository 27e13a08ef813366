// SPDX-License-Identifier: Apache-2.0
//
// Schedule: the learning rate as a function of a table's global step. One algorithm per file pair;
// schedule_factory.h makes them by name.
#ifndef DAMO_SCHEDULE_SCHEDULE_H_
#define DAMO_SCHEDULE_SCHEDULE_H_

#include <cstdint>
#include <utility>

#include "damo/config/parameters.h"

namespace damo {

// Immutable; thread-safe.
class Schedule {
 public:
  // `parameters` are normalized: every entry present.
  explicit Schedule(Parameters parameters) : parameters_(std::move(parameters)) {}
  virtual ~Schedule() = default;

  const Parameters& parameters() const { return parameters_; }

  // The rate for the apply call that `global_step` calls came before (0 for the first). `base` is the
  // optimizer's configured learning rate.
  virtual double LearningRate(double base, int64_t global_step) const = 0;

 private:
  const Parameters parameters_;
};

}  // namespace damo

#endif  // DAMO_SCHEDULE_SCHEDULE_H_
