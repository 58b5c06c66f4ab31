// Tested by tests/unit/engine/app/ledger_test.cc.
#include "engine/app/ledger.h"

#include <fmt/format.h>

#include <algorithm>

namespace mobula {
namespace {

uint64_t Sum(const std::map<std::string, uint64_t>& counts) {
  uint64_t sum = 0;
  for (const auto& [name, n] : counts) sum += n;
  return sum;
}

// Counters wrap: one that was taken more from than it held would still add up.
bool Possible(uint64_t count) { return count < UINT64_MAX / 2; }

// Reasons and backend names are plain identifiers: nothing needs escaping.
std::string JsonMap(const std::map<std::string, uint64_t>& counts) {
  std::string out = "{";
  for (const auto& [name, n] : counts) {
    out += fmt::format("{}\"{}\":{}", out.size() > 1 ? "," : "", name, n);
  }
  return out + "}";
}

std::string Reasons(const std::map<std::string, uint64_t>& counts) {
  std::string out;
  for (const auto& [name, n] : counts) {
    out += fmt::format("{}{} {}", out.empty() ? "  (" : ", ", name, n);
  }
  return out.empty() ? out : out + ")";
}

}  // namespace

uint64_t Ledger::Lane::dropped_total() const { return Sum(dropped); }

bool Ledger::Lane::balanced() const {
  return entered + restored == delivered + dropped_total() + held + spooled && Possible(held) &&
         Possible(spooled);
}

std::string Ledger::Lane::json() const {
  return fmt::format(
      "{{\"entered\":{},\"restored\":{},\"delivered\":{},\"dropped\":{},\"held\":{},\"spooled\":{}}"
      "}",
      entered, restored, delivered, JsonMap(dropped), held, spooled);
}

std::string Ledger::Lane::text() const {
  std::string out =
      fmt::format("  backend {}\n    delivered  {:>12} of {}\n    dropped    {:>12}{}\n", name,
                  delivered, entered + restored, dropped_total(), Reasons(dropped));
  if (spooled != 0) out += fmt::format("    spooled    {:>12}\n", spooled);
  if (held != 0) out += fmt::format("    held       {:>12}\n", held);
  return out;
}

uint64_t Ledger::rejected_total() const { return Sum(rejected); }

uint64_t Ledger::lost_total() const {
  uint64_t sum = rejected_total() + kernel_drops;
  for (const Lane& l : lanes) sum += l.dropped_total();
  return sum;
}

bool Ledger::balanced() const {
  return datagrams == accepted + rejected_total() && accepted == routed + filtered + open &&
         std::all_of(lanes.begin(), lanes.end(), [](const Lane& l) { return l.balanced(); }) &&
         (!dead_letters.has_value() || dead_letters->balanced());
}

std::string Ledger::json() const {
  std::string out = fmt::format(
      "{{\"balanced\":{},\"ingest\":{{\"datagrams\":{},\"bytes\":{},\"accepted\":{},\"rejected\":{}"
      ","
      "\"routed\":{},\"filtered\":{},\"open\":{},\"kernel_drops\":{}}},\"lanes\":{{",
      balanced(), datagrams, bytes, accepted, JsonMap(rejected), routed, filtered, open,
      kernel_drops);
  for (size_t i = 0; i < lanes.size(); ++i) {
    out += fmt::format("{}\"{}\":{}", i == 0 ? "" : ",", lanes[i].name, lanes[i].json());
  }
  out += "}";
  if (dead_letters.has_value()) out += ",\"dead_letters\":" + dead_letters->json();
  return out + "}";
}

std::string Ledger::text() const {
  std::string out = fmt::format(
      "ledger: {}\n"
      "  received     {:>12} datagrams, {} bytes\n"
      "  accepted     {:>12}\n"
      "  rejected     {:>12}{}\n"
      "  kernel drops {:>12}\n",
      balanced() ? "balanced" : "NOT BALANCED: please report this", datagrams, bytes, accepted,
      rejected_total(), Reasons(rejected), kernel_drops);
  if (filtered != 0) out += fmt::format("  filtered     {:>12}\n", filtered);
  for (const Lane& l : lanes) out += l.text();
  if (dead_letters.has_value() && dead_letters->dropped_total() != 0) {
    out += fmt::format("  dead letters not kept {:>6} of {}\n", dead_letters->dropped_total(),
                       dead_letters->entered);
  }
  return out;
}

std::string Ledger::summary() const {
  uint64_t delivered = 0;
  uint64_t spooled = 0;
  std::map<std::string, uint64_t> lost = rejected;
  if (kernel_drops != 0) lost["kernel"] = kernel_drops;
  for (const Lane& l : lanes) {
    delivered += l.delivered;
    spooled += l.spooled;
    for (const auto& [reason, n] : l.dropped) lost[reason] += n;
  }
  std::string reasons;
  for (const auto& [reason, n] : lost) {
    reasons += fmt::format("{}{} {}", reasons.empty() ? " (" : ", ", reason, n);
  }
  return fmt::format("delivered {}, spooled {}, lost {}{}", delivered, spooled, lost_total(),
                     reasons.empty() ? "" : reasons + ")");
}

bool LedgerAudit::Look(const Ledger& ledger, bool last) {
  if (ledger.balanced()) {
    suspect_.reset();
    return false;
  }
  const bool rests = last || (suspect_.has_value() && *suspect_ == ledger);
  if (!suspect_.has_value() || *suspect_ != ledger) told_ = false;
  suspect_ = ledger;
  if (!rests || told_) return false;
  told_ = true;
  bugs_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace mobula
