// Tested by tests/unit/engine/app/progress_bar_test.cc.
#include "engine/app/progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>

namespace mobula {
namespace {

constexpr size_t kBarColumns = 20;
constexpr Duration kRedraw = std::chrono::milliseconds(100);
constexpr std::string_view kEraseLine = "\r\x1b[K";

// A terminal that takes nothing is not worth an error.
void WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

std::string Grouped(uint64_t n) {
  std::string digits = std::to_string(n);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string SpanText(double seconds) {
  const auto s = static_cast<uint64_t>(std::ceil(std::clamp(seconds, 0.0, 1e9)));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
}

std::string BytesText(uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  constexpr std::string_view kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  auto size = static_cast<double>(bytes);
  size_t unit = 0;
  // What would be shown as 1024.0 is one of the next unit.
  for (size /= 1024; size >= 1023.95 && unit + 1 < std::size(kUnits); size /= 1024) ++unit;
  return fmt::format("{:.1f} {}", size, kUnits[unit]);
}

ProgressBar::ProgressBar(int fd, bool steps) : fd_(fd), steps_(steps), enabled_(isatty(fd) == 1) {}

ProgressBar::~ProgressBar() {
  if (drawn_) WriteAll(fd_, kEraseLine);
}

void ProgressBar::Update(uint64_t done, uint64_t total, Time now) {
  if (!enabled_) return;
  if (begun_ == Time{}) begun_ = now;
  if (now < next_) return;
  next_ = now + kRedraw;
  winsize size{};
  const size_t width =
      ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1U : 79U;
  WriteAll(fd_, std::string(kEraseLine) + Text({done, total, now - begun_, steps_}, width));
  drawn_ = true;
}

std::string ProgressBar::Text(const Values& values, size_t width) {
  const double seconds = Seconds(values.elapsed);
  const double rate = seconds > 0 && !values.steps ? static_cast<double>(values.done) / seconds : 0;
  const std::string speed =
      rate > 0 ? fmt::format("  {}/s", Grouped(static_cast<uint64_t>(std::llround(rate)))) : "";
  std::string text;
  if (values.total == 0) {
    text = Grouped(values.done) + speed;
  } else {
    const uint64_t done = std::min(values.done, values.total);
    const double share = static_cast<double>(done) / static_cast<double>(values.total);
    const auto filled = static_cast<size_t>(share * static_cast<double>(kBarColumns));
    text = fmt::format("[{:<{}}] {:>3}%  {} of {}{}", std::string(filled, '#'), kBarColumns,
                       static_cast<int>(share * 100), Grouped(done), Grouped(values.total), speed);
    if (rate > 0) {
      text += fmt::format("  {} left", SpanText(static_cast<double>(values.total - done) / rate));
    }
  }
  if (text.size() > width) text.resize(width);
  return text;
}

}  // namespace mobula
