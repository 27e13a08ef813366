// SPDX-License-Identifier: Apache-2.0
#include "damo/schedule/polynomial_decay.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace damo {
namespace {

struct Settings {
  double decay_steps;
  double end_learning_rate;
  double power;
  bool cycle;
};

class PolynomialDecay final : public Schedule {
 public:
  PolynomialDecay(Parameters parameters, const Settings& settings)
      : Schedule(std::move(parameters)), settings_(settings) {}

  double LearningRate(double base, int64_t global_step) const override {
    const double remaining = 1 - Progress(static_cast<double>(global_step));
    return (base - settings_.end_learning_rate) * std::pow(remaining, settings_.power) +
           settings_.end_learning_rate;
  }

 private:
  // How much of the decay lies behind `step`, in [0, 1].
  double Progress(double step) const {
    const double decay_steps = settings_.decay_steps;
    if (!settings_.cycle) return std::min(step, decay_steps) / decay_steps;
    const double cycles = std::max(1.0, std::ceil(step / decay_steps));
    return std::min(1.0, step / (decay_steps * cycles));  // rounding could exceed 1
  }

  const Settings settings_;
};

}  // namespace

StatusOr<std::unique_ptr<const Schedule>> MakePolynomialDecay(const Parameters& parameters) {
  ParameterReader reader("schedule", parameters);
  const Settings settings{reader.RequiredNumber("decay_steps", rule::kPositive),
                          reader.Number("end_learning_rate", 1e-4, rule::kNonNegative),
                          reader.Number("power", 1, rule::kNonNegative), reader.Bool("cycle", false)};
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return {std::make_unique<PolynomialDecay>(reader.normalized(), settings)};
}

}  // namespace damo
