// SPDX-License-Identifier: Apache-2.0
//
// Integer powers of one number in a fixed order of multiplications, so that bias corrections do not depend on
// the machine's std::pow.
#ifndef DAMO_OPTIMIZER_INTEGER_POWER_H_
#define DAMO_OPTIMIZER_INTEGER_POWER_H_

#include <array>
#include <cstdint>

namespace damo {

// Immutable; thread-safe.
class IntegerPower {
 public:
  explicit IntegerPower(double base) {
    for (double& square : squares_) {
      square = base;
      base *= base;
    }
  }

  // base^exponent: the squares that make up the exponent, multiplied from the smallest up. Requires
  // exponent >= 0.
  double operator()(int64_t exponent) const {
    double power = 1;
    for (auto bits = static_cast<uint64_t>(exponent); bits != 0; bits &= bits - 1) {
      power *= squares_[__builtin_ctzll(bits)];
    }
    return power;
  }

 private:
  std::array<double, 63> squares_;  // base^(2^i)
};

}  // namespace damo

#endif  // DAMO_OPTIMIZER_INTEGER_POWER_H_
