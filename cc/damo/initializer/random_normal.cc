// SPDX-License-Identifier: Apache-2.0
#include "damo/initializer/random_normal.h"

#include <utility>

namespace damo {
namespace {

class RandomNormal final : public Initializer {
 public:
  RandomNormal(Parameters parameters, double mean, double stddev)
      : Initializer(std::move(parameters)), mean_(mean), stddev_(stddev) {}

  void Fill(const RowRandom& random, Span<float> weights) const override {
    random.ForEachWord(weights.size(), [this, weights](size_t i, uint32_t word) {
      weights[i] = static_cast<float>(mean_ + stddev_ * NormalQuantile(ToOpenUnitInterval(word)));
    });
  }

 private:
  const double mean_;
  const double stddev_;
};

}  // namespace

StatusOr<std::unique_ptr<const Initializer>> MakeRandomNormal(const Parameters& parameters) {
  ParameterReader reader("initializer", parameters);
  const double mean = reader.Number("mean", 0, rule::kFinite);
  const double stddev = reader.Number("stddev", 1, rule::kNonNegative);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return {std::make_unique<RandomNormal>(reader.normalized(), mean, stddev)};
}

}  // namespace damo
