// SPDX-License-Identifier: Apache-2.0
//
// Makes initializers by name: zeros, ones, random_uniform, random_normal, truncate_normal, xavier_uniform.
#ifndef DAMO_INITIALIZER_INITIALIZER_FACTORY_H_
#define DAMO_INITIALIZER_INITIALIZER_FACTORY_H_

#include <memory>

#include "damo/initializer/initializer.h"

namespace damo {

// The initializer that parameters "name" names. Fails, listing what exists, on an unknown name or parameter,
// and on a value that breaks its rule.
StatusOr<std::unique_ptr<const Initializer>> MakeInitializer(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_INITIALIZER_INITIALIZER_FACTORY_H_
