// Carries out what Delivery wants of the spool: the lane's hands, and the simulation's.
//
// Room:      warm: waits for the disk.
// Threads:   the lane's.
// Ownership: the spool's lane and the pool outlive it.
// Errors:    none: what the disk refuses stays with Delivery, which keeps or drops it; a frame for which the pool has
//            no room goes back.
// Limits:    one frame at a time; 256 KiB of its own from the first one on.
#pragma once

#include <functional>
#include <memory>

#include "engine/batch/batch_builder.h"
#include "engine/delivery/delivery.h"
#include "engine/spool/spool.h"

namespace mobula {

class SpoolKeeper {
 public:
  SpoolKeeper(SpoolLane* lane, BlockPool* pool) : lane_(lane), pool_(pool) {}

  // Before each event.
  void Tell(Delivery* delivery) const { delivery->set_spool_waiting(lane_->waiting()); }
  // Until *actions holds drops and calls only. After each write to the disk `go_on` is asked; when it says no, nothing
  // more is done, of the books neither.
  void Execute(Delivery* delivery, Time now, SystemTime wall, DeliveryActions* actions,
               const std::function<bool()>& go_on);

 private:
  bool Append(Delivery* delivery, Time now, SystemTime wall, DeliveryActions* actions,
              const std::function<bool()>& go_on);
  void Fetch(Delivery* delivery, Time now, SystemTime wall, DeliveryActions* actions);

  SpoolLane* const lane_;
  BlockPool* const pool_;
  std::unique_ptr<BatchBuilder> builder_;
};

}  // namespace mobula
