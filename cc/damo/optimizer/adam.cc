// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/adam.h"

#include "damo/base/element_loop.h"
#include "damo/optimizer/adam_base.h"
#include "damo/optimizer/row_options.h"

namespace damo {
namespace {

struct Kernel {
  AdamStep adam;
  float penalty;

  DAMO_ALWAYS_INLINE void operator()(float g, float& w, float& m, float& v) const {
    w -= adam.Advance(g + penalty * w, m, v);
  }
};

class Adam final : public AdamBase {
 public:
  using AdamBase::AdamBase;

  void Update(const Step& step, Span<float> gradient, Span<float> weights, Span<float> slots) const override {
    const Kernel kernel{MakeStep(step), static_cast<float>(lambda())};
    const size_t dim = weights.size();
    ForEachElement(kernel, dim, gradient.data(), weights.data(), slots.data(), slots.data() + dim);
  }
};

}  // namespace

StatusOr<std::unique_ptr<const Optimizer>> MakeAdam(const Parameters& parameters) {
  ParameterReader reader("optimizer", parameters);
  const AdamSettings settings = ReadAdamSettings(reader, /*default_lambda=*/0);
  const RowOptions options = ReadRowOptions(reader);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return WithRowOptions(std::make_unique<Adam>(reader.normalized(), settings), options);
}

}  // namespace damo
