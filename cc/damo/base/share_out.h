// SPDX-License-Identifier: Apache-2.0
//
// ShareOut: shares the blocks of a range with the threads of a pool that is not ours, of which we know only
// how to give it work, and that this may fail for want of memory.
#ifndef DAMO_BASE_SHARE_OUT_H_
#define DAMO_BASE_SHARE_OUT_H_

#include <cstdint>
#include <functional>

#include "damo/base/executor.h"

namespace damo {

// Gives a task to another thread, which runs it some time. May throw if it could not; it then never runs.
using ScheduleTask = std::function<void(std::function<void()> task)>;

// What Executor::ParallelFor() is to do for blocks of `block_size`, with the help of `max_helpers` threads at
// most. The calling thread works, too, and waits for no helper that has not begun; so however busy the pool
// is, it gets on. A task that runs after all blocks are done does nothing. Throws nothing: what could not be
// shared out, for want of memory, the calling thread does. Blocks must not throw.
void ShareOut(int64_t total, int64_t block_size, int64_t max_helpers, const Executor::Block& block,
              const ScheduleTask& schedule) noexcept;

}  // namespace damo

#endif  // DAMO_BASE_SHARE_OUT_H_
