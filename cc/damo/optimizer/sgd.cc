// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/sgd.h"

#include <utility>

#include "damo/base/element_loop.h"
#include "damo/optimizer/row_options.h"

namespace damo {
namespace {

struct Kernel {
  float rate;
  float lambda;

  DAMO_ALWAYS_INLINE void operator()(float g, float& w) const { w -= rate * (g + lambda * w); }
};

class Sgd final : public Optimizer {
 public:
  Sgd(Parameters parameters, double gamma, double lambda)
      : Optimizer(std::move(parameters)), gamma_(gamma), lambda_(static_cast<float>(lambda)) {}

  double learning_rate() const override { return gamma_; }
  Span<const std::string_view> slot_names() const override { return {}; }

  void Update(const Step& step, Span<float> gradient, Span<float> weights,
              Span<float> /*slots*/) const override {
    const Kernel kernel{static_cast<float>(step.learning_rate), lambda_};
    ForEachElement(kernel, weights.size(), gradient.data(), weights.data());
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
  const RowOptions options = ReadRowOptions(reader);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return WithRowOptions(std::make_unique<Sgd>(reader.normalized(), gamma, lambda), options);
}

}  // namespace damo
