// SIGTERM, SIGINT and SIGHUP as values to wait for instead of handlers.
//
// Room:    cold.
// Threads: made by the first thread before there is another: later threads inherit the blocked signals.
#pragma once

#include <signal.h>

#include "engine/base/time.h"

namespace mobula {

class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    for (const int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set_, s);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    signal(SIGPIPE, SIG_IGN);
  }

  // The next signal, or 0 when none came within `wait`.
  [[nodiscard]] int Next(Duration wait) const {
    const timespec limit{wait / std::chrono::seconds(1), (wait % std::chrono::seconds(1)).count()};
    const int got = sigtimedwait(&set_, nullptr, &limit);
    return got > 0 ? got : 0;
  }

 private:
  sigset_t set_;
};

}  // namespace mobula
