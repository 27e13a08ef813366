// SPDX-License-Identifier: Apache-2.0
//
// The identity of one build. Several installations of damo_tf in one process would share the engine that was
// loaded first; adapters compare its id with the one they were compiled with, and refuse to load if they
// differ.
#ifndef DAMO_BASE_BUILD_ID_H_
#define DAMO_BASE_BUILD_ID_H_

#include <string_view>

#include "damo/base/build_id_value.h"

namespace damo {

// DAMO_BUILD_ID as it was when libdamo_core.so was compiled; the macro itself is the adapter's own.
std::string_view CoreBuildId();

}  // namespace damo

#endif  // DAMO_BASE_BUILD_ID_H_
