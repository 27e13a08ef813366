// SPDX-License-Identifier: Apache-2.0
#include "damo/base/executor.h"

#include <mutex>

#include "damo/base/catch_exceptions.h"

namespace damo {
namespace {

class InlineExecutor final : public Executor {
 public:
  void ParallelFor(int64_t total, int64_t /*min_block*/, const Block& block) override {
    if (total > 0) block(0, total);
  }
};

}  // namespace

Executor* Executor::Inline() {
  static Executor* const executor = new InlineExecutor;  // leaked: usable until the process ends
  return executor;
}

Status ParallelForStatus(Executor& executor, int64_t total, int64_t min_block,
                         const std::function<Status(int64_t begin, int64_t end)>& block) {
  std::mutex mutex;  // guards first_begin and first_failure
  int64_t first_begin = total;
  Status first_failure;
  executor.ParallelFor(total, min_block, [&](int64_t begin, int64_t end) {
    Status status = CatchExceptions([&] { return block(begin, end); });
    if (status.ok()) return;
    const std::lock_guard<std::mutex> lock(mutex);
    if (begin < first_begin) {
      first_begin = begin;
      first_failure = std::move(status);
    }
  });
  return first_failure;
}

}  // namespace damo
