// SPDX-License-Identifier: Apache-2.0
#include "damo/initializer/truncate_normal.h"

#include <cmath>
#include <utility>

namespace damo {
namespace {

// The first of the element's draws within two standard deviations. One in 22 is refused, so the number of
// attempts that RowRandom has room for is never reached.
double TruncatedQuantile(const RowRandom& random, size_t element, uint32_t word) {
  double quantile = NormalQuantile(ToOpenUnitInterval(word));
  for (uint32_t attempt = 1; std::fabs(quantile) > 2; ++attempt) {
    const auto block = static_cast<uint32_t>(element / 4);
    quantile = NormalQuantile(ToOpenUnitInterval(random.Words(block, attempt)[element % 4]));
  }
  return quantile;
}

class TruncateNormal final : public Initializer {
 public:
  TruncateNormal(Parameters parameters, double mean, double stddev)
      : Initializer(std::move(parameters)), mean_(mean), stddev_(stddev) {}

  void Fill(const RowRandom& random, Span<float> weights) const override {
    random.ForEachWord(weights.size(), [this, &random, weights](size_t i, uint32_t word) {
      weights[i] = static_cast<float>(mean_ + stddev_ * TruncatedQuantile(random, i, word));
    });
  }

 private:
  const double mean_;
  const double stddev_;
};

}  // namespace

StatusOr<std::unique_ptr<const Initializer>> MakeTruncateNormal(const Parameters& parameters) {
  ParameterReader reader("initializer", parameters);
  const double mean = reader.Number("mean", 0, rule::kFinite);
  const double stddev = reader.Number("stddev", 1, rule::kNonNegative);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return {std::make_unique<TruncateNormal>(reader.normalized(), mean, stddev)};
}

}  // namespace damo
