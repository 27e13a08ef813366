// SPDX-License-Identifier: Apache-2.0
#include "damo/initializer/xavier_uniform.h"

#include <cmath>

namespace damo {
namespace {

class XavierUniform final : public Initializer {
 public:
  using Initializer::Initializer;

  void Fill(const RowRandom& random, Span<float> weights) const override {
    const double limit = std::sqrt(6 / (1 + static_cast<double>(weights.size())));
    random.ForEachWord(weights.size(), [limit, weights](size_t i, uint32_t word) {
      weights[i] = static_cast<float>(-limit + 2 * limit * ToUnitInterval(word));
    });
  }
};

}  // namespace

StatusOr<std::unique_ptr<const Initializer>> MakeXavierUniform(const Parameters& parameters) {
  ParameterReader reader("initializer", parameters);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return {std::make_unique<XavierUniform>(reader.normalized())};
}

}  // namespace damo
