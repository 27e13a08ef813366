// SPDX-License-Identifier: Apache-2.0
//
// The threads that read rows ahead of need. They are not the device's: a thread that waits for the disk there
// would hold up the training step that the reading is to run beside.
#ifndef DAMO_OPS_READ_AHEAD_EXECUTOR_H_
#define DAMO_OPS_READ_AHEAD_EXECUTOR_H_

#include "damo/base/thread_pool.h"

namespace damo::ops {

// One for the process. Starts its threads with the first read that they can share, and is never destroyed.
inline Executor& ReadAheadExecutor() {
  // Beside the thread of the input pipeline. Each has one read under way, and waits for the disk rather than
  // for a core: so their number is not the processor's.
  constexpr int kNumThreads = 7;
  static auto* const pool = new ThreadPool(kNumThreads);
  return *pool;
}

}  // namespace damo::ops

#endif  // DAMO_OPS_READ_AHEAD_EXECUTOR_H_
