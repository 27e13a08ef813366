// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/adamw.h"

#include "damo/optimizer/adam_base.h"

namespace damo {
namespace {

class Adamw final : public AdamBase {
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
    const float keep = static_cast<float>(1 - step.learning_rate * lambda());
    for (size_t i = 0; i < dim; ++i) w[i] = keep * w[i] - adam.Advance(g[i], m[i], v[i]);
  }
};

}  // namespace

StatusOr<std::unique_ptr<const Optimizer>> MakeAdamw(const Parameters& parameters) {
  ParameterReader reader("optimizer", parameters);
  const AdamSettings settings = ReadAdamSettings(reader, /*default_lambda=*/1e-2);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return {std::make_unique<Adamw>(reader.normalized(), settings)};
}

}  // namespace damo
