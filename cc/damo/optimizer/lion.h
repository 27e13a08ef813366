// SPDX-License-Identifier: Apache-2.0
//
// lion: Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, algorithm 2.
//
//   w <- w - eta * (sign(beta1 * m + (1 - beta1) * g) + lambda * w)      sign(0) = 0
//   m <- beta2 * m + (1 - beta2) * g
//
// Slots: m.
// Parameters: eta     3e-4  learning rate, > 0
//             beta1   0.9   share of m in the step's direction, in [0, 1)
//             beta2   0.99  decay of m, in [0, 1)
//             lambda  1e-2  weight decay, >= 0
//             clipnorm, clipvalue: see row_options.h
#ifndef DAMO_OPTIMIZER_LION_H_
#define DAMO_OPTIMIZER_LION_H_

#include <memory>

#include "damo/optimizer/optimizer.h"

namespace damo {

StatusOr<std::unique_ptr<const Optimizer>> MakeLion(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_OPTIMIZER_LION_H_
