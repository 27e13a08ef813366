// SPDX-License-Identifier: Apache-2.0
//
// Adam's bias corrections by update number. The powers, the division and the square root behind them cost as
// much as a short row's whole update, so they are tabulated.
#ifndef DAMO_OPTIMIZER_BIAS_CORRECTION_H_
#define DAMO_OPTIMIZER_BIAS_CORRECTION_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "damo/optimizer/integer_power.h"

namespace damo {

// Formula(t) = Formula::OfPower(beta^t) for t >= 1: looked up where it is tabulated, Formula::kLimit where
// beta^t is too small to show in it, computed in between. All three give the bits of Compute(). Immutable;
// thread-safe.
template <typename Formula>
class BiasCorrection {
 public:
  using Value = typename Formula::Value;

  // `beta` lies in [0, 1).
  explicit BiasCorrection(double beta) : power_(beta) {
    while (table_.size() < Formula::kMaxTableSize) {
      const double power = power_(static_cast<int64_t>(table_.size()) + 1);
      if (power < Formula::kNegligiblePower) {
        saturates_ = true;
        break;
      }
      table_.push_back(Formula::OfPower(power));
    }
    table_.shrink_to_fit();
  }

  // Requires update_num >= 1.
  Value operator()(int64_t update_num) const {
    const auto i = static_cast<uint64_t>(update_num) - 1;
    if (i < table_.size()) return table_[i];
    return saturates_ ? Formula::kLimit : Compute(update_num);
  }

  // The formula itself, for numbers past the table, and the oracle of the table in tests.
  Value Compute(int64_t update_num) const { return Formula::OfPower(power_(update_num)); }

  size_t table_bytes() const { return table_.size() * sizeof(Value); }

 private:
  const IntegerPower power_;
  std::vector<Value> table_;  // table_[t - 1] belongs to update number t
  bool saturates_ = false;    // from the table's end on the value is kLimit
};

// 1 - beta^t, in double. Any power up to 2^-54 rounds away. The bound lies a factor of 2 below, and a
// computed power is wrong by a factor of 1 + t * 2^-53 at most, so the powers of all larger t round away,
// too.
struct OneMinusPower {
  using Value = double;
  static constexpr size_t kMaxTableSize = 4096;  // 32 KiB; with beta = 0.9 the table ends after 361
  static constexpr double kNegligiblePower = 0x1p-55;
  static constexpr double kLimit = 1;
  static double OfPower(double power) { return 1 - power; }
};

// 1 / sqrt(1 - beta^t), rounded to float32: about 1 + beta^t / 2, which rounds to 1 up to 1 + 2^-24. The
// bound leaves a twelfth for the terms left out and for rounding.
struct InverseRootOfOneMinusPower {
  using Value = float;
  static constexpr size_t kMaxTableSize = 16384;  // 64 KiB; with beta = 0.999 the table ends after 16014
  static constexpr double kNegligiblePower = 1.1e-7;
  static constexpr float kLimit = 1;
  static float OfPower(double power) { return static_cast<float>(1 / std::sqrt(1 - power)); }
};

}  // namespace damo

#endif  // DAMO_OPTIMIZER_BIAS_CORRECTION_H_
