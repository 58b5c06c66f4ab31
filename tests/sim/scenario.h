// What a seed means: how the agents are configured, what is sent, and which troubles come how often.
//
// Room: test.
#pragma once

#include <string>
#include <vector>

#include "engine/batch/batch_builder.h"
#include "engine/config/config.h"
#include "engine/delivery/delivery.h"
#include "engine/spool/spool.h"
#include "tests/sim/far_side.h"
#include "tests/sim/random.h"

namespace mobula::sim {

struct BackendPlan {
  std::string name;
  size_t share = 0;
  Duration latency{};
  Delivery::Options delivery;
};

struct Scenario {
  // Troubles last so long; then all is well, and everything must be delivered.
  Duration troubles{};
  Duration calm =
      std::chrono::seconds(20);  // traffic goes on so long, and as long as it takes to recover

  double documents_per_second = 0;
  double bursts_per_second = 0;
  uint64_t burst_max = 0;
  uint32_t size_min = 0;
  uint32_t size_max = 0;
  uint64_t poison = 0;  // one document of so many is more than a far side can bear; 0: none is
  double large = 0;     // share of documents up to 60,000 bytes
  double strange = 0;   // share of styles other than plain

  std::vector<BackendPlan> backends;
  std::vector<RouteConfig> routes;
  BatchBuilder::Limits batch;
  size_t workers = 1;
  Duration wake_max{};
  bool with_spool = true;
  Spool::Options spool;

  // How often things happen, in times a second.
  double moods = 0;
  double sick = 0;  // share of moods other than kOk
  std::vector<Mood> sickness;
  double kills = 0;
  double kills_at_disk = 0;
  double power_cuts = 0;
  double power_cuts_at_disk = 0;
  double stops = 0;
  double take_overs = 0;
  double reloads = 0;
  double disk_troubles = 0;
  double damages = 0;
  double deletions = 0;
  double clock_jumps = 0;
  Duration grace_max{};
  Duration gap_max{};  // between one process and the next

  [[nodiscard]] std::string text() const;
};

Scenario DrawScenario(Random random);

}  // namespace mobula::sim
