// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/adam.h"

#include "damo/optimizer/adam_base.h"

namespace damo {
namespace {

class Adam final : public AdamBase {
 public:
  using AdamBase::AdamBase;

  void Update(const Step& step, Span<const float> gradient, Span<float> weights,
              Span<float> slots) const override {
    const size_t dim = weights.size();
    const float* __restrict g = gradient.data();
    float* __restrict w = weights.data();
    float* __restrict m = slots.data();
    float* __restrict v = m + dim;
    const AdamStep adam = MakeStep(step);
    const float penalty = static_cast<float>(lambda());
    for (size_t i = 0; i < dim; ++i) w[i] -= adam.Advance(g[i] + penalty * w[i], m[i], v[i]);
  }
};

}  // namespace

StatusOr<std::unique_ptr<const Optimizer>> MakeAdam(const Parameters& parameters) {
  ParameterReader reader("optimizer", parameters);
  const AdamSettings settings = ReadAdamSettings(reader, /*default_lambda=*/0);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return {std::make_unique<Adam>(reader.normalized(), settings)};
}

}  // namespace damo
