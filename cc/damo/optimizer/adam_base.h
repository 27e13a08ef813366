// SPDX-License-Identifier: Apache-2.0
//
// What adam and adamw share: settings, slots, and how an element's moments advance. They differ in where
// lambda enters.
#ifndef DAMO_OPTIMIZER_ADAM_BASE_H_
#define DAMO_OPTIMIZER_ADAM_BASE_H_

#include <cmath>
#include <string_view>
#include <utility>

#include "damo/base/element_loop.h"
#include "damo/optimizer/bias_correction.h"
#include "damo/optimizer/optimizer.h"

namespace damo {

struct AdamSettings {
  double gamma;
  double beta1;
  double beta2;
  double lambda;
  double epsilon;
};

inline AdamSettings ReadAdamSettings(ParameterReader& reader, double default_lambda) {
  return {reader.Number("gamma", 1e-3, rule::kPositive), reader.Number("beta1", 0.9, rule::kUnitHalfOpen),
          reader.Number("beta2", 0.999, rule::kUnitHalfOpen),
          reader.Number("lambda", default_lambda, rule::kNonNegative),
          reader.Number("epsilon", 1e-8, rule::kPositive)};
}

// The factors of one step: computed in double, rounded to float32 once, the same for all elements.
struct AdamStep {
  float beta1;
  float beta2;
  float one_minus_beta1;
  float one_minus_beta2;
  float epsilon;
  float rate;     // learning rate / (1 - beta1^t)
  float v_scale;  // 1 / sqrt(1 - beta2^t)

  // Advances the moments of one element by its gradient, and returns what is to be subtracted from its
  // weight: rate * m / (sqrt(v) * v_scale + epsilon). A gradient beyond 1.8e19 overflows v to infinity, and
  // the element's weight then stays, as in any float32 Adam.
  DAMO_ALWAYS_INLINE float Advance(float gradient, float& m, float& v) const {
    m = beta1 * m + one_minus_beta1 * gradient;
    v = beta2 * v + one_minus_beta2 * gradient * gradient;
    return rate * (m / (std::sqrt(v) * v_scale + epsilon));
  }
};

class AdamBase : public Optimizer {
 public:
  AdamBase(Parameters parameters, const AdamSettings& settings)
      : Optimizer(std::move(parameters)),
        settings_(settings),
        constants_{static_cast<float>(settings.beta1),
                   static_cast<float>(settings.beta2),
                   static_cast<float>(1 - settings.beta1),
                   static_cast<float>(1 - settings.beta2),
                   static_cast<float>(settings.epsilon),
                   /*rate=*/0,
                   /*v_scale=*/0},
        correction1_(settings.beta1),
        v_scale_(settings.beta2) {}

  double learning_rate() const final { return settings_.gamma; }
  Span<const std::string_view> slot_names() const final { return kSlotNames; }

 protected:
  double lambda() const { return settings_.lambda; }
  AdamStep MakeStep(const Step& step) const {
    AdamStep result = constants_;
    result.rate = static_cast<float>(step.learning_rate / correction1_(step.update_num));
    result.v_scale = v_scale_(step.update_num);
    return result;
  }

 private:
  static constexpr std::string_view kSlotNames[] = {"m", "v"};

  const AdamSettings settings_;
  const AdamStep constants_;  // what does not depend on the step
  const BiasCorrection<OneMinusPower> correction1_;
  const BiasCorrection<InverseRootOfOneMinusPower> v_scale_;
};

}  // namespace damo

#endif  // DAMO_OPTIMIZER_ADAM_BASE_H_
