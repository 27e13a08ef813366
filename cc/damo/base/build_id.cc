// SPDX-License-Identifier: Apache-2.0
#include "damo/base/build_id.h"

namespace damo {

std::string_view CoreBuildId() { return DAMO_BUILD_ID; }

}  // namespace damo
