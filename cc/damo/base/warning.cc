// SPDX-License-Identifier: Apache-2.0
#include "damo/base/warning.h"

#include <cstdio>
#include <string>

namespace damo {

void Warn(std::string_view message) {
  const std::string line = "damo_tf: warning: " + std::string(message) + "\n";
  std::fputs(line.c_str(), stderr);
}

}  // namespace damo
