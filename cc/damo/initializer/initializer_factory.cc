// SPDX-License-Identifier: Apache-2.0
#include "damo/initializer/initializer_factory.h"

#include "damo/config/make_by_name.h"
#include "damo/initializer/constant.h"
#include "damo/initializer/random_normal.h"
#include "damo/initializer/random_uniform.h"
#include "damo/initializer/truncate_normal.h"
#include "damo/initializer/xavier_uniform.h"

namespace damo {

StatusOr<std::unique_ptr<const Initializer>> MakeInitializer(const Parameters& parameters) {
  static constexpr NamedMaker<Initializer> kMakers[] = {
      {"ones", MakeOnes},
      {"random_normal", MakeRandomNormal},
      {"random_uniform", MakeRandomUniform},
      {"truncate_normal", MakeTruncateNormal},
      {"xavier_uniform", MakeXavierUniform},
      {"zeros", MakeZeros},
  };
  return MakeByName<Initializer>("initializer", kMakers, parameters);
}

}  // namespace damo
