#include "tests/sim/world.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tests/sim/spool_files.h"

namespace mobula::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kTick = milliseconds(20);
constexpr uint64_t kEventsMax = 3'000'000;
constexpr uint64_t kAtOnceMax = 100'000;
constexpr Duration kRetryAfterMax = seconds(8);  // of the far sides here
constexpr Duration kGrace = seconds(20);
constexpr Duration kNeverExpires = std::chrono::hours(10);
constexpr Duration kPoisonPatience = seconds(300);
constexpr Duration kPoisonDelay = seconds(30);
constexpr double kCalmRate = 15;  // documents a second

}  // namespace

World::World(uint64_t seed, Scenario scenario, Telling telling)
    : scenario_(std::move(scenario)),
      story_(telling, &loop_),
      books_(&story_),
      log_(Log::ForTesting(&log_lines_)),
      scanner_(std::make_unique<SegmentScanner>(Validate::kJson)),
      random_(seed),
      traffic_(random_.Fork()),
      disk_random_(random_.Fork()) {
  surroundings_ = {&loop_,     &books_, &story_, &disk_, scanner_.get(),
                   log_.get(), {},      {},      0,      [this] { crashed_ = true; }};
  disk_.fault = [this](FakeSpoolDisk::Operation operation, const std::string& path) {
    return OnDisk(operation, path);
  };
  generation_.assign(scenario_.backends.size(), 0);
  generations_.assign(scenario_.backends.size(), 0);
  for (const BackendPlan& b : scenario_.backends) {
    // A call after several time-outs waits so long.
    settle_ = std::max(settle_, 4 * b.delivery.timeout + b.delivery.backoff_max);
    latency_max_ = std::max(latency_max_, 4 * b.latency);
  }
  settle_ += kRetryAfterMax + seconds(5);
  latency_max_ += scenario_.batch.age + seconds(2);
  // It takes memory while it waits: others may have to wait on disk.
  if (scenario_.poison > 0) latency_max_ += kPoisonDelay;
}

World::~World() = default;

Outcome World::Run() {
  story_.Tell("{}", scenario_.text());
  StartAgent();
  Tick();
  Schedule(scenario_.moods, &World::ChangeMood);
  Schedule(scenario_.kills, &World::Kill);
  Schedule(scenario_.kills_at_disk, &World::KillAtDisk);
  Schedule(scenario_.power_cuts, &World::CutPower);
  Schedule(scenario_.power_cuts_at_disk, &World::CutPowerAtDisk);
  Schedule(scenario_.stops, &World::Stop);
  Schedule(scenario_.take_overs, &World::TakeOver);
  Schedule(scenario_.reloads, &World::Reload);
  Schedule(scenario_.disk_troubles, &World::TroubleDisk);
  Schedule(scenario_.damages, &World::Damage);
  Schedule(scenario_.deletions, &World::DeleteSpool);
  Schedule(scenario_.clock_jumps, &World::JumpClock);
  RunUntil(loop_.now() + scenario_.troubles, [] { return false; });
  EndTroubles();
  RunUntil(loop_.now() + settle_ + scenario_.calm, [] { return false; });
  if (scenario_.poison > 0) EndPoison();
  sending_ = false;
  DeliverTheRest();
  CheckEnd();

  Outcome outcome;
  outcome.failure = story_.failure();
  outcome.lines = story_.lines();
  outcome.digest = story_.digest();
  outcome.events = loop_.events();
  outcome.time = loop_.now() - EventLoop::kStart;
  outcome.totals = books_.Sum();
  outcome.agents = static_cast<uint64_t>(agents_made_);
  return outcome;
}

bool World::RunUntil(Time deadline, const std::function<bool()>& done) {
  const auto late = std::make_shared<bool>(false);
  loop_.At(deadline, [late] { *late = true; });
  Time asked{};
  while (!story_.failed() && !*late) {
    if (loop_.now() - asked >= milliseconds(50)) {
      asked = loop_.now();
      if (done()) return true;
    }
    loop_.Step();
    Reap();
    if (loop_.events() > kEventsMax || loop_.events_at_once() > kAtOnceMax) {
      story_.Fail("events without end: {}, {} of them now", loop_.events(), loop_.events_at_once());
    }
  }
  return done();
}

// --- sending -------------------------------------------------------------------------------------------

void World::Tick() {
  if (!sending_) return;
  loop_.After(kTick, [this] { Tick(); });
  // Calm takes long and shows little.
  const double rate = troubled_ ? scenario_.documents_per_second
                                : std::min(kCalmRate, scenario_.documents_per_second);
  carry_ += rate * Seconds(kTick) * 2 * traffic_.Unit();
  auto count = static_cast<uint64_t>(carry_);
  carry_ -= static_cast<double>(count);
  if (troubled_ && traffic_.Chance(scenario_.bursts_per_second * Seconds(kTick))) {
    count += traffic_.Between(1, scenario_.burst_max);
    // What passes a quota goes behind what waits on disk; what passes the window waits its turn.
    if (count > 10 * scenario_.batch.documents) disturbed_at_ = loop_.now();
    for (const BackendPlan& b : scenario_.backends) {
      if (count * scenario_.size_max > b.share / 8) disturbed_at_ = loop_.now();
    }
  }
  Send(count);
}

void World::Send(uint64_t count) {
  for (; count > 0; --count) {
    Agent* const agent = Receiver();
    if (agent == nullptr) return;
    const uint64_t number = books_.NewDocument(DrawShape(), &text_);
    agent->Receive(traffic_.Between(0, scenario_.workers - 1), number, text_);
  }
}

Shape World::DrawShape() {
  Shape shape;
  const bool large = traffic_.Chance(scenario_.large);
  shape.size = static_cast<uint32_t>(
      traffic_.Between(scenario_.size_min, large ? 60'000 : scenario_.size_max));
  shape.service = static_cast<uint8_t>(traffic_.Between(0, 2));
  if (traffic_.Chance(scenario_.strange)) shape.style = static_cast<Style>(traffic_.Between(1, 5));
  return shape;
}

Agent* World::Receiver() {
  for (auto it = agents_.rbegin(); it != agents_.rend(); ++it) {
    if (!(*it)->dead() && !(*it)->stopping()) return it->get();
  }
  return nullptr;
}

// --- processes -----------------------------------------------------------------------------------------

FarSide* World::FarSideOf(size_t plan, int generation) {
  for (Key key = 0; key < far_sides_.size(); ++key) {
    if (key_plans_[key] == std::pair(plan, generation)) return far_sides_[key].get();
  }
  const auto key = static_cast<Key>(far_sides_.size());
  CHECK(key < 32);
  const std::string& backend = scenario_.backends[plan].name;
  const std::string identity = fmt::format("{}-v{}", backend, generation);
  far_sides_.push_back(
      std::make_unique<FarSide>(key, identity, &loop_, &books_, &story_, random_.Fork()));
  far_sides_.back()->is_poison = [this](uint64_t number) { return IsPoison(number); };
  far_sides_.back()->latency = scenario_.backends[plan].latency;
  far_sides_.back()->on_take = [this](Key k, uint64_t number) { OnTake(k, number); };
  key_plans_.emplace_back(plan, generation);
  keys_[{backend, IdentityHash(backend, identity)}] = key;
  return far_sides_.back().get();
}

Backend World::MakeBackend(size_t plan) {
  const BackendPlan& p = scenario_.backends[plan];
  FarSide* const far_side = FarSideOf(plan, generation_[plan]);
  return {p.name, far_side->name(), far_side, p.share, p.delivery};
}

Agent* World::StartAgent() {
  Agent::Options options;
  options.number = ++agents_made_;
  for (size_t plan = 0; plan < scenario_.backends.size(); ++plan) {
    options.backends.push_back(MakeBackend(plan));
  }
  options.routes = scenario_.routes;
  options.batch = scenario_.batch;
  options.workers = scenario_.workers;
  options.with_spool = scenario_.with_spool;
  options.spool = scenario_.spool;
  options.wake_max = scenario_.wake_max;
  options.seed = random_.Next();
  story_.Tell("agent {}: starts", options.number);
  agents_.push_back(std::make_unique<Agent>(std::move(options), &surroundings_));
  if (disk_trouble_ != 0) ++surroundings_.disk_faults;
  if (agents_.back()->DiedAtDisk()) crashed_ = true;
  return agents_.back().get();
}

void World::StartLater() {
  if (start_due_ || !sending_) return;
  start_due_ = true;
  loop_.After(random_.Between(Duration::zero(), scenario_.gap_max), [this] {
    start_due_ = false;
    if (sending_ && Receiver() == nullptr) StartAgent();
  });
}

void World::Reap() {
  if (std::exchange(crashed_, false)) AfterCrash();
  for (size_t i = 0; i < agents_.size();) {
    if (!agents_[i]->dead() && !agents_[i]->finished()) {
      ++i;
      continue;
    }
    std::unique_ptr<Agent> agent = std::move(agents_[i]);
    agents_.erase(agents_.begin() + static_cast<std::ptrdiff_t>(i));
    Bury(std::move(agent));
  }
}

void World::AfterCrash() {
  const bool power_cut = disk_.crashed();
  for (const auto& agent : agents_) {
    if (!agent->DiedAtDisk()) continue;
    story_.Tell("agent {}: dead{}", agent->options().number, power_cut ? " in the power cut" : "");
    agent->Die();
  }
  if (!power_cut) return;
  while (!agents_.empty()) {
    std::unique_ptr<Agent> agent = std::move(agents_.back());
    agents_.pop_back();
    spool_dropped_ += agent->spool_dropped();
  }
  disk_.Restart(after_cut_, disk_random_.Next());
  Reconcile(scenario_.spool.fsync != Spool::Fsync::kBatch);
  ExcuseWhatIsLeft();
  disturbed_at_ = loop_.now();
  StartLater();
}

void World::Bury(std::unique_ptr<Agent> agent) {
  const uint64_t dropped = agent->spool_dropped();
  spool_dropped_ += dropped;
  const bool marks_unsure = agent->saw_faults() || agent->died_at_change();
  const bool ended = agent->finished();
  const int number = agent->options().number;
  agent.reset();
  story_.Tell("agent {}: {}, its spool gave up {} documents", number, ended ? "ended" : "killed",
              dropped);
  if (disk_.crashed()) crashed_ = true;  // in its last sync
  // A mark that was not written, or half of it, marks nothing.
  if (marks_unsure) ExcuseWhatIsLeft();
  if (agents_.empty() && !crashed_) Reconcile(false);
  disturbed_at_ = loop_.now();
  if (Receiver() == nullptr) StartLater();
}

// --- troubles ------------------------------------------------------------------------------------------

void World::Schedule(double per_second, void (World::*trouble)()) {
  if (per_second <= 0) return;
  const double wait = -std::log(1 - random_.Unit()) / per_second;
  loop_.After(Duration(static_cast<int64_t>(std::min(wait, 1e6) * 1e9)),
              [this, per_second, trouble] {
                if (!troubled_) return;
                disturbed_at_ = loop_.now();
                (this->*trouble)();
                Schedule(per_second, trouble);
              });
}

Agent* World::AnyAgent() {
  std::vector<Agent*> living;
  for (const auto& agent : agents_) {
    if (!agent->dead() && !agent->finished()) living.push_back(agent.get());
  }
  return living.empty() ? nullptr : random_.Pick(living);
}

void World::ChangeMood() {
  FarSide* const far_side = far_sides_[random_.Between(0, far_sides_.size() - 1)].get();
  far_side->Set(random_.Chance(scenario_.sick) ? random_.Pick(scenario_.sickness) : Mood::kOk);
}

void World::Kill() {
  Agent* const agent = AnyAgent();
  if (agent == nullptr) return;
  story_.Tell("agent {}: kill -9", agent->options().number);
  agent->Die();
}

void World::KillAtDisk() {
  if (Agent* const agent = AnyAgent()) agent->DieAtChange(random_.Between(1, 60));
}

void World::CutPower() {
  after_cut_ = random_.Chance(0.5) ? FakeSpoolDisk::After::kPowerCut : FakeSpoolDisk::After::kTorn;
  story_.Tell("the power is cut");
  disk_.Crash();
  crashed_ = true;
}

void World::CutPowerAtDisk() {
  after_cut_ = random_.Chance(0.5) ? FakeSpoolDisk::After::kPowerCut : FakeSpoolDisk::After::kTorn;
  disk_.CrashAt(random_.Between(1, 60));
}

void World::Stop() {
  Agent* const agent = Receiver();
  if (agent != nullptr) agent->Stop(Grace());
}

void World::TakeOver() {
  Agent* const agent = Receiver();
  if (agent == nullptr || agents_.size() > 3) return;
  story_.Tell("agent {}: is taken over", agent->options().number);
  StartAgent();
  agent->Stop(Grace());
}

void World::Reload() {
  Agent* const agent = Receiver();
  if (agent == nullptr || agent->reloading() || far_sides_.size() > 24) return;
  const size_t plan = random_.Between(0, scenario_.backends.size() - 1);
  const std::string& name = scenario_.backends[plan].name;
  const bool there = std::any_of(agent->lanes().begin(), agent->lanes().end(),
                                 [&](const auto& lane) { return lane->backend().name == name; });
  if (!there) return;
  // Another identity, one that was before, or the same again.
  if (random_.Chance(0.5)) ++generations_[plan];
  generation_[plan] =
      static_cast<int>(random_.Between(0, static_cast<uint64_t>(generations_[plan])));
  agent->Remove(name, random_.Between(Duration::zero(), seconds(3)));
  AddAgain(plan, agent, agent->options().number);
}

void World::AddAgain(size_t plan, Agent* agent, int number) {
  loop_.After(random_.Between(milliseconds(1), seconds(1)), [this, plan, agent, number] {
    const bool there = std::any_of(agents_.begin(), agents_.end(), [&](const auto& a) {
      return a.get() == agent && a->options().number == number && !a->dead() && !a->stopping();
    });
    if (!there) return;
    disturbed_at_ = loop_.now();
    if (agent->reloading()) return AddAgain(plan, agent, number);
    agent->Add(MakeBackend(plan));
  });
}

void World::TroubleDisk() {
  if (disk_trouble_ != 0) return;
  disk_trouble_ = ++disk_troubles_made_;
  ++surroundings_.disk_faults;
  std::string what;
  switch (random_.Between(0, 4)) {
    case 0: {
      uint64_t used = 0;
      for (const std::string& path : disk_.Paths()) used += disk_.Bytes(path)->size();
      disk_.capacity = used + random_.Between(0, 100'000);
      what = "full";
      break;
    }
    case 1:
      disk_.read_only = true;
      what = "read-only";
      break;
    case 2:
      disk_errors_ = random_.Unit();
      what = fmt::format("errors {:.2f}", disk_errors_);
      break;
    case 3:
      disk_errors_ = random_.Unit();
      disk_error_operation_ = static_cast<int>(
          random_.Between(0, static_cast<uint64_t>(FakeSpoolDisk::Operation::kLock)));
      what = fmt::format("errors {:.2f} of operation {}", disk_errors_, disk_error_operation_);
      break;
    default:
      disk_slow_ = random_.Between(milliseconds(1), milliseconds(500));
      what = fmt::format("slow, {:.3f} s", Seconds(disk_slow_));
      break;
  }
  story_.Tell("the disk: {}", what);
  loop_.After(random_.Between(milliseconds(100), seconds(15)), [this, number = disk_trouble_] {
    if (disk_trouble_ == number) MendDisk();
  });
}

void World::MendDisk() {
  if (disk_trouble_ == 0) return;
  story_.Tell("the disk: well");
  disk_trouble_ = 0;
  disk_.capacity = UINT64_MAX;
  disk_.read_only = false;
  disk_errors_ = 0;
  disk_error_operation_ = -1;
  disk_slow_ = {};
  disturbed_at_ = loop_.now();
}

absl::Status World::OnDisk(FakeSpoolDisk::Operation operation, const std::string& path) {
  if (disk_slow_ > Duration::zero()) {
    surroundings_.disk_delay += disk_random_.Between(Duration::zero(), disk_slow_);
  }
  if (disk_errors_ > 0 &&
      (disk_error_operation_ < 0 || disk_error_operation_ == static_cast<int>(operation)) &&
      disk_random_.Chance(disk_errors_)) {
    ++surroundings_.disk_faults;
    return absl::InternalError(path + ": input/output error");
  }
  if (operation == FakeSpoolDisk::Operation::kCreate) {
    // One file of a backend grows at a time.
    const auto kind = [](std::string_view p) {
      return std::pair(p.substr(0, p.rfind('/')), p.substr(p.rfind('-')));
    };
    std::erase_if(growing_, [&](const std::string& other) { return kind(other) == kind(path); });
    growing_.insert(path);
  }
  if (operation == FakeSpoolDisk::Operation::kRemove) {
    const uint64_t documents = ExplainFile(path, path.ends_with(".spool") ? kForgotten : kSetAside);
    if (documents > 0) {
      story_.Tell("{} goes with {} documents", path, documents);
      if (path.ends_with(".spool")) CheckFair(path);
    }
  }
  return absl::OkStatus();
}

// Who holds most loses a file first.
void World::CheckFair(const std::string& path) {
  if (surroundings_.disk_faults > 0 || scenario_.spool.age_max < kNeverExpires) return;
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  std::map<std::string, uint64_t> bytes;
  for (const std::string& other : disk_.Paths()) {
    if (other.starts_with(folder) && other.ends_with(".spool")) {
      bytes[other.substr(other.rfind('-'))] += disk_.Bytes(other)->size();
    }
  }
  for (const auto& [backend, sum] : bytes) {
    const uint64_t own = bytes[path.substr(path.rfind('-'))];
    if (sum > own) {
      story_.Fail("{} goes, of a backend that has {} bytes, while another has {}", path, own, sum);
    }
  }
}

void World::Damage() {
  std::vector<std::string> paths;
  for (std::string& path : disk_.Paths()) {
    // What is appended to a file whose header is gone would be lost without a trace.
    const bool growing = !agents_.empty() && growing_.count(path) != 0;
    if (path.ends_with(".spool") && !growing && disk_.Bytes(path)->size() > 1) {
      paths.push_back(std::move(path));
    }
  }
  if (paths.empty()) return;
  const std::string path = random_.Pick(paths);
  std::string* const bytes = disk_.Bytes(path);
  story_.Tell("{} is damaged", path);
  ++surroundings_.disk_faults;
  ExplainFile(path, kDiskLost);
  if (random_.Chance(0.2)) {
    bytes->resize(random_.Between(0, bytes->size() - 1));
    return;
  }
  for (uint64_t n = random_.Between(1, 5); n > 0; --n) {
    const uint64_t at = random_.Between(0, bytes->size() - 1);
    for (uint64_t i = at; i < std::min<uint64_t>(bytes->size(), at + random_.Between(1, 20)); ++i) {
      (*bytes)[i] = static_cast<char>((*bytes)[i] ^ static_cast<char>(1U << random_.Between(0, 7)));
    }
  }
}

void World::DeleteSpool() {
  story_.Tell("somebody deletes the spool's directory");
  ++surroundings_.disk_faults;
  for (const std::string& path : disk_.Paths()) ExplainFile(path, kDiskLost);
  disk_.Delete(scenario_.spool.path);
  for (const auto& agent : agents_) agent->Housekeep();
}

void World::JumpClock() {
  const Duration by = random_.Between(seconds(0), seconds(random_.Chance(0.5) ? 5 : 4000));
  const bool back = random_.Chance(0.5);
  story_.Tell("the calendar jumps {:.1f} s {}", Seconds(by), back ? "back" : "on");
  loop_.JumpWall(back ? -by : by);
}

// --- accounting ----------------------------------------------------------------------------------------

void World::OnTake(Key key, uint64_t number) {
  const Time healthy = far_sides_[key]->healthy_since();
  const Time accepted = books_.accepted(number);
  if (healthy == kTimeNever ||
      accepted < std::max({healthy, disturbed_at_, surroundings_.disk_busy_until}) + settle_)
    return;
  // What shares a batch with poison is late; what comes after the last of it is not to wait for that.
  if (scenario_.poison > 0 && number < poison_until_) return;
  const Duration took = loop_.now() - accepted;
  if (took <= latency_max_) return;
  story_.Fail("document {} took {:.2f} s to far side {}, which had been well for {:.1f} s", number,
              Seconds(took), far_sides_[key]->name(), Seconds(accepted - healthy));
}

std::map<World::DocumentOnDisk, int> World::LookAtDisk() {
  std::map<DocumentOnDisk, int> found;
  for (const std::string& path : disk_.Paths()) {
    const std::optional<SpoolFileContent> content = ReadSpoolFile(*disk_.Bytes(path));
    if (!content.has_value()) continue;
    const auto key = keys_.find({content->backend, content->identity});
    if (key == keys_.end()) continue;
    for (const uint64_t number : content->remaining) {
      if (books_.Expected(key->second, number)) {
        ++found[{key->second, number}];
      } else {
        story_.Fail("{} holds document {}, which is not for it", path, number);
      }
    }
  }
  return found;
}

uint64_t World::ExplainFile(const std::string& path, Why why) {
  const std::string* const bytes = disk_.Bytes(path);
  const std::optional<SpoolFileContent> content =
      bytes == nullptr ? std::nullopt : ReadSpoolFile(*bytes);
  if (!content.has_value()) return 0;
  const auto key = keys_.find({content->backend, content->identity});
  if (key == keys_.end()) return 0;
  for (const uint64_t number : content->remaining) {
    if (books_.Expected(key->second, number)) books_.Explain(key->second, number, why);
  }
  return content->remaining.size();
}

void World::ExcuseWhatIsLeft() {
  for (const auto& [document, times] : LookAtDisk()) {
    const auto& [key, number] = document;
    for (int i = books_.Taken(key, number) ? 0 : 1; i < times; ++i) books_.Excuse(key, number);
  }
}

void World::Reconcile(bool power_cut) {
  const std::map<DocumentOnDisk, int> found = LookAtDisk();
  std::vector<DocumentOnDisk> lost;
  books_.ForEachMissing([&](Key key, uint64_t number) {
    if (found.count({key, number}) == 0) lost.emplace_back(key, number);
  });
  for (const auto& [key, number] : lost) {
    if (power_cut) {
      books_.Explain(key, number, kPowerCut);
    } else {
      story_.Fail("document {} for {} is lost: neither taken, dropped, in memory nor on disk",
                  number, far_sides_[key]->name());
    }
  }
}

// --- the end -------------------------------------------------------------------------------------------

void World::EndTroubles() {
  story_.Tell("the troubles are over");
  troubled_ = false;
  disk_.CrashAt(0);
  for (const auto& agent : agents_) agent->DieAtChange(0);
  MendDisk();
  for (const auto& far_side : far_sides_) {
    if (far_side->mood() != Mood::kOk) far_side->Set(Mood::kOk);
  }
  disturbed_at_ = loop_.now();
  poison_until_ = books_.Sum().documents;
}

// Beside others that pass, each is found and given up.
void World::EndPoison() {
  uint64_t left = 0;
  const auto given_up = [&] {
    left = 0;
    books_.ForEachMissing([&](Key key, uint64_t number) {
      const auto [plan, generation] = key_plans_[key];
      // With room for one batch, it goes to disk for each that comes, and is judged anew.
      const bool room = scenario_.backends[plan].share >= 4 * BlockPool::kBlockBytesMax;
      if (IsPoison(number) && generation == generation_[plan] && room) ++left;
    });
    return left == 0;
  };
  // A file that could not be read is left alone until the next start.
  if (!RunUntil(loop_.now() + kPoisonPatience, given_up) && surroundings_.disk_faults == 0) {
    story_.Fail("{} documents that no far side can bear are not given up", left);
  }
  poison_until_ = 0;
}

void World::DeliverTheRest() {
  uint64_t left = 0;
  books_.ForEachMissing([&](Key, uint64_t) { ++left; });
  const Duration patience = seconds(120) + milliseconds(150) * left;
  if (Receiver() == nullptr) StartAgent();
  const auto deliver = [&] {
    const auto idle = [this] { return agents_.size() == 1 && agents_[0]->empty(); };
    if (!RunUntil(loop_.now() + patience, idle)) {
      std::string who;
      for (const auto& agent : agents_) who += agent->text();
      return story_.Fail("not everything was delivered within {:.0f} s: {}", Seconds(patience),
                         who);
    }
    agents_[0]->Stop(kGrace);
    if (!RunUntil(loop_.now() + kGrace + seconds(5), [this] { return agents_.empty(); })) {
      story_.Fail("agent {} does not end", agents_[0]->options().number);
    }
  };
  deliver();
  // What was spooled for a backend as it was before.
  const int most = *std::max_element(generations_.begin(), generations_.end());
  for (int generation = 0; generation <= most && !story_.failed(); ++generation) {
    for (size_t plan = 0; plan < generation_.size(); ++plan) {
      generation_[plan] = std::min(generation, generations_[plan]);
    }
    if (LookAtDisk().empty()) break;
    if (Receiver() == nullptr) StartAgent();
    deliver();
  }
}

void World::CheckEnd() {
  if (story_.failed()) return;
  for (const std::string& path : disk_.Paths()) {
    if (path.ends_with(".damaged")) ExplainFile(path, kSetAside);
    // One that could not be renamed is left alone by that process.
    if (path.ends_with(".spool") && surroundings_.disk_faults == 0) {
      story_.Fail("{} is left", path);
    }
  }
  books_.ForEachMissing([&](Key key, uint64_t number) {
    story_.Fail("document {} never came to {}, for no reason", number, far_sides_[key]->name());
  });
  const Books::Totals totals = books_.Sum();
  // What cannot be read cannot be counted.
  if (totals.why[5] > spool_dropped_ && surroundings_.disk_faults == 0) {
    story_.Fail("{} documents went with files of the spool, which tells of {}", totals.why[5],
                spool_dropped_);
  }
  story_.Tell(
      "{} documents, {} of {} arrived, {} twice; lost: {} dropped, {} in memory, {} power cut, "
      "{} disk, {} set aside, {} spool",
      totals.documents, totals.arrived, totals.expected, totals.twice, totals.why[0], totals.why[1],
      totals.why[2], totals.why[3], totals.why[4], totals.why[5]);
}

}  // namespace mobula::sim
