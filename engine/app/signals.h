// SIGTERM, SIGINT and SIGHUP as values to wait for instead of handlers.
//
// Room:    cold.
// Threads: made by the first thread before there is another: later threads inherit the blocked signals.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "engine/base/check.h"
#include "engine/base/time.h"
#include "engine/base/unique_fd.h"

namespace mobula {

class Signals {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);
    fd_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    CHECK(fd_.valid());
  }

  // The next signal, or 0 when none came within `wait`, or `other`, if that is a descriptor, became readable.
  [[nodiscard]] int Next(Duration wait, int other = -1) const {
    const timespec limit{wait / std::chrono::seconds(1), (wait % std::chrono::seconds(1)).count()};
    pollfd polled[] = {{fd_.get(), POLLIN, 0}, {other, POLLIN, 0}};
    (void)ppoll(polled, 2, &limit, nullptr);
    signalfd_siginfo got{};
    return read(fd_.get(), &got, sizeof got) == sizeof got ? static_cast<int>(got.ssi_signo) : 0;
  }

 private:
  UniqueFd fd_;
};

}  // namespace mobula
