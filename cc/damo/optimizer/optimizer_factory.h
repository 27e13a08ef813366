// SPDX-License-Identifier: Apache-2.0
//
// Makes optimizers by name: sgd, ftrl, adagrad, adam, adamw, lion.
#ifndef DAMO_OPTIMIZER_OPTIMIZER_FACTORY_H_
#define DAMO_OPTIMIZER_OPTIMIZER_FACTORY_H_

#include <memory>

#include "damo/optimizer/optimizer.h"

namespace damo {

// The optimizer that parameters "name" names. Fails, listing what exists, on an unknown name or parameter,
// and on a value that breaks its rule.
StatusOr<std::unique_ptr<const Optimizer>> MakeOptimizer(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_OPTIMIZER_OPTIMIZER_FACTORY_H_
