// SPDX-License-Identifier: Apache-2.0
//
// Memory that malloc keeps though nothing is in it.
#ifndef DAMO_BASE_IDLE_MEMORY_H_
#define DAMO_BASE_IDLE_MEMORY_H_

namespace damo {

// Gives whole pages that are free in malloc's arenas back to the system, where malloc can (glibc's does). The
// batches of a training step, megabytes that come and go, and the blocks of the cache between them leave as
// much as half a memory budget of such pages behind, each of which was part of a batch once. Takes some
// milliseconds and holds up other threads' allocations for part of them: not for every call.
void ReleaseIdleMemory();

}  // namespace damo

#endif  // DAMO_BASE_IDLE_MEMORY_H_
