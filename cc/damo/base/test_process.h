// SPDX-License-Identifier: Apache-2.0
//
// RunInFreshProcess(): runs part of a test in another process, which may then exit in ways that a test must
// not.
//
// A child forked in the midst of a test would inherit RocksDB without its threads, and hang in it. So one
// process is forked off before the first test and never does anything but fork again: its children are as new
// as a process can be.
#ifndef DAMO_BASE_TEST_PROCESS_H_
#define DAMO_BASE_TEST_PROCESS_H_

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <string>

namespace damo {

// Does something in `directory`, and tells how it went. The process ends at its return with no destructors of
// statics, no atexit, no flush: as by kill -9, but for the locals of the scenario.
using Scenario = std::string (*)(const std::string& directory);

class ProcessNursery final : public testing::Environment {
 public:
  void SetUp() override {
    int sockets[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
    nursery_ = fork();
    ASSERT_GE(nursery_, 0);
    socket_ = sockets[nursery_ == 0 ? 1 : 0];
    close(sockets[nursery_ == 0 ? 0 : 1]);
    if (nursery_ == 0) ServeUntilSocketCloses();
  }

  void TearDown() override {
    close(socket_);
    waitpid(nursery_, nullptr, 0);
  }

  std::string Run(Scenario scenario, const std::string& directory) const {
    Request request{scenario, {}};
    std::snprintf(request.directory, sizeof(request.directory), "%s", directory.c_str());
    char report[kMaxReport];
    if (send(socket_, &request, sizeof(request), 0) != sizeof(request)) return "no process to be had";
    const ssize_t size = recv(socket_, report, sizeof(report), 0);
    return size > 0 ? std::string(report, static_cast<size_t>(size)) : "no report";
  }

 private:
  static constexpr size_t kMaxReport = 4096;
  struct Request {
    Scenario scenario;  // valid in the nursery too: it is a fork of this program
    char directory[4096];
  };

  [[noreturn]] void ServeUntilSocketCloses() const {
    Request request;
    while (recv(socket_, &request, sizeof(request), 0) == sizeof(request)) {
      const std::string report = ReportOfChild(request);
      send(socket_, report.data(), report.size(), 0);
    }
    _exit(0);
  }

  // Returns when the child is dead, and what it held open is released.
  static std::string ReportOfChild(const Request& request) {
    int ends[2];
    if (pipe(ends) != 0) return "no pipe to be had";
    const pid_t child = fork();
    if (child == 0) {
      const std::string report = request.scenario(request.directory);
      _exit(write(ends[1], report.data(), report.size()) == static_cast<ssize_t>(report.size()) ? 0 : 1);
    }
    close(ends[1]);
    char report[kMaxReport];
    const ssize_t size = read(ends[0], report, sizeof(report));  // one write, at most PIPE_BUF: one read
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) return "the process died, wait status " + std::to_string(status);
    return std::string(report, static_cast<size_t>(size));
  }

  pid_t nursery_ = -1;
  int socket_ = -1;
};

inline const ProcessNursery* const kProcessNursery =
    static_cast<ProcessNursery*>(testing::AddGlobalTestEnvironment(new ProcessNursery));

// Returns what `scenario` reports, not empty, or how its process died.
inline std::string RunInFreshProcess(Scenario scenario, const std::string& directory) {
  return kProcessNursery->Run(scenario, directory);
}

}  // namespace damo

#endif  // DAMO_BASE_TEST_PROCESS_H_
