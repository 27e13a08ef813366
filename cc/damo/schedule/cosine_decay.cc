// SPDX-License-Identifier: Apache-2.0
#include "damo/schedule/cosine_decay.h"

#include <algorithm>
#include <utility>

#include "damo/schedule/raised_cosine.h"

namespace damo {
namespace {

class CosineDecay final : public Schedule {
 public:
  CosineDecay(Parameters parameters, double decay_steps, double alpha)
      : Schedule(std::move(parameters)), decay_steps_(decay_steps), alpha_(alpha) {}

  double LearningRate(double base, int64_t global_step) const override {
    const double progress = std::min(static_cast<double>(global_step), decay_steps_) / decay_steps_;
    return base * ((1 - alpha_) * RaisedCosine(progress) + alpha_);
  }

 private:
  const double decay_steps_;
  const double alpha_;
};

}  // namespace

StatusOr<std::unique_ptr<const Schedule>> MakeCosineDecay(const Parameters& parameters) {
  ParameterReader reader("schedule", parameters);
  const double decay_steps = reader.RequiredNumber("decay_steps", rule::kPositive);
  const double alpha = reader.Number("alpha", 0, rule::kNonNegative);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return {std::make_unique<CosineDecay>(reader.normalized(), decay_steps, alpha)};
}

}  // namespace damo
