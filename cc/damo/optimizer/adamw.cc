// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/adamw.h"

#include "damo/base/element_loop.h"
#include "damo/optimizer/adam_base.h"
#include "damo/optimizer/row_options.h"

namespace damo {
namespace {

struct Kernel {
  AdamStep adam;
  float keep;

  DAMO_ALWAYS_INLINE void operator()(float g, float& w, float& m, float& v) const {
    w = keep * w - adam.Advance(g, m, v);
  }
};

class Adamw final : public AdamBase {
 public:
  using AdamBase::AdamBase;

  void Update(const Step& step, Span<float> gradient, Span<float> weights, Span<float> slots) const override {
    const Kernel kernel{MakeStep(step), static_cast<float>(1 - step.learning_rate * lambda())};
    const size_t dim = weights.size();
    ForEachElement(kernel, dim, gradient.data(), weights.data(), slots.data(), slots.data() + dim);
  }
};

}  // namespace

StatusOr<std::unique_ptr<const Optimizer>> MakeAdamw(const Parameters& parameters) {
  ParameterReader reader("optimizer", parameters);
  const AdamSettings settings = ReadAdamSettings(reader, /*default_lambda=*/1e-2);
  const RowOptions options = ReadClipOptions(reader);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return WithRowOptions(std::make_unique<Adamw>(reader.normalized(), settings), options);
}

}  // namespace damo
