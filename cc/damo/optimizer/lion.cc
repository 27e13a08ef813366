// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/lion.h"

#include <utility>

#include "damo/base/element_loop.h"
#include "damo/optimizer/row_options.h"

namespace damo {
namespace {

struct Settings {
  double eta;
  double beta1;
  double beta2;
  double lambda;
};

// -1, 0 or 1.
DAMO_ALWAYS_INLINE float Sign(float x) { return static_cast<float>(x > 0) - static_cast<float>(x < 0); }

struct Kernel {
  float rate;
  float beta1;
  float beta2;
  float one_minus_beta1;
  float one_minus_beta2;
  float lambda;

  DAMO_ALWAYS_INLINE void operator()(float g, float& w, float& m) const {
    const float direction = Sign(beta1 * m + one_minus_beta1 * g);
    w -= rate * (direction + lambda * w);
    m = beta2 * m + one_minus_beta2 * g;
  }
};

class Lion final : public Optimizer {
 public:
  Lion(Parameters parameters, const Settings& settings)
      : Optimizer(std::move(parameters)), settings_(settings) {}

  double learning_rate() const override { return settings_.eta; }
  Span<const std::string_view> slot_names() const override { return kSlotNames; }

  void Update(const Step& step, Span<float> gradient, Span<float> weights, Span<float> slots) const override {
    const Kernel kernel{static_cast<float>(step.learning_rate),  static_cast<float>(settings_.beta1),
                        static_cast<float>(settings_.beta2),     static_cast<float>(1 - settings_.beta1),
                        static_cast<float>(1 - settings_.beta2), static_cast<float>(settings_.lambda)};
    ForEachElement(kernel, weights.size(), gradient.data(), weights.data(), slots.data());
  }

 private:
  static constexpr std::string_view kSlotNames[] = {"m"};

  const Settings settings_;
};

}  // namespace

StatusOr<std::unique_ptr<const Optimizer>> MakeLion(const Parameters& parameters) {
  ParameterReader reader("optimizer", parameters);
  const Settings settings{
      reader.Number("eta", 3e-4, rule::kPositive), reader.Number("beta1", 0.9, rule::kUnitHalfOpen),
      reader.Number("beta2", 0.99, rule::kUnitHalfOpen), reader.Number("lambda", 1e-2, rule::kNonNegative)};
  const RowOptions options = ReadClipOptions(reader);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return WithRowOptions(std::make_unique<Lion>(reader.normalized(), settings), options);
}

}  // namespace damo
