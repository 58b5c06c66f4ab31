// Virtual time: events happen in the order of their times, those of one time in the order they were made.
//
// Room: test.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "engine/base/time.h"
#include "engine/spool/spool_disk.h"

namespace mobula::sim {

class EventLoop {
 public:
  static constexpr Time kStart{std::chrono::seconds(1000)};
  static constexpr SystemTime kWallStart{std::chrono::seconds(1'800'000'000)};

  [[nodiscard]] Time now() const { return now_; }
  // The calendar, which may jump.
  [[nodiscard]] SystemTime wall() const {
    return kWallStart + std::chrono::duration_cast<SystemTime::duration>(now_ - kStart + jumped_);
  }
  void JumpWall(Duration by) { jumped_ += by; }

  void At(Time time, std::function<void()> what) {
    events_.push_back({std::max(time, now_), ++made_, std::move(what)});
    std::push_heap(events_.begin(), events_.end(), Later);
  }
  void After(Duration wait, std::function<void()> what) { At(now_ + wait, std::move(what)); }

  // False: nothing is left to happen.
  bool Step() {
    if (events_.empty()) return false;
    std::pop_heap(events_.begin(), events_.end(), Later);
    Event event = std::move(events_.back());
    events_.pop_back();
    at_once_ = event.at == now_ ? at_once_ + 1 : 0;
    now_ = event.at;
    ++done_;
    event.what();
    return true;
  }

  [[nodiscard]] uint64_t events() const { return done_; }
  // Events since the clock last moved: a number that grows for ever is a circle.
  [[nodiscard]] uint64_t events_at_once() const { return at_once_; }

 private:
  struct Event {
    Time at;
    uint64_t number;
    std::function<void()> what;
  };
  static bool Later(const Event& a, const Event& b) {
    return a.at != b.at ? a.at > b.at : a.number > b.number;
  }

  Time now_ = kStart;
  Duration jumped_{};
  std::vector<Event> events_;
  uint64_t made_ = 0;
  uint64_t done_ = 0;
  uint64_t at_once_ = 0;
};

}  // namespace mobula::sim
