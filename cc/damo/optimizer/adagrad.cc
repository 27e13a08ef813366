// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/adagrad.h"

#include <cmath>
#include <utility>

namespace damo {
namespace {

struct Settings {
  double gamma;
  double lambda;
  double eta;
  double epsilon;
};

class Adagrad final : public Optimizer {
 public:
  Adagrad(Parameters parameters, const Settings& settings)
      : Optimizer(std::move(parameters)), settings_(settings) {}

  double learning_rate() const override { return settings_.gamma; }
  Span<const std::string_view> slot_names() const override { return kSlotNames; }

  void Update(const Step& step, Span<const float> gradient, Span<float> weights,
              Span<float> slots) const override {
    const float* __restrict g = gradient.data();
    float* __restrict w = weights.data();
    float* __restrict sum = slots.data();
    const auto earlier_updates = static_cast<double>(step.update_num - 1);
    const float rate = static_cast<float>(step.learning_rate / (1 + earlier_updates * settings_.eta));
    const float lambda = static_cast<float>(settings_.lambda);
    const float epsilon = static_cast<float>(settings_.epsilon);
    const size_t dim = weights.size();
    for (size_t i = 0; i < dim; ++i) {
      const float penalized = g[i] + lambda * w[i];
      sum[i] += penalized * penalized;
      w[i] -= rate * (penalized / (std::sqrt(sum[i]) + epsilon));
    }
  }

 private:
  static constexpr std::string_view kSlotNames[] = {"sum"};

  const Settings settings_;
};

}  // namespace

StatusOr<std::unique_ptr<const Optimizer>> MakeAdagrad(const Parameters& parameters) {
  ParameterReader reader("optimizer", parameters);
  const Settings settings{
      reader.Number("gamma", 1e-2, rule::kPositive), reader.Number("lambda", 0, rule::kNonNegative),
      reader.Number("eta", 0, rule::kNonNegative), reader.Number("epsilon", 1e-10, rule::kPositive)};
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return {std::make_unique<Adagrad>(reader.normalized(), settings)};
}

}  // namespace damo
