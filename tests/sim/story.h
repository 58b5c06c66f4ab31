// What happened in a run: told to people when asked for, and always as one number, so that two runs can be compared.
//
// Room:   test.
// Limits: keeps the last 60 lines.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <deque>
#include <string>
#include <utility>

#include "tests/sim/event_loop.h"

namespace mobula::sim {

enum class Telling : uint8_t { kSilent, kKeep, kPrint };

class Story {
 public:
  static constexpr size_t kLinesMax = 60;

  Story(Telling telling, const EventLoop* loop) : telling_(telling), loop_(loop) {}

  template <typename... Args>
  void Tell(fmt::format_string<Args...> format, Args&&... args) {
    Mix(static_cast<uint64_t>(loop_->now().time_since_epoch().count()));
    if (telling_ == Telling::kSilent) return;
    Line(fmt::format(format, std::forward<Args>(args)...));
  }
  // An invariant is broken. The first one is kept; the run ends soon after.
  template <typename... Args>
  void Fail(fmt::format_string<Args...> format, Args&&... args) {
    if (failed()) return;
    failure_ = fmt::format(format, std::forward<Args>(args)...);
    if (telling_ != Telling::kSilent) Line("FAILED: " + failure_);
  }
  [[nodiscard]] bool failed() const { return !failure_.empty(); }
  [[nodiscard]] const std::string& failure() const { return failure_; }
  [[nodiscard]] const std::deque<std::string>& lines() const { return lines_; }

  void Mix(uint64_t value) {
    digest_ = (digest_ ^ value) * 0x100000001b3;
    digest_ ^= digest_ >> 29;
  }
  [[nodiscard]] uint64_t digest() const { return digest_; }

 private:
  void Line(const std::string& text) {
    std::string line = fmt::format("{:10.4f}  {}", Seconds(loop_->now() - EventLoop::kStart), text);
    if (telling_ == Telling::kPrint) {
      std::puts(line.c_str());
      return;
    }
    lines_.push_back(std::move(line));
    if (lines_.size() > kLinesMax) lines_.pop_front();
  }

  const Telling telling_;
  const EventLoop* const loop_;
  std::string failure_;
  std::deque<std::string> lines_;
  uint64_t digest_ = 0xcbf29ce484222325;
};

}  // namespace mobula::sim
