// SPDX-License-Identifier: Apache-2.0
#include "damo/initializer/constant.h"

#include <algorithm>
#include <utility>

namespace damo {
namespace {

class Constant final : public Initializer {
 public:
  Constant(Parameters parameters, float value) : Initializer(std::move(parameters)), value_(value) {}

  void Fill(const RowRandom& /*random*/, Span<float> weights) const override {
    std::fill(weights.begin(), weights.end(), value_);
  }

 private:
  const float value_;
};

StatusOr<std::unique_ptr<const Initializer>> MakeConstant(const Parameters& parameters, float value) {
  ParameterReader reader("initializer", parameters);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return {std::make_unique<Constant>(reader.normalized(), value)};
}

}  // namespace

StatusOr<std::unique_ptr<const Initializer>> MakeZeros(const Parameters& parameters) {
  return MakeConstant(parameters, 0);
}

StatusOr<std::unique_ptr<const Initializer>> MakeOnes(const Parameters& parameters) {
  return MakeConstant(parameters, 1);
}

}  // namespace damo
