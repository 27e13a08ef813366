// SPDX-License-Identifier: Apache-2.0
//
// Executor: how the engine borrows its caller's threads. The engine starts no threads for computation; the
// TensorFlow adapter lends the device's pool, the damo module a pool of its own, tests any they like.
#ifndef DAMO_BASE_EXECUTOR_H_
#define DAMO_BASE_EXECUTOR_H_

#include <cstdint>
#include <functional>

#include "damo/base/status.h"

namespace damo {

// Thread-safe.
class Executor {
 public:
  using Block = std::function<void(int64_t begin, int64_t end)>;

  virtual ~Executor() = default;

  // Splits [0, total) into consecutive blocks of at least `min_block` (the last may be smaller), runs `block`
  // once for each, perhaps at the same time on several threads, and returns when all are done. How the range
  // is split is the executor's choice, so `block` must give the same result however it falls. Does not fail:
  // without memory to share the work out, the calling thread does it.
  virtual void ParallelFor(int64_t total, int64_t min_block, const Block& block) = 0;

  // Runs every block in the calling thread; never destroyed.
  static Executor* Inline();
};

// As Executor::ParallelFor for blocks that can fail. Every block runs; returns the failure of the block with
// the lowest `begin`, so that the same trouble is reported however many threads there are.
Status ParallelForStatus(Executor& executor, int64_t total, int64_t min_block,
                         const std::function<Status(int64_t begin, int64_t end)>& block);

}  // namespace damo

#endif  // DAMO_BASE_EXECUTOR_H_
