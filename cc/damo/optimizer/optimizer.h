// SPDX-License-Identifier: Apache-2.0
//
// Optimizer: the rule that turns a row and its gradient into the next row. Pure arithmetic on spans: no I/O,
// no clock, no allocation. One algorithm per file pair; optimizer_factory.h makes them by name.
#ifndef DAMO_OPTIMIZER_OPTIMIZER_H_
#define DAMO_OPTIMIZER_OPTIMIZER_H_

#include <cstdint>
#include <string_view>
#include <utility>

#include "damo/base/span.h"
#include "damo/config/parameters.h"

namespace damo {

// Immutable; thread-safe.
class Optimizer {
 public:
  // What an update knows besides the row.
  struct Step {
    double learning_rate;  // the schedule's value for this call, >= 0
    int64_t update_num;    // how many updates the row has had, this one included: 1 at its first
  };

  // `parameters` are normalized: every entry present.
  explicit Optimizer(Parameters parameters) : parameters_(std::move(parameters)) {}
  virtual ~Optimizer() = default;

  const Parameters& parameters() const { return parameters_; }
  // The configured learning rate (gamma; eta for lion), before any schedule.
  virtual double learning_rate() const = 0;
  // Names of the slots in the order they follow the weights in a row. On disk: never reorder.
  virtual Span<const std::string_view> slot_names() const = 0;

  // Applies one step to one row in place. `gradient` and `weights` hold dim floats; `slots` holds
  // slot_names().size() * dim, one slot after another, all zero in a fresh row. None of them overlap. What is
  // in `gradient` afterwards is undefined: row options (row_options.h) change it in place.
  // Elements are independent and treated alike, in float32, in the order of operations that the algorithm's
  // formula is written in; the caller has set the float environment (base/float_environment.h). A gradient
  // that is not finite is the caller's to refuse (contract C9).
  virtual void Update(const Step& step, Span<float> gradient, Span<float> weights,
                      Span<float> slots) const = 0;

 private:
  const Parameters parameters_;
};

}  // namespace damo

#endif  // DAMO_OPTIMIZER_OPTIMIZER_H_
