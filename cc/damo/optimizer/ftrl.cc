// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/ftrl.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "damo/base/element_loop.h"
#include "damo/optimizer/row_options.h"

namespace damo {
namespace {

struct Settings {
  double gamma;
  double beta;
  double lambda1;
  double lambda2;
};

constexpr float kLargest = std::numeric_limits<float>::max();

struct Kernel {
  float alpha;
  float beta;
  float lambda1;
  float lambda2;

  DAMO_ALWAYS_INLINE void operator()(float g, float& w, float& z, float& n) const {
    const float next_n = std::min(n + g * g, kLargest);
    const float root = std::sqrt(next_n);
    const float sigma = (root - std::sqrt(n)) / alpha;
    n = next_n;
    z += g - sigma * w;
    // -(z - sign(z) * lambda1), and 0, never -0, where |z| <= lambda1.
    const float shrunk = std::min(lambda1, std::max(z, -lambda1)) - z;
    const float divisor = (beta + root) / alpha + lambda2;
    // Selects, not branches, so that the loop vectorizes: a divisor of 0 becomes 1.
    const float undivided = shrunk == 0 ? 0 : w;
    w = (divisor > 0 ? shrunk : undivided) / (divisor > 0 ? divisor : 1);
  }
};

class Ftrl final : public Optimizer {
 public:
  Ftrl(Parameters parameters, const Settings& settings)
      : Optimizer(std::move(parameters)), settings_(settings) {}

  double learning_rate() const override { return settings_.gamma; }
  Span<const std::string_view> slot_names() const override { return kSlotNames; }

  void Update(const Step& step, Span<float> gradient, Span<float> weights, Span<float> slots) const override {
    const float alpha = static_cast<float>(step.learning_rate);
    if (alpha < std::numeric_limits<float>::min()) return;
    const Kernel kernel{alpha, static_cast<float>(settings_.beta), static_cast<float>(settings_.lambda1),
                        static_cast<float>(settings_.lambda2)};
    const size_t dim = weights.size();
    ForEachElement(kernel, dim, gradient.data(), weights.data(), slots.data(), slots.data() + dim);
  }

 private:
  static constexpr std::string_view kSlotNames[] = {"z", "n"};

  const Settings settings_;
};

}  // namespace

StatusOr<std::unique_ptr<const Optimizer>> MakeFtrl(const Parameters& parameters) {
  ParameterReader reader("optimizer", parameters);
  const Settings settings{
      reader.Number("gamma", 5e-3, rule::kPositive), reader.Number("beta", 0, rule::kNonNegative),
      reader.Number("lambda1", 0, rule::kNonNegative), reader.Number("lambda2", 0, rule::kNonNegative)};
  const RowOptions options = ReadClipOptions(reader);
  DAMO_RETURN_IF_ERROR(reader.Finish());
  return WithRowOptions(std::make_unique<Ftrl>(reader.normalized(), settings), options);
}

}  // namespace damo
