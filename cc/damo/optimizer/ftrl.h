// SPDX-License-Identifier: Apache-2.0
//
// ftrl: FTRL-Proximal with per-coordinate learning rates, McMahan et al., "Ad click prediction: a view from
// the trenches", KDD 2013, algorithm 1. gamma is the paper's alpha.
//
//   sigma <- (sqrt(n + g^2) - sqrt(n)) / gamma
//   z     <- z + g - sigma * w
//   n     <- n + g^2
//   w     <- 0                                       if |z| <= lambda1
//            -(z - sign(z) * lambda1) / ((beta + sqrt(n)) / gamma + lambda2)    otherwise
//
// An element whose gradients were all 0 has z = 0, so an update makes its weight 0, whatever it began at.
//
// Where the paper says nothing: with beta = lambda2 = 0 a g so small that g^2 is 0 in float32 leaves a
// divisor of 0, and the weight stays. n saturates at float32's largest value. A row stays as it is, slots
// included, where a schedule has brought gamma below float32's normal numbers (1.2e-38).
//
// Slots: z, n.
// Parameters: gamma    5e-3  learning rate, > 0
//             beta     0     smoothing of the learning rate, >= 0
//             lambda1  0     L1 penalty, >= 0
//             lambda2  0     L2 penalty, >= 0
//             clipnorm, clipvalue: see row_options.h
#ifndef DAMO_OPTIMIZER_FTRL_H_
#define DAMO_OPTIMIZER_FTRL_H_

#include <memory>

#include "damo/optimizer/optimizer.h"

namespace damo {

StatusOr<std::unique_ptr<const Optimizer>> MakeFtrl(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_OPTIMIZER_FTRL_H_
