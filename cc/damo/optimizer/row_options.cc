// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/row_options.h"

#include <cmath>
#include <utility>

#include "damo/base/element_loop.h"
#include "damo/base/float_math.h"

namespace damo {
namespace {

struct ScaleKernel {
  float factor;

  DAMO_ALWAYS_INLINE void operator()(float& value) const { value *= factor; }
};

struct ClampKernel {
  float limit;

  DAMO_ALWAYS_INLINE void operator()(float& value) const {
    const float not_above = value > limit ? limit : value;
    value = not_above < -limit ? -limit : not_above;
  }
};

class OptimizerWithRowOptions final : public Optimizer {
 public:
  OptimizerWithRowOptions(std::unique_ptr<const Optimizer> optimizer, const RowOptions& options)
      : Optimizer(optimizer->parameters()), optimizer_(std::move(optimizer)), options_(options) {}

  double learning_rate() const override { return optimizer_->learning_rate(); }
  Span<const std::string_view> slot_names() const override { return optimizer_->slot_names(); }

  void Update(const Step& step, Span<float> gradient, Span<float> weights, Span<float> slots) const override {
    if (options_.clipnorm) ClipNorm(gradient);
    if (options_.clipvalue) {
      ForEachElement(ClampKernel{static_cast<float>(*options_.clipvalue)}, gradient.size(), gradient.data());
    }
    if (options_.weight_decay > 0) {
      const auto keep = static_cast<float>(1 - step.learning_rate * options_.weight_decay);
      ForEachElement(ScaleKernel{keep}, weights.size(), weights.data());
    }
    optimizer_->Update(step, gradient, weights, slots);
  }

 private:
  void ClipNorm(Span<float> gradient) const {
    const double norm = std::sqrt(SumOfSquares(gradient));
    if (norm <= *options_.clipnorm) return;
    const auto factor = static_cast<float>(*options_.clipnorm / norm);
    ForEachElement(ScaleKernel{factor}, gradient.size(), gradient.data());
  }

  const std::unique_ptr<const Optimizer> optimizer_;
  const RowOptions options_;
};

}  // namespace

RowOptions ReadClipOptions(ParameterReader& reader) {
  RowOptions options;
  options.clipnorm = reader.OptionalNumber("clipnorm", rule::kPositive);
  options.clipvalue = reader.OptionalNumber("clipvalue", rule::kPositive);
  return options;
}

RowOptions ReadRowOptions(ParameterReader& reader) {
  RowOptions options = ReadClipOptions(reader);
  options.weight_decay = reader.NumberUnlessZero("weight_decay", rule::kNonNegative);
  return options;
}

StatusOr<std::unique_ptr<const Optimizer>> WithRowOptions(std::unique_ptr<const Optimizer> optimizer,
                                                          const RowOptions& options) {
  if (options.clipnorm && options.clipvalue) {
    DAMO_ASSIGN_OR_RETURN(const std::string name, optimizer->parameters().Name("optimizer"));
    return InvalidArgument("optimizer '", name,
                           "': at most one of 'clipnorm' and 'clipvalue' may be set. Received: clipnorm=",
                           *options.clipnorm, ", clipvalue=", *options.clipvalue);
  }
  if (!options.clipnorm && !options.clipvalue && options.weight_decay == 0) return optimizer;
  return {std::make_unique<OptimizerWithRowOptions>(std::move(optimizer), options)};
}

}  // namespace damo
