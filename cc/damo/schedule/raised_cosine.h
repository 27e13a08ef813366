// SPDX-License-Identifier: Apache-2.0
//
// The curve that both cosine decays follow.
#ifndef DAMO_SCHEDULE_RAISED_COSINE_H_
#define DAMO_SCHEDULE_RAISED_COSINE_H_

#include <cmath>

namespace damo {

// (1 + cos(pi * half_periods)) / 2: 1 at 0, 0 at 1.
inline double RaisedCosine(double half_periods) {
  constexpr double kPi = 3.14159265358979323846;
  return 0.5 * (1 + std::cos(kPi * half_periods));
}

}  // namespace damo

#endif  // DAMO_SCHEDULE_RAISED_COSINE_H_
