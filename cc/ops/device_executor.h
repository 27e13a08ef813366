// SPDX-License-Identifier: Apache-2.0
//
// DeviceExecutor: the engine's Executor on the thread pool of the device that a kernel runs on.
#ifndef DAMO_OPS_DEVICE_EXECUTOR_H_
#define DAMO_OPS_DEVICE_EXECUTOR_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>

#include "damo/base/executor.h"
#include "damo/base/share_out.h"
#include "tensorflow/core/framework/device_base.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace damo::ops {

class DeviceExecutor final : public Executor {
 public:
  // Borrows the pool of `ctx`'s device for the length of one Compute.
  explicit DeviceExecutor(tensorflow::OpKernelContext* ctx)
      : threads_(*ctx->device()->tensorflow_cpu_worker_threads()) {}

  void ParallelFor(int64_t total, int64_t min_block, const Block& block) override {
    if (total <= 0) return;
    const int64_t num_threads = threads_.num_threads;
    const int64_t block_size = std::max(min_block, (total + num_threads - 1) / num_threads);
    // Not by the pool's own ParallelFor(): without memory for its closures that leaves, with an exception,
    // others working on what is gone.
    ShareOut(total, block_size, num_threads - 1, block,
             [this](std::function<void()> task) { threads_.workers->Schedule(std::move(task)); });
  }

 private:
  const tensorflow::DeviceBase::CpuWorkerThreads& threads_;
};

}  // namespace damo::ops

#endif  // DAMO_OPS_DEVICE_EXECUTOR_H_
