// Tested by tests/unit/engine/app/ledger_test.cc.
#include "engine/app/status_line.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "engine/app/metrics_page.h"
#include "engine/app/progress_bar.h"

namespace mobula {
StatusLine::StatusLine() : enabled_(isatty(STDERR_FILENO) == 1) {}

std::string StatusLine::Text(const Ledger& ledger, double rate, uint64_t resident_bytes) {
  std::string out =
      fmt::format("received {}/s", Grouped(static_cast<uint64_t>(std::llround(rate))));
  out += fmt::format(" ({} in all)", Grouped(ledger.datagrams));
  uint64_t held = ledger.open;
  std::map<std::string, uint64_t> dropped = ledger.rejected;
  if (ledger.kernel_drops != 0) dropped["kernel"] = ledger.kernel_drops;
  for (const Ledger::Lane& lane : ledger.lanes) {
    held += lane.held;
    for (const auto& [reason, n] : lane.dropped) dropped[reason] += n;
  }
  if (ledger.lanes.size() == 1) {
    out += fmt::format("  delivered {}", Grouped(ledger.lanes[0].delivered));
  } else {
    out += "  delivered";
    for (const Ledger::Lane& lane : ledger.lanes) {
      out += fmt::format(" {} {}", lane.name, Grouped(lane.delivered));
    }
  }
  uint64_t sum = 0;
  std::string reasons;
  for (const auto& [reason, n] : dropped) {
    sum += n;
    reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", reason, Grouped(n));
  }
  uint64_t spooled = 0;
  for (const Ledger::Lane& lane : ledger.lanes) spooled += lane.spooled;
  if (spooled != 0) out += fmt::format("  spooled {}", Grouped(spooled));
  out += fmt::format("  held {}  memory {} MiB  dropped {}", Grouped(held),
                     (resident_bytes + (1 << 19)) >> 20, Grouped(sum));
  if (sum != 0) out += fmt::format(" ({})", reasons);
  return out;
}

void StatusLine::Draw(const Agent& agent, Time now) {
  if (!enabled_) return;
  const Ledger ledger = agent.ledger();
  if (last_ != Time{}) {
    const double elapsed = Seconds(now - last_);
    if (elapsed > 0) rate_ = static_cast<double>(ledger.datagrams - last_datagrams_) / elapsed;
  }
  last_ = now;
  last_datagrams_ = ledger.datagrams;
  std::string text = Text(ledger, rate_, ReadProcessUsage().resident_bytes);
  winsize size{};
  const size_t width =
      ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1U : 79U;
  if (text.size() > width) text.resize(width);
  std::fprintf(stderr, "\r\x1b[K%s", text.c_str());
  std::fflush(stderr);
}

void StatusLine::Erase() {
  if (!enabled_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
}

}  // namespace mobula
