#include "tests/sim/scenario.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace mobula::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// From `low` to `high`, each order of magnitude as likely.
double Logarithmic(Random* random, double low, double high) {
  return low * std::pow(high / low, random->Unit());
}

void DrawTraffic(Random* random, Scenario* s) {
  s->documents_per_second = Logarithmic(random, 2, 120);
  if (random->Chance(0.5)) {
    s->bursts_per_second = Logarithmic(random, 0.02, 0.5);
    s->burst_max = random->Between(20, 600);
  }
  s->size_min = 150;
  s->size_max = random->Chance(0.8) ? 400 : 4000;
  s->large = random->Chance(0.2) ? 0.01 : 0;
  s->strange = random->Chance(0.5) ? 0.3 : 0.02;
}

void DrawBackends(Random* random, Scenario* s) {
  const uint64_t backends = random->Chance(0.55) ? 1 : random->Between(2, 3);
  static const std::vector<uint64_t> kDocuments = {1, 5, 20, 50, 50, 50, 64};
  s->batch.documents = random->Pick(kDocuments);
  s->batch.age = random->Between(milliseconds(50), milliseconds(1500));
  for (uint64_t i = 0; i < backends; ++i) {
    BackendPlan b;
    b.name = fmt::format("b{}", i);
    b.share = random->Between(512, random->Chance(0.6) ? 1024 : 4096) << 10;
    b.latency = random->Between(milliseconds(1), milliseconds(60));
    b.delivery.timeout = random->Between(milliseconds(500), seconds(10));
    b.delivery.spill_after = random->Between(milliseconds(200), seconds(3));
    // Enough for four times the traffic, where it is bounded at all.
    const double calls = s->documents_per_second / static_cast<double>(s->batch.documents) +
                         4 / Seconds(s->batch.age);
    const auto least = static_cast<uint64_t>(2 + 6 * calls * Seconds(b.latency));
    b.delivery.concurrency =
        random->Chance(0.2)
            ? static_cast<int>(std::min<uint64_t>(64, least + random->Between(0, 20)))
            : 0;
    s->backends.push_back(std::move(b));
  }
  if (backends > 1 && random->Chance(0.6)) {
    // The first alone gets what is of service 0; all get the rest, or nobody does.
    s->routes.push_back({R"(service("svc0"))", {"b0"}});
    RouteConfig rest;
    if (random->Chance(0.8)) {
      for (const BackendPlan& b : s->backends) rest.to.push_back(b.name);
    }
    s->routes.push_back(std::move(rest));
  }
  s->workers = random->Between(1, 3);
  s->wake_max = random->Between(Duration(0), milliseconds(5));
}

void DrawSpool(Random* random, Scenario* s) {
  s->with_spool = random->Chance(0.92);
  s->spool.path = "/spool";
  static const std::vector<uint64_t> kSizes = {1U << 20, 1U << 20, 3U << 20, 64U << 20};
  s->spool.bytes_max = random->Pick(kSizes);
  s->spool.file_bytes_max = uint64_t{1} << random->Between(15, 21);
  if (random->Chance(0.15)) s->spool.age_max = random->Between(seconds(10), seconds(60));
  static const std::vector<Spool::Fsync> kFsync = {Spool::Fsync::kNever, Spool::Fsync::kInterval,
                                                   Spool::Fsync::kBatch, Spool::Fsync::kBatch};
  s->spool.fsync = random->Pick(kFsync);
  s->spool.fsync_interval = random->Between(milliseconds(100), seconds(5));
}

// Some runs are all about one thing that is too small.
void DrawNeed(Random* random, Scenario* s) {
  const double dice = random->Unit();
  if (dice < 0.1) {  // the disk
    s->spool.bytes_max = 1U << 20;
    s->documents_per_second = 150;
    s->size_min = 400;
    s->size_max = 900;
  } else if (dice < 0.25) {  // the buffer
    for (BackendPlan& b : s->backends) b.share = 512U << 10;
    s->documents_per_second = 40;
    s->size_min = 1000;
    s->size_max = 8000;
    s->batch.documents = random->Between(10, 50);
  }
}

void DrawTroubles(Random* random, Scenario* s) {
  s->troubles = random->Between(seconds(10), seconds(60));
  s->moods = Logarithmic(random, 0.05, 1);
  s->sick = 0.3 + 0.6 * random->Unit();
  if (random->Chance(0.5)) {
    for (uint64_t n = random->Between(1, 3); n > 0; --n) {
      s->sickness.push_back(static_cast<Mood>(random->Between(1, kMoodCount - 1)));
    }
  } else {
    for (int mood = 1; mood < kMoodCount; ++mood) s->sickness.push_back(static_cast<Mood>(mood));
  }
  const auto sometimes = [random](double chance, double most) {
    return random->Chance(chance) ? Logarithmic(random, 0.02, most) : 0;
  };
  s->kills = sometimes(0.3, 0.3);
  s->stops = sometimes(0.3, 0.2);
  s->take_overs = sometimes(0.2, 0.2);
  s->reloads = sometimes(0.25, 0.2);
  if (s->with_spool) {
    s->kills_at_disk = sometimes(0.25, 0.3);
    s->power_cuts = sometimes(0.15, 0.2);
    s->power_cuts_at_disk = sometimes(0.15, 0.2);
    s->disk_troubles = sometimes(0.25, 0.3);
    s->damages = sometimes(0.08, 0.2);
    s->deletions = sometimes(0.05, 0.1);
  }
  s->clock_jumps = sometimes(0.1, 0.2);
  s->grace_max = random->Between(milliseconds(10), seconds(20));
  s->gap_max = random->Between(milliseconds(10), seconds(8));
  if (random->Chance(0.2)) s->poison = random->Between(100, 1000);
}

}  // namespace

Scenario DrawScenario(Random random) {
  Scenario s;
  DrawTraffic(&random, &s);
  DrawBackends(&random, &s);
  DrawSpool(&random, &s);
  DrawNeed(&random, &s);
  DrawTroubles(&random, &s);
  return s;
}

std::string Scenario::text() const {
  std::string out = fmt::format(
      "{:.0f} s of trouble; {:.0f} documents/s of {} to {} bytes, bursts up to {}; batches of {} "
      "or "
      "{:.2f} s, {} workers\n",
      Seconds(troubles), documents_per_second, size_min, size_max, burst_max, batch.documents,
      Seconds(batch.age), workers);
  for (const BackendPlan& b : backends) {
    out += fmt::format("{}: {} KiB, answers after {:.0f} ms, time-out {:.1f} s, concurrency {}\n",
                       b.name, b.share >> 10, Seconds(b.latency) * 1000,
                       Seconds(b.delivery.timeout), b.delivery.concurrency);
  }
  static constexpr const char* kFsync[] = {"never", "interval", "batch"};
  if (poison > 0) out += fmt::format("one document of {} is poison\n", poison);
  out += with_spool ? fmt::format("spool of {} KiB in files of {} KiB, {:.0f} s, fsync {}\n",
                                  spool.bytes_max >> 10, spool.file_bytes_max >> 10,
                                  Seconds(spool.age_max), kFsync[static_cast<int>(spool.fsync)])
                    : "no spool\n";
  out += fmt::format("moods {:.2f}/s, sick {:.0f} %:", moods, sick * 100);
  for (const Mood mood : sickness) out += fmt::format(" [{}]", MoodName(mood));
  out += fmt::format(
      "\nkills {:.2f} + {:.2f}, power cuts {:.2f} + {:.2f}, stops {:.2f}, take-overs {:.2f}, "
      "reloads "
      "{:.2f}, disk {:.2f}, damage {:.2f}, deletions {:.2f}, clock {:.2f}",
      kills, kills_at_disk, power_cuts, power_cuts_at_disk, stops, take_overs, reloads,
      disk_troubles, damages, deletions, clock_jumps);
  return out;
}

}  // namespace mobula::sim
