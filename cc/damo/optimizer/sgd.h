// SPDX-License-Identifier: Apache-2.0
//
// sgd: stochastic gradient descent, as torch.optim.SGD in the PyTorch documentation, without momentum.
//
//   g <- g + lambda * w
//   w <- w - gamma * g
//
// Slots: none.
// Parameters: gamma   1e-3  learning rate, > 0
//             lambda  0     L2 penalty, >= 0
//             clipnorm, clipvalue, weight_decay: see row_options.h
#ifndef DAMO_OPTIMIZER_SGD_H_
#define DAMO_OPTIMIZER_SGD_H_

#include <memory>

#include "damo/optimizer/optimizer.h"

namespace damo {

StatusOr<std::unique_ptr<const Optimizer>> MakeSgd(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_OPTIMIZER_SGD_H_
