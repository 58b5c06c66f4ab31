// Tested by tests/unit/engine/app/handover_test.cc and tests/e2e/takeover_test.py.
#include "engine/app/handover.h"

#include <fmt/format.h>

#include <utility>

namespace mobula {
namespace {

// It has little to do until its sockets are closed: what takes long is delivering, which comes after.
constexpr Duration kLetsGoWithin = std::chrono::seconds(10);

}  // namespace

void Handover::Begin(Time now) {
  // Sockets of somebody else's are not ours to hand over.
  if (sockets_->inherited) return;
  begun_ = true;
  if (!taking_over()) {
    (void)Own(now);
  } else if (!sockets_->predecessor->Gone()) {
    Ask(now);
  }
}

void Handover::Ask(Time now) {
  const std::string& address = sockets_->address;
  const absl::Status asked = sockets_->predecessor->AskToEnd();
  if (asked.ok()) {
    log_->Info("takeover",
               fmt::format("Ready: asked the agent on udp {} to end and hand over", address));
    warn_at_ = now + kLetsGoWithin;
  } else {
    log_->Info("takeover", fmt::format("Ready: the agent on udp {} hands over when it is ended; {}",
                                       address, std::string(asked.message())));
  }
}

void Handover::Step(Time now) {
  if (holder_) holder_->Tend();
  if (!begun_ || !taking_over()) return;
  if (!sockets_->predecessor->Gone()) {
    if (now < warn_at_) return;
    log_->Warn("takeover_slow",
               fmt::format("The agent on udp {} was asked to end and has not let go of the port",
                           sockets_->address));
    warn_at_ = now + kLetsGoWithin;
    return;
  }
  sockets_->predecessor.reset();
  if (!Own(now)) return;
  log_->Info("taken_over", fmt::format("Took udp {} over", sockets_->address));
}

bool Handover::Own(Time now) {
  size_t sockets = 0;
  for (const auto& worker : sockets_->by_worker) sockets += worker.size();
  absl::StatusOr<PortHolder> shown = PortHolder::Show(sockets_->address, sockets);
  if (shown.ok()) {
    holder_ = *std::move(shown);
    return true;
  }
  // Of two successors at once the slower one takes over from the faster one.
  if (absl::IsAlreadyExists(shown.status())) {
    sockets_->predecessor = Predecessor::Find(sockets_->address);
    if (taking_over()) {
      Ask(now);
      return false;
    }
  }
  log_->Warn("takeover_impossible", fmt::format("No other agent can take over from this one: {}",
                                                std::string(shown.status().message())));
  return true;
}

void Handover::LetGo() {
  begun_ = false;
  holder_.reset();
  sockets_->predecessor.reset();
}

}  // namespace mobula
