// SPDX-License-Identifier: Apache-2.0
#include "damo/schedule/linear_cosine_decay.h"

#include <algorithm>
#include <string>
#include <utility>

#include "damo/schedule/raised_cosine.h"

namespace damo {
namespace {

struct Settings {
  double decay_steps;
  double num_periods;
  double alpha;
  double beta;
};

class LinearCosineDecay final : public Schedule {
 public:
  LinearCosineDecay(Parameters parameters, const Settings& settings)
      : Schedule(std::move(parameters)), settings_(settings) {}

  double LearningRate(double base, int64_t global_step) const override {
    const double decay_steps = settings_.decay_steps;
    const double step = std::min(static_cast<double>(global_step), decay_steps);
    const double linear = (decay_steps - step) / decay_steps;
    const double cosine = RaisedCosine(2 * settings_.num_periods * (step / decay_steps));
    return base * ((settings_.alpha + linear) * cosine + settings_.beta);
  }

 private:
  const Settings settings_;
};

}  // namespace

StatusOr<std::unique_ptr<const Schedule>> MakeLinearCosineDecay(const Parameters& parameters) {
  ParameterReader reader("schedule", parameters);
  const Settings settings{reader.RequiredNumber("decay_steps", rule::kPositive),
                          reader.Number("num_periods", 0.5, rule::kNonNegative),
                          reader.Number("alpha", 0, rule::kNonNegative),
                          reader.Number("beta", 0.001, rule::kNonNegative)};
  DAMO_RETURN_IF_ERROR(reader.Finish());
  Parameters normalized = reader.normalized();
  normalized.Insert("name", std::string("liner_cosine_decay"));
  return {std::make_unique<LinearCosineDecay>(std::move(normalized), settings)};
}

}  // namespace damo
