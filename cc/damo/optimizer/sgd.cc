// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/sgd.h"

#include <utility>

namespace damo {
namespace {

class Sgd final : public Optimizer {
 public:
  Sgd(Parameters parameters, double gamma, double lambda)
      : Optimizer(std::move(parameters)), gamma_(gamma), lambda_(static_cast<float>(lambda)) {}

  double learning_rate() const override { return gamma_; }
  Span<const std::string_view> slot_names() const override { return {}; }

  void Update(const Step& step, Span<const float> gradient, Span<float> weights,
              Span<float> /*slots*/) const override {
    const float* __restrict g = gradient.data();
    float* __restrict w = weights.data();
    const float rate = static_cast<float>(step.learning_rate);
    const float lambda = lambda_;
    const size_t dim = weights.size();
    for (size_t i = 0; i < dim; ++i) w[i] -= rate * (g[i] + lambda * w[i]);
  }

 private:
  const double gamma_;
  const float lambda_;
};

}  // namespace

StatusOr<std::unique_ptr<const Optimizer>> MakeSgd(const Parameters& parameters) {
  ParameterReader reader("optimizer", parameters);
  const double gamma = reader.Number("gamma", 1e-3, rule::kPositive);
  const double lambda = reader.Number("lambda", 0, rule::kNonNegative);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return {std::make_unique<Sgd>(reader.normalized(), gamma, lambda)};
}

}  // namespace damo
