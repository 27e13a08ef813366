// SPDX-License-Identifier: Apache-2.0
//
// Row options: what may be done to a row and its gradient before any optimizer's step. Gradients are clipped
// first, then weights decay, then the optimizer takes its step, whose formula sees both.
//
//   clipnorm      norm <- sqrt(sum of g^2)           Pascanu, Mikolov, Bengio, "On the difficulty of training
//                 g <- g * (clipnorm / norm)         recurrent neural networks", ICML 2013, as
//                     where norm > clipnorm          tf.clip_by_norm, of the row's gradient by itself
//   clipvalue     g <- min(max(g, -clipvalue), clipvalue)                       as tf.clip_by_value
//   weight_decay  w <- (1 - rate * weight_decay) * w         decoupled, as in Loshchilov, Hutter, "Decoupled
//                                                     weight decay regularization", ICLR 2019, of this row
//                                                     only
//
// g is the sum of a key's gradients in one call, loss scale undone. A sum that is not finite is refused
// before (contract C9), not clipped. The squares are summed in double by SumOfSquares() (base/float_math.h),
// in the order given there; norm and clipnorm / norm are double, the quotient is rounded to float32 and
// multiplied with each element. 1 - rate * weight_decay is likewise computed in double and rounded once; rate
// is the step's learning rate.
//
// Parameters: clipnorm      absent: off   > 0; not together with clipvalue
//             clipvalue     absent: off   > 0
//             weight_decay  0: off        >= 0; adamw and lion have it as lambda, and ftrl has none, because
//                                         its weights are a function of its slots
#ifndef DAMO_OPTIMIZER_ROW_OPTIONS_H_
#define DAMO_OPTIMIZER_ROW_OPTIONS_H_

#include <memory>
#include <optional>

#include "damo/optimizer/optimizer.h"

namespace damo {

struct RowOptions {
  std::optional<double> clipnorm;
  std::optional<double> clipvalue;
  double weight_decay = 0;
};

// Reads clipnorm and clipvalue. What is off is absent from the normalized parameters, as it is in those of
// stores that know nothing of it.
RowOptions ReadClipOptions(ParameterReader& reader);
// Reads weight_decay, too.
RowOptions ReadRowOptions(ParameterReader& reader);

// `optimizer` with the options in front of it; `optimizer` itself if all are off. Fails if they contradict
// each other.
StatusOr<std::unique_ptr<const Optimizer>> WithRowOptions(std::unique_ptr<const Optimizer> optimizer,
                                                          const RowOptions& options);

}  // namespace damo

#endif  // DAMO_OPTIMIZER_ROW_OPTIONS_H_
