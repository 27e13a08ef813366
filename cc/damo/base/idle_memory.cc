// SPDX-License-Identifier: Apache-2.0
#include "damo/base/idle_memory.h"

#include <cstdlib>  // defines __GLIBC__

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace damo {

void ReleaseIdleMemory() {
#ifdef __GLIBC__
  malloc_trim(/*pad=*/0);
#endif
}

}  // namespace damo
