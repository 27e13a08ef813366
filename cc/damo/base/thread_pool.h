// SPDX-License-Identifier: Apache-2.0
//
// ThreadPool: an Executor with threads of its own, for callers that have none to lend.
#ifndef DAMO_BASE_THREAD_POOL_H_
#define DAMO_BASE_THREAD_POOL_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "damo/base/executor.h"

namespace damo {

// A fixed number of threads, started by the first ParallelFor that has work for them. The calling thread
// works too, so a call always gets on, however busy the pool is: several threads may call at once, and a
// block may call ParallelFor itself. Blocks must not throw.
//
// A forked child has none of the threads. It must not use or destroy a pool it inherited.
class ThreadPool final : public Executor {
 public:
  // `num_threads` >= 0, beside the calling one. 0: all blocks run in the calling thread.
  explicit ThreadPool(int num_threads);
  // No ParallelFor may be running.
  ~ThreadPool() override;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  void ParallelFor(int64_t total, int64_t min_block, const Block& block) override;

 private:
  struct Job;

  void StartThreads();
  void ServeJobs();
  void RemoveJob(const Job* job);

  const int num_threads_;
  std::mutex mutex_;              // guards what follows, and Job::num_helpers
  std::condition_variable wake_;  // there is a job, or the pool stops
  std::condition_variable done_;  // a job's last helper has left it
  std::deque<Job*> jobs_;         // may have blocks left to run
  std::vector<std::thread> threads_;
  bool stopping_ = false;
};

}  // namespace damo

#endif  // DAMO_BASE_THREAD_POOL_H_
