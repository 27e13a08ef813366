// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/adagrad.h"

#include <cmath>
#include <utility>

#include "damo/base/element_loop.h"
#include "damo/optimizer/row_options.h"

namespace damo {
namespace {

struct Settings {
  double gamma;
  double lambda;
  double eta;
  double epsilon;
};

struct Kernel {
  float rate;
  float lambda;
  float epsilon;

  DAMO_ALWAYS_INLINE void operator()(float g, float& w, float& sum) const {
    const float penalized = g + lambda * w;
    sum += penalized * penalized;
    w -= rate * (penalized / (std::sqrt(sum) + epsilon));
  }
};

class Adagrad final : public Optimizer {
 public:
  Adagrad(Parameters parameters, const Settings& settings)
      : Optimizer(std::move(parameters)), settings_(settings) {}

  double learning_rate() const override { return settings_.gamma; }
  Span<const std::string_view> slot_names() const override { return kSlotNames; }

  void Update(const Step& step, Span<float> gradient, Span<float> weights, Span<float> slots) const override {
    const auto earlier_updates = static_cast<double>(step.update_num - 1);
    const Kernel kernel{static_cast<float>(step.learning_rate / (1 + earlier_updates * settings_.eta)),
                        static_cast<float>(settings_.lambda), static_cast<float>(settings_.epsilon)};
    ForEachElement(kernel, weights.size(), gradient.data(), weights.data(), slots.data());
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
  const RowOptions options = ReadRowOptions(reader);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return WithRowOptions(std::make_unique<Adagrad>(reader.normalized(), settings), options);
}

}  // namespace damo
