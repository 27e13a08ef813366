// SPDX-License-Identifier: Apache-2.0
//
// adam: Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015, as torch.optim.Adam in the
// PyTorch documentation. t is the row's own update number: a row seen rarely is corrected like a young one.
//
//   g <- g + lambda * w
//   m <- beta1 * m + (1 - beta1) * g
//   v <- beta2 * v + (1 - beta2) * g^2
//   w <- w - gamma * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
//
// Slots: m, v.
// Parameters: gamma    1e-3   learning rate, > 0
//             beta1    0.9    decay of m, in [0, 1)
//             beta2    0.999  decay of v, in [0, 1)
//             lambda   0      L2 penalty, >= 0
//             epsilon  1e-8   > 0
//             clipnorm, clipvalue, weight_decay: see row_options.h
#ifndef DAMO_OPTIMIZER_ADAM_H_
#define DAMO_OPTIMIZER_ADAM_H_

#include <memory>

#include "damo/optimizer/optimizer.h"

namespace damo {

StatusOr<std::unique_ptr<const Optimizer>> MakeAdam(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_OPTIMIZER_ADAM_H_
