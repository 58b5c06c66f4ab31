// Tested by tests/unit/engine/delivery/spool_keeper_test.cc and tests/sim.
#include "engine/delivery/spool_keeper.h"

#include <span>
#include <utility>
#include <vector>

namespace mobula {

void SpoolKeeper::Execute(Delivery* delivery, Time now, SystemTime wall, DeliveryActions* actions,
                          const std::function<bool()>& go_on) {
  while (!actions->spool_empty()) {
    if (!actions->spills.empty() && !Append(delivery, now, wall, actions, go_on)) return;
    for (const auto& settle : std::exchange(actions->settles, {})) {
      lane_->Done(settle.token, settle.documents);
    }
    for (const uint64_t token : std::exchange(actions->returns, {})) lane_->Again(token);
    Tell(delivery);
    if (actions->frames > 0) Fetch(delivery, now, wall, actions);
  }
}

bool SpoolKeeper::Append(Delivery* delivery, Time now, SystemTime wall, DeliveryActions* actions,
                         const std::function<bool()>& go_on) {
  const std::vector<DeliveryActions::Spill> spills = std::exchange(actions->spills, {});
  std::vector<SpoolItem> items;
  items.reserve(spills.size());
  for (const auto& spill : spills) items.push_back({spill.batch.get(), spill.documents});
  size_t done = 0;
  for (absl::Status status; status.ok() && done < spills.size();) {
    size_t appended = 0;
    // Why it failed is for the spool to tell.
    status = lane_->Append(std::span(items).subspan(done), wall, &appended);
    if (!go_on()) return false;
    // At once: until then they are in the books twice.
    for (; appended > 0; --appended) delivery->OnSpilled(spills[done++].id, true, now, actions);
  }
  // Each goes to the front of what waits: the newest first keeps their order.
  for (size_t i = spills.size(); i > done; --i) {
    delivery->OnSpilled(spills[i - 1].id, false, now, actions);
  }
  return true;
}

void SpoolKeeper::Fetch(Delivery* delivery, Time now, SystemTime wall, DeliveryActions* actions) {
  for (size_t left = std::exchange(actions->frames, 0); left > 0; --left) {
    const std::optional<SpooledFrame> frame = lane_->Next(wall);
    if (!frame.has_value()) {
      delivery->OnNothingRestored(now);
      return;
    }
    if (builder_ == nullptr) {
      builder_ =
          std::make_unique<BatchBuilder>(pool_, BatchBuilder::Limits{Batch::kDocumentsMax, {}});
    }
    for (const SpooledFrame::Document& document : frame->documents) {
      CHECK(builder_->Add(document.bytes, document.kind, RejectReason::kNone, now));
    }
    BatchRef batch = builder_->Close();
    if (!batch) {
      lane_->Again(frame->token);
      delivery->OnNothingRestored(now);
      return;
    }
    delivery->OnRestored(std::move(batch), frame->token, frame->remaining, now, actions);
  }
}

}  // namespace mobula
