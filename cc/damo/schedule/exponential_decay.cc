// SPDX-License-Identifier: Apache-2.0
#include "damo/schedule/exponential_decay.h"

#include <cmath>
#include <utility>

#include "damo/schedule/decay_periods.h"

namespace damo {
namespace {

class ExponentialDecay final : public Schedule {
 public:
  ExponentialDecay(Parameters parameters, const DecayPeriods& periods, double decay_rate)
      : Schedule(std::move(parameters)), periods_(periods), decay_rate_(decay_rate) {}

  double LearningRate(double base, int64_t global_step) const override {
    return base * std::pow(decay_rate_, periods_.At(global_step));
  }

 private:
  const DecayPeriods periods_;
  const double decay_rate_;
};

}  // namespace

StatusOr<std::unique_ptr<const Schedule>> MakeExponentialDecay(const Parameters& parameters) {
  ParameterReader reader("schedule", parameters);
  const DecayPeriods periods(reader);
  const double decay_rate = reader.RequiredNumber("decay_rate", rule::kPositive);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return {std::make_unique<ExponentialDecay>(reader.normalized(), periods, decay_rate)};
}

}  // namespace damo
