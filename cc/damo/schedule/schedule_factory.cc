// SPDX-License-Identifier: Apache-2.0
#include "damo/schedule/schedule_factory.h"

#include "damo/config/make_by_name.h"
#include "damo/schedule/cosine_decay.h"
#include "damo/schedule/exponential_decay.h"
#include "damo/schedule/inverse_time_decay.h"
#include "damo/schedule/linear_cosine_decay.h"
#include "damo/schedule/nature_exponential_decay.h"
#include "damo/schedule/polynomial_decay.h"

namespace damo {

StatusOr<std::unique_ptr<const Schedule>> MakeSchedule(const Parameters& parameters) {
  static constexpr NamedMaker<Schedule> kMakers[] = {
      {"cosine_decay", MakeCosineDecay},
      {"exponential_decay", MakeExponentialDecay},
      {"inverse_time_decay", MakeInverseTimeDecay},
      {"linear_cosine_decay", MakeLinearCosineDecay},
      {"liner_cosine_decay", MakeLinearCosineDecay},
      {"nature_exponential_decay", MakeNatureExponentialDecay},
      {"polynomial_decay", MakePolynomialDecay},
  };
  return MakeByName<Schedule>("schedule", kMakers, parameters);
}

}  // namespace damo
