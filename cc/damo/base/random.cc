// SPDX-License-Identifier: Apache-2.0
#include "damo/base/random.h"

#include <cassert>
#include <cmath>

namespace damo {
namespace {

// Philox's multipliers, and the Weyl steps of its key.
constexpr uint32_t kMultiplier0 = 0xD2511F53;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;
constexpr uint32_t kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

uint32_t LowHalf(uint64_t value) { return static_cast<uint32_t>(value); }
uint32_t HighHalf(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

// Natural logarithm of a positive, normal double from exact scaling and + - * / alone. With x = m * 2^e and m
// in [sqrt(1/2), sqrt(2)): log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172, so that the series to s^23
// leaves out less than 1e-19. Within 2 ulp of the exact value except close to 1, where nobody here needs it.
double NaturalLog(double x) {
  constexpr double kSqrtHalf = 0.70710678118654752440;
  constexpr double kLn2High = 0x1.62e42feep-1;            // 33 bits, so that kLn2High * e is exact
  constexpr double kLn2Low = 1.90821492927058770002e-10;  // ln 2 - kLn2High
  int exponent;
  double mantissa = std::frexp(x, &exponent);
  if (mantissa < kSqrtHalf) {
    mantissa *= 2;
    --exponent;
  }
  const double s = (mantissa - 1) / (mantissa + 1);
  const double s2 = s * s;
  double series = 0;
  for (int odd = 23; odd >= 1; odd -= 2) series = series * s2 + 1.0 / odd;
  return kLn2High * exponent + (kLn2Low * exponent + 2 * s * series);
}

// A polynomial of degree 7, by Horner's rule; coefficients from the highest power down.
double Polynomial7(const double (&coefficients)[8], double x) {
  double value = coefficients[0];
  for (int i = 1; i < 8; ++i) value = value * x + coefficients[i];
  return value;
}

// AS 241, PPND16: numerator and denominator for |p - 1/2| <= 0.425, ...
constexpr double kCentralNumerator[8] = {2509.0809287301226727, 33430.575583588128105, 67265.770927008700853,
                                         45921.953931549871457, 13731.693765509461125, 1971.5909503065514427,
                                         133.14166789178437745, 3.387132872796366608};
constexpr double kCentralDenominator[8] = {
    5226.495278852854561,  28729.085735721942674, 39307.89580009271061,  21213.794301586595867,
    5394.1960214247511077, 687.1870074920579083,  42.313330701600911252, 1};
// ... for tails with sqrt(-log(tail)) <= 5, ...
constexpr double kNearTailNumerator[8] = {
    7.7454501427834140764e-4, 2.27238449892691845833e-2, 0.24178072517745061177, 1.27045825245236838258,
    3.64784832476320460504,   5.7694972214606914055,     4.6303378461565452959,  1.42343711074968357734};
constexpr double kNearTailDenominator[8] = {
    1.05075007164441684324e-9, 5.475938084995344946e-4, 1.51986665636164571966e-2, 0.14810397642748007459,
    0.68976733498510000455,    1.6763848301838038494,   2.05319162663775882187,    1};
// ... and for the tails beyond.
constexpr double kFarTailNumerator[8] = {2.01033439929228813265e-7, 2.71155556874348757815e-5,
                                         1.24266094738807843860e-3, 2.65321895265761230930e-2,
                                         0.29656057182850489123,    1.7848265399172913358,
                                         5.4637849111641143699,     6.6579046435011037772};
constexpr double kFarTailDenominator[8] = {
    2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.84631831751005468180e-5, 7.868691311456132591e-4,
    1.48753612908506148525e-2,  0.13692988092273580531,   0.59983220655588793769,    1};

}  // namespace

std::array<uint32_t, 4> Philox4x32(const std::array<uint32_t, 4>& counter,
                                   const std::array<uint32_t, 2>& key) {
  std::array<uint32_t, 4> state = counter;
  std::array<uint32_t, 2> round_key = key;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * state[0];
    const uint64_t product1 = uint64_t{kMultiplier1} * state[2];
    state = {HighHalf(product1) ^ state[1] ^ round_key[0], LowHalf(product1),
             HighHalf(product0) ^ state[3] ^ round_key[1], LowHalf(product0)};
    round_key[0] += kWeyl0;
    round_key[1] += kWeyl1;
  }
  return state;
}

std::array<uint32_t, 4> RowRandom::Words(uint32_t block, uint32_t attempt) const {
  assert(attempt < (uint32_t{1} << 24));
  return Philox4x32({LowHalf(key_), HighHalf(key_), group_ | attempt << 8, block},
                    {LowHalf(seed_), HighHalf(seed_)});
}

double NormalQuantile(double p) {
  assert(p > 0 && p < 1);
  const double q = p - 0.5;
  if (std::fabs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return Polynomial7(kCentralNumerator, r) * q / Polynomial7(kCentralDenominator, r);
  }
  const double tail = q < 0 ? p : 1 - p;
  const double r = std::sqrt(-NaturalLog(tail));
  const double magnitude =
      r <= 5 ? Polynomial7(kNearTailNumerator, r - 1.6) / Polynomial7(kNearTailDenominator, r - 1.6)
             : Polynomial7(kFarTailNumerator, r - 5) / Polynomial7(kFarTailDenominator, r - 5);
  return q < 0 ? -magnitude : magnitude;
}

}  // namespace damo
