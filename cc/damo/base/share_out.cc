// SPDX-License-Identifier: Apache-2.0
#include "damo/base/share_out.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>

namespace damo {
namespace {

// Outlives its caller where tasks are late.
class SharedWork {
 public:
  // `block` is borrowed until Finish() returns.
  SharedWork(int64_t total, int64_t block_size, const Executor::Block& block)
      : block_(block), total_(total), block_size_(block_size) {}

  // What a task does.
  void Help() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (finished_) return;
      ++num_helpers_;
    }
    Run();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--num_helpers_ == 0) left_.notify_all();
  }

  // What the caller does: returns when every block is done.
  void Finish() {
    Run();
    std::unique_lock<std::mutex> lock(mutex_);
    finished_ = true;
    left_.wait(lock, [this] { return num_helpers_ == 0; });
  }

 private:
  // Runs blocks until every one has been taken by somebody.
  void Run() {
    const int64_t num_blocks = (total_ - 1) / block_size_ + 1;
    for (int64_t i = next_block_++; i < num_blocks; i = next_block_++) {
      const int64_t begin = i * block_size_;
      block_(begin, begin + std::min(block_size_, total_ - begin));
    }
  }

  const Executor::Block& block_;
  const int64_t total_;
  const int64_t block_size_;
  std::atomic<int64_t> next_block_{0};
  std::mutex mutex_;  // guards what follows
  std::condition_variable left_;
  int num_helpers_ = 0;  // inside Run()
  bool finished_ = false;
};

}  // namespace

void ShareOut(int64_t total, int64_t block_size, int64_t max_helpers, const Executor::Block& block,
              const ScheduleTask& schedule) noexcept {
  if (total <= 0) return;
  const int64_t num_helpers = std::min(max_helpers, (total - 1) / block_size);
  std::shared_ptr<SharedWork> work;
  try {
    if (num_helpers > 0) work = std::make_shared<SharedWork>(total, block_size, block);
    for (int64_t i = 0; i < num_helpers; ++i) schedule([work] { work->Help(); });
  } catch (const std::exception&) {
    // Fewer help, or nobody. The results are the same.
  }
  if (work != nullptr) return work->Finish();
  block(0, total);
}

}  // namespace damo
