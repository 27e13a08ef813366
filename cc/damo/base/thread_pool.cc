// SPDX-License-Identifier: Apache-2.0
#include "damo/base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <system_error>

namespace damo {

// One ParallelFor under way. Lives on its caller's stack; the caller leaves when no helper is left.
struct ThreadPool::Job {
  const Block& block;
  const int64_t total;
  const int64_t block_size;
  std::atomic<int64_t> next_block{0};
  int num_helpers = 0;  // pool threads inside Run(); guarded by ThreadPool::mutex_

  int64_t num_blocks() const { return (total - 1) / block_size + 1; }

  // Runs blocks until every one has been taken by somebody.
  void Run() {
    for (int64_t i = next_block++; i < num_blocks(); i = next_block++) {
      const int64_t begin = i * block_size;
      block(begin, begin + std::min(block_size, total - begin));
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : num_threads_(std::max(num_threads, 0)) {}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::ParallelFor(int64_t total, int64_t min_block, const Block& block) {
  if (total <= 0) return;
  // Several blocks for each thread even out blocks that take longer than others.
  constexpr int64_t kBlocksPerThread = 4;
  const int64_t max_blocks = kBlocksPerThread * (num_threads_ + 1);
  Job job{block, total, std::max({min_block, (total - 1) / max_blocks + 1, int64_t{1}})};
  if (num_threads_ == 0 || job.num_blocks() == 1) {
    job.Run();
    return;
  }
  try {
    const std::lock_guard<std::mutex> lock(mutex_);
    StartThreads();
    jobs_.push_back(&job);
  } catch (const std::bad_alloc&) {
    // Nobody helps. The results are the same.
  }
  wake_.notify_all();
  job.Run();
  std::unique_lock<std::mutex> lock(mutex_);
  RemoveJob(&job);
  done_.wait(lock, [&job] { return job.num_helpers == 0; });
}

// Requires mutex_.
void ThreadPool::StartThreads() {
  if (!threads_.empty()) return;
  try {
    for (int i = 0; i < num_threads_; ++i) threads_.emplace_back([this] { ServeJobs(); });
  } catch (const std::system_error&) {
    // The system has no thread to give. The results are the same with fewer, or none.
  }
}

// What each thread of the pool does.
void ThreadPool::ServeJobs() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    Job* const job = jobs_.front();
    ++job->num_helpers;
    lock.unlock();
    job->Run();
    lock.lock();
    RemoveJob(job);
    if (--job->num_helpers == 0) done_.notify_all();
  }
}

// Requires mutex_. The job's blocks have all been taken; another may have removed it already.
void ThreadPool::RemoveJob(const Job* job) {
  jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), job), jobs_.end());
}

}  // namespace damo
