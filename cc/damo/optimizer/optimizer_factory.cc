// SPDX-License-Identifier: Apache-2.0
#include "damo/optimizer/optimizer_factory.h"

#include "damo/config/make_by_name.h"
#include "damo/optimizer/adagrad.h"
#include "damo/optimizer/adam.h"
#include "damo/optimizer/adamw.h"
#include "damo/optimizer/ftrl.h"
#include "damo/optimizer/lion.h"
#include "damo/optimizer/sgd.h"

namespace damo {

StatusOr<std::unique_ptr<const Optimizer>> MakeOptimizer(const Parameters& parameters) {
  static constexpr NamedMaker<Optimizer> kMakers[] = {
      {"adagrad", MakeAdagrad}, {"adam", MakeAdam}, {"adamw", MakeAdamw},
      {"ftrl", MakeFtrl},       {"lion", MakeLion}, {"sgd", MakeSgd},
  };
  return MakeByName<Optimizer>("optimizer", kMakers, parameters);
}

}  // namespace damo
