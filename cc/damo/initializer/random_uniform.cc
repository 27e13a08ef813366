// SPDX-License-Identifier: Apache-2.0
#include "damo/initializer/random_uniform.h"

#include <utility>

namespace damo {
namespace {

class RandomUniform final : public Initializer {
 public:
  RandomUniform(Parameters parameters, double min, double max)
      : Initializer(std::move(parameters)), min_(min), max_(max) {}

  void Fill(const RowRandom& random, Span<float> weights) const override {
    random.ForEachWord(weights.size(), [this, weights](size_t i, uint32_t word) {
      weights[i] = static_cast<float>(min_ + (max_ - min_) * ToUnitInterval(word));
    });
  }

 private:
  const double min_;
  const double max_;
};

}  // namespace

StatusOr<std::unique_ptr<const Initializer>> MakeRandomUniform(const Parameters& parameters) {
  ParameterReader reader("initializer", parameters);
  const double min = reader.Number("min", -1, rule::kFinite);
  const double max = reader.Number("max", 1, rule::kFinite);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  if (min > max) {
    return InvalidArgument(
        "initializer 'random_uniform': parameter 'min' must be <= max. Received: min=", min, ", max=", max);
  }
  return {std::make_unique<RandomUniform>(reader.normalized(), min, max)};
}

}  // namespace damo
