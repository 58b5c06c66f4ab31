// One run: agents, far sides and a disk under the troubles that a seed draws, then calm, in which everything must
// be delivered; at the end every document is accounted for.
//
// Room:   test.
// Errors: what a run finds wrong is in its Outcome.
// Limits: 3 million events.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/agent.h"
#include "tests/sim/scenario.h"

namespace mobula::sim {

struct Outcome {
  std::string failure;  // empty: all is well
  std::deque<std::string> lines;
  uint64_t digest = 0;
  uint64_t events = 0;
  Duration time{};  // virtual
  Books::Totals totals;
  uint64_t agents = 0;
};

class World {
 public:
  World(uint64_t seed, Scenario scenario, Telling telling);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Outcome Run();

 private:
  using DocumentOnDisk = std::pair<Key, uint64_t>;

  // --- sending
  void Tick();
  void Send(uint64_t count);
  Shape DrawShape();
  Agent* Receiver();

  // --- processes
  Agent* StartAgent();
  void StartLater();
  void Reap();
  void AfterCrash();
  void Bury(std::unique_ptr<Agent> agent);
  Backend MakeBackend(size_t plan);
  FarSide* FarSideOf(size_t plan, int generation);

  // --- troubles
  void Schedule(double per_second, void (World::*trouble)());
  void ChangeMood();
  void Kill();
  void KillAtDisk();
  void CutPower();
  void CutPowerAtDisk();
  void Stop();
  void TakeOver();
  void Reload();
  void AddAgain(size_t plan, Agent* agent, int number);
  void TroubleDisk();
  void MendDisk();
  void Damage();
  void DeleteSpool();
  void JumpClock();
  [[nodiscard]] Agent* AnyAgent();
  void CheckFair(const std::string& path);
  absl::Status OnDisk(FakeSpoolDisk::Operation operation, const std::string& path);
  Duration Grace() { return random_.Between(Duration::zero(), scenario_.grace_max); }

  [[nodiscard]] bool IsPoison(uint64_t number) const {
    return scenario_.poison > 0 && number < poison_until_ && number % scenario_.poison == 0;
  }

  // --- accounting
  void OnTake(Key key, uint64_t number);
  // How often each document is on disk to be delivered.
  std::map<DocumentOnDisk, int> LookAtDisk();
  // How many documents there are in it.
  uint64_t ExplainFile(const std::string& path, Why why);
  void ExcuseWhatIsLeft();
  // REQUIRES: no process lives. What is nowhere is lost, or, with `power_cut`, explained.
  void Reconcile(bool power_cut);
  void CheckEnd();

  // --- the run
  // False: `done` did not come true until `deadline`.
  bool RunUntil(Time deadline, const std::function<bool()>& done);
  void EndTroubles();
  void EndPoison();
  void DeliverTheRest();

  const Scenario scenario_;
  EventLoop loop_;
  Story story_;
  Books books_;
  FakeSpoolDisk disk_;
  std::string log_lines_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<SegmentScanner> scanner_;
  Surroundings surroundings_;
  Random random_;
  Random traffic_;
  Random disk_random_;

  std::vector<std::unique_ptr<FarSide>> far_sides_;
  std::map<std::pair<std::string, uint64_t>, Key> keys_;  // by backend and hash of identity
  std::vector<std::pair<size_t, int>> key_plans_;         // plan and generation of each key
  std::vector<int> generation_;                           // by plan, in the configuration
  std::vector<int> generations_;                          // by plan, made so far

  std::vector<std::unique_ptr<Agent>> agents_;
  int agents_made_ = 0;
  bool start_due_ = false;
  bool crashed_ = false;
  bool troubled_ = true;
  bool sending_ = true;
  uint64_t poison_until_ = UINT64_MAX;  // the first document after the last that may be poison
  double carry_ = 0;
  std::string text_;
  uint64_t spool_dropped_ = 0;

  std::set<std::string> growing_;  // files that somebody may append to
  // The disk's present trouble.
  uint64_t disk_trouble_ = 0;  // its number; 0: none
  uint64_t disk_troubles_made_ = 0;
  double disk_errors_ = 0;
  int disk_error_operation_ = -1;  // -1: any
  Duration disk_slow_{};
  FakeSpoolDisk::After after_cut_ = FakeSpoolDisk::After::kPowerCut;

  Time disturbed_at_ = EventLoop::kStart;
  Duration settle_{};
  Duration latency_max_{};
};

}  // namespace mobula::sim
