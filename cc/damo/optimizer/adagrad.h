// SPDX-License-Identifier: Apache-2.0
//
// adagrad: Duchi, Hazan, Singer, "Adaptive subgradient methods", JMLR 2011, as torch.optim.Adagrad in the
// PyTorch documentation. t is the row's update number.
//
//   g   <- g + lambda * w
//   sum <- sum + g^2
//   w   <- w - gamma / (1 + (t - 1) * eta) * g / (sqrt(sum) + epsilon)
//
// A gradient beyond 1.8e19 overflows sum to infinity, and the element's weight then stays.
//
// Slots: sum.
// Parameters: gamma    1e-2   learning rate, > 0
//             lambda   0      L2 penalty, >= 0
//             eta      0      decay of the learning rate with the row's updates, >= 0
//             epsilon  1e-10  > 0
//             clipnorm, clipvalue, weight_decay: see row_options.h
#ifndef DAMO_OPTIMIZER_ADAGRAD_H_
#define DAMO_OPTIMIZER_ADAGRAD_H_

#include <memory>

#include "damo/optimizer/optimizer.h"

namespace damo {

StatusOr<std::unique_ptr<const Optimizer>> MakeAdagrad(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_OPTIMIZER_ADAGRAD_H_
