#include "tests/sim/agent.h"

#include <algorithm>
#include <utility>

#include "backends/xray/answer.h"
#include "backends/xray/request_body.h"
#include "backends/xray/unprocessed.h"
#include "engine/app/lane_report.h"

namespace mobula::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kBeat = seconds(1);
constexpr int kTurnsMax = 10'000;          // of one pump
constexpr uint64_t kIdleTurnsMax = 2'000;  // a second, without news from anybody
constexpr size_t kProducersMax = 8;

}  // namespace

// --- the lane ------------------------------------------------------------------------------------------

// The shares are those of engine/app/agent.cc.
VirtualLane::VirtualLane(Agent* agent, Backend backend, SpoolLane* spool)
    : agent_(agent),
      world_(agent->world()),
      backend_(std::move(backend)),
      name_(fmt::format("{} of agent {}", backend_.name, agent->options().number)),
      spool_(spool),
      inbox_(&account_, backend_.share * 3 / 4, backend_.share / BlockPool::kPageBytes,
             kProducersMax),
      delivery_(backend_.delivery, &account_),
      pushed_(agent->options().workers) {
  for (size_t i = 0; i < pushed_.size(); ++i) producers_.push_back(inbox_.MakeProducer());
  if (spool_ != nullptr) keeper_.emplace(spool_, agent->pool());
}

void VirtualLane::Begin() {
  inbox_.set_notify(
      [this] { Wake(agent_->random().Between(Duration::zero(), agent_->options().wake_max)); });
  Beat();
}

void VirtualLane::Beat() {
  if (finished_ || agent_->dead()) return;
  world_->loop->After(kBeat, [weak = weak_from_this()] {
    if (const auto lane = weak.lock()) lane->Beat();
  });
  if (keeper_.has_value()) Wake(Duration::zero());
}

bool VirtualLane::empty() const {
  return delivery_.idle() && answers_.empty() && account_.held.value() == 0 &&
         (spool_ == nullptr || (!spool_->waiting() && spool_->account().held.value() == 0));
}

std::string VirtualLane::text() const {
  return fmt::format("{} holds {}, {} calls, spool {} {}", backend_.name, account_.held.value(),
                     delivery_.calls_in_flight(),
                     spool_ == nullptr ? 0 : spool_->account().held.value(),
                     spool_ != nullptr && spool_->waiting() ? "waits" : "empty");
}

void VirtualLane::Push(size_t worker, BatchRef batch, const std::vector<uint64_t>& documents) {
  pushed_[worker].push_back({++serial_, documents});
  pushed_by_[documents.front()] = worker;
  inbox_.Push(&producers_[worker], std::move(batch));
}

void VirtualLane::Lose(const std::vector<uint64_t>& documents) {
  inbox_.Lose(documents.size());
  dropped_ += documents.size();
  Explain(documents, kDropped);
}

BatchRef VirtualLane::Pop() {
  BatchRef batch = inbox_.Pop();
  if (!batch) {
    for (size_t worker = 0; worker < pushed_.size(); ++worker) {
      NoteLostInInbox(worker, UINT64_MAX);
    }
    return batch;
  }
  const uint64_t first = NumberOf(batch->document(0)).value_or(UINT64_MAX);
  const auto found = pushed_by_.find(first);
  if (found == pushed_by_.end()) {
    world_->story->Fail("{} popped a batch that nobody pushed", name_);
    return batch;
  }
  const size_t worker = found->second;
  pushed_by_.erase(found);
  for (size_t i = 0; i < pushed_[worker].size(); ++i) {
    if (pushed_[worker][i].documents.front() != first) continue;
    NoteLostInInbox(worker, pushed_[worker][i].serial);
    pushed_[worker].pop_front();
    return batch;
  }
  return batch;
}

void VirtualLane::NoteLostInInbox(size_t worker, uint64_t before_serial) {
  std::deque<Pushed>& pushed = pushed_[worker];
  while (!pushed.empty() && pushed.front().serial < before_serial) {
    dropped_ += pushed.front().documents.size();
    world_->story->Tell("{}: the inbox was full, {} documents went", name_,
                        pushed.front().documents.size());
    Explain(pushed.front().documents, kDropped);
    pushed_by_.erase(pushed.front().documents.front());
    pushed.pop_front();
  }
}

void VirtualLane::Wake(Duration after) {
  const Time at = std::max(world_->loop->now() + after, busy_until_);
  if (wake_at_ <= at) return;
  wake_at_ = at;
  world_->loop->At(at, [weak = weak_from_this(), number = ++wake_number_] {
    const auto lane = weak.lock();
    if (lane == nullptr || number != lane->wake_number_) return;
    lane->wake_at_ = kTimeNever;
    lane->Pump();
  });
}

void VirtualLane::Pump() {
  if (finished_ || agent_->dead()) return;
  const Time now = world_->loop->now();
  bool moved = true;
  bool news = false;
  int turns = 0;
  while (moved && now < drain_deadline_ && busy_until_ <= now) {
    DeliveryActions actions;
    if (keeper_.has_value()) keeper_->Tell(&delivery_);
    while (BatchRef batch = Pop()) {
      news = true;
      delivery_.OnBatch(std::move(batch), now, &actions);
      if (!actions.empty()) break;
    }
    std::vector<OpenCall> answered;
    for (const Answer& answer : std::exchange(answers_, {})) {
      news = true;
      if (const auto call = calls_.find(answer.id); call != calls_.end()) {
        Process(answer);
        answered.push_back(std::move(call->second));
        calls_.erase(call);
      }
      delivery_.OnResult(answer.id, answer.result, now, &actions);
    }
    delivery_.OnTimer(now, &actions);
    moved = !actions.empty();
    if (!Keep(&actions)) {
      // What was answered may not have been noted.
      for (const OpenCall& call : answered) Excuse(call);
      world_->crashed();
      return;
    }
    Execute(std::move(actions));
    // A call may have been decided on before the answer was read.
    quiet_until_ = quiet_next_;
    moved |= !answers_.empty();
    if (++turns > kTurnsMax) {
      return world_->story->Fail("{} turns for ever at one time", name_);
    }
  }
  if (world_->story->failed()) return;
  if (busy_until_ > now) {
    Wake(Duration::zero());
    return;
  }
  CheckAtRest();
  if (draining() && (delivery_.idle() || now >= drain_deadline_)) {
    Finish();
    return;
  }
  const Time timer = delivery_.next_timer();
  if (timer <= now) {
    world_->story->Fail("{} wants to get up at once, and has nothing to do: {} {} {}", name_,
                        delivery_.failing(), text(), account_.held_bytes.value());
  }
  if (!news && turns > 1) {
    if (now - turns_since_ > seconds(1)) turns_ = 0, turns_since_ = now;
    turns_ += static_cast<uint64_t>(turns);
    if (turns_ > kIdleTurnsMax) {
      world_->story->Fail("{} gets up {} times a second for nothing", name_, turns_);
    }
  }
  const Time at = std::min(timer, drain_deadline_);
  if (at != kTimeNever) Wake(at - now);
}

bool VirtualLane::Keep(DeliveryActions* actions) {
  if (!keeper_.has_value() || actions->spool_empty()) return true;
  const Time now = world_->loop->now();
  world_->disk_delay = Duration::zero();
  keeper_->Execute(&delivery_, now, world_->loop->wall(), actions, [] { return true; });
  if (world_->disk_delay > Duration::zero()) {
    busy_until_ = std::max(now, world_->disk_busy_until) + world_->disk_delay;
    world_->disk_busy_until = busy_until_;
  }
  if (!agent_->DiedAtDisk()) return true;
  for (const DeliveryActions::Drop& drop : actions->drops) {
    Explain(Numbers(*drop.batch, drop.documents), kInMemory);
  }
  return false;
}

void VirtualLane::Execute(DeliveryActions actions) {
  for (const DeliveryActions::Drop& drop : actions.drops) NoteDrop(drop);
  for (const DeliveryActions::Call& call : actions.calls) Export(call);
}

void VirtualLane::NoteDrop(const DeliveryActions::Drop& drop) {
  const std::vector<uint64_t> documents = Numbers(*drop.batch, drop.documents);
  const Key key = backend_.far_side->key();
  dropped_ += documents.size();
  world_->story->Tell("{}: {} documents dropped: {}", name_, documents.size(),
                      DropReasonName(drop.reason));
  Explain(documents, kDropped);
  const bool refused = drop.reason == DropReason::kRefused;
  if (refused || drop.reason == DropReason::kTooLarge) {
    const Said said = refused ? kSaidRefused : kSaidTooLarge;
    for (const uint64_t number : documents) {
      if (world_->books->WasSaid(key, number, said)) continue;
      world_->story->Fail("{} dropped document {} as {}, which nobody said", name_, number,
                          DropReasonName(drop.reason));
    }
  } else if (spool_ != nullptr && !agent_->saw_faults()) {
    world_->story->Fail("{} dropped {} documents as {} beside a sound spool", name_,
                        documents.size(), DropReasonName(drop.reason));
  }
}

// As XrayExporter::Export.
void VirtualLane::Export(const DeliveryActions::Call& call) {
  const Time now = world_->loop->now();
  const SystemTime wall = world_->loop->wall();
  if (now < quiet_until_ && !draining()) {
    world_->story->Fail("{} calls although it was asked to wait {:.1f} s more", name_,
                        Seconds(quiet_until_ - now));
  }
  const RequestBody body = BuildRequestBody(*call.batch, call.documents, agent_->pool());
  if (body.outcome != RequestBody::Outcome::kBuilt) {
    const bool large = body.outcome == RequestBody::Outcome::kTooLarge;
    Answer answer{call.id, {}, std::nullopt};
    answer.result.verdict = large ? Verdict::kTooLarge : Verdict::kRetry;
    answer.result.code = large ? "too_large" : "no_memory";
    answer.result.taken = large ? body.taken : call.documents;
    if (large) {
      for (const uint64_t number : Numbers(*call.batch, body.taken)) {
        world_->books->Say(backend_.far_side->key(), number, kSaidTooLarge);
      }
    }
    answers_.push_back(std::move(answer));
    return;
  }
  OpenCall open{call.batch.get(), body.taken, Numbers(*call.batch, body.taken), body.block, wall};
  if (world_->story->failed()) return ReleaseBody(&open);
  size_t i = 0;
  ForEach(body.taken, [&](size_t index) {
    const DocumentKind kind = KindOf(world_->books->shape(open.documents[i++]).style);
    if (call.batch->entry(index).kind == kind) return;
    world_->story->Fail("{} sends document {} as another kind", name_, open.documents[i - 1]);
  });
  world_->story->Tell("{}: call {} of {} documents, attempt {}", name_, call.id,
                      open.documents.size(), call.attempt);
  calls_.emplace(call.id, std::move(open));
  backend_.far_side->Serve(body.text(), call.deadline,
                           [weak = weak_from_this(), id = call.id](const Reply& reply) {
                             if (const auto lane = weak.lock()) lane->OnReply(id, reply);
                           });
  world_->loop->At(call.deadline, [weak = weak_from_this(), id = call.id] {
    if (const auto lane = weak.lock()) lane->OnDeadline(id);
  });
}

// As XrayExporter::OnAnswer.
void VirtualLane::OnReply(CallId id, const Reply& reply) {
  const auto found = calls_.find(id);
  if (found == calls_.end() || found->second.answered || agent_->dead()) return;
  OpenCall& call = found->second;
  XrayAnswer answer = JudgeAnswer(reply.response, call.signed_at);
  answer.result.taken = call.taken;
  answer.result.http_status = reply.response.status;
  if (answer.result.verdict == Verdict::kDelivered && !answer.unprocessed.empty()) {
    JoinUnprocessed(*call.batch, call.taken, &answer, [](const auto&, const auto*) {});
  }
  ReleaseBody(&call);
  answers_.push_back({id, std::move(answer.result), reply});
  Wake(Duration::zero());
}

void VirtualLane::OnDeadline(CallId id) {
  const auto found = calls_.find(id);
  if (found == calls_.end() || found->second.answered || agent_->dead()) return;
  HttpResponse nothing;
  nothing.transport = absl::DeadlineExceededError("no answer in time");
  nothing.fault = "timeout";
  XrayAnswer answer = JudgeAnswer(nothing, found->second.signed_at);
  answer.result.taken = found->second.taken;
  ReleaseBody(&found->second);
  answers_.push_back({id, std::move(answer.result), std::nullopt});
  Wake(Duration::zero());
}

void VirtualLane::ReleaseBody(OpenCall* call) {
  call->answered = true;
  if (call->body) agent_->pool()->Release(std::exchange(call->body, {}));
}

// What the far side knows of a call, for the books.
void VirtualLane::Process(const Answer& answer) {
  const OpenCall& call = calls_.at(answer.id);
  world_->story->Tell("{}: call {}: {}", name_, answer.id,
                      answer.result.code.empty() ? "answered" : answer.result.code);
  if (!answer.reply.has_value() || !answer.reply->clear) return Excuse(call);
  const Reply& reply = *answer.reply;
  const Key key = backend_.far_side->key();
  for (size_t i = 0; i < call.documents.size(); ++i) {
    if (reply.fates[i] == Fate::kTaken) ++delivered_;
    if (reply.fates[i] == Fate::kTakenInDoubt) world_->books->Excuse(key, call.documents[i]);
    if (reply.fates[i] == Fate::kRefused) {
      world_->books->Say(key, call.documents[i], kSaidRefused);
    }
  }
  if (reply.poisoned && call.documents.size() == 1) {
    world_->books->Say(key, call.documents[0], kSaidRefused);
  }
  if (reply.too_large && call.documents.size() == 1) {
    world_->books->Say(key, call.documents[0], kSaidTooLarge);
  }
  if (reply.quiet > Duration::zero()) {
    // A date has whole seconds.
    quiet_next_ = std::max(quiet_next_, world_->loop->now() + reply.quiet - seconds(1));
  }
}

void VirtualLane::Drain(Time deadline) {
  drain_deadline_ = deadline;
  DeliveryActions actions;
  delivery_.OnDrain(world_->loop->now(), &actions);
  if (!Keep(&actions)) return world_->crashed();
  Execute(std::move(actions));
  Wake(Duration::zero());
}

// As Lane::Finish.
void VirtualLane::Finish() {
  const Time now = world_->loop->now();
  DeliveryActions actions;
  while (BatchRef batch = Pop()) delivery_.OnBatch(std::move(batch), now, &actions);
  actions.calls.clear();
  delivery_.Abandon(&actions);
  for (auto& [id, call] : calls_) {
    Excuse(call);
    ReleaseBody(&call);
  }
  answers_.clear();
  if (!Keep(&actions)) return world_->crashed();
  Execute(std::move(actions));
  DeliveryActions late;
  for (const auto& [id, call] : calls_) {
    delivery_.OnResult(id, {}, now, &late);
    if (!late.empty() || !delivery_.idle()) {
      return world_->story->Fail("{} acts on an answer to an abandoned call", name_);
    }
  }
  calls_.clear();
  finished_ = true;
  CheckAtRest();
  if (account_.held.value() != 0 || account_.held_bytes.value() != 0 || !delivery_.idle()) {
    world_->story->Fail("{} ended and holds {} documents in {} bytes", name_, account_.held.value(),
                        account_.held_bytes.value());
  }
  world_->story->Tell("{}: finished", name_);
  agent_->NoteFinished();
}

void VirtualLane::Die() {
  if (finished_) return;
  while (const BatchRef batch = Pop()) Explain(Numbers(*batch, batch->all()), kInMemory);
  // The shortest way to what it holds.
  DeliveryActions actions;
  delivery_.Abandon(&actions);
  for (const auto& spill : actions.spills)
    Explain(Numbers(*spill.batch, spill.documents), kInMemory);
  for (const auto& drop : actions.drops) Explain(Numbers(*drop.batch, drop.documents), kInMemory);
  lent_at_death_ = actions.returns.size() * Batch::kDocumentsMax;
  for (auto& [id, call] : calls_) {
    Excuse(call);
    ReleaseBody(&call);
  }
  calls_.clear();
  finished_ = true;
}

void VirtualLane::CheckAtRest() {
  if (std::any_of(pushed_.begin(), pushed_.end(), [](const auto& p) { return !p.empty(); })) return;
  const LaneAccount& a = account_;
  Story* const story = world_->story;
  uint64_t restored = 0;
  uint64_t spooled = 0;
  uint64_t dropped = a.dropped_total();
  if (spool_ != nullptr) {
    const SpoolAccount& s = spool_->account();
    restored = s.restored.value();
    spooled = s.held.value();
    dropped += s.dropped_total();
    if (s.appended.value() + restored != s.done.value() + s.dropped_total() + spooled) {
      story->Fail("spool of {}: {} appended + {} restored are not {} done + {} dropped + {} held",
                  backend_.name, s.appended.value(), restored, s.done.value(), s.dropped_total(),
                  spooled);
    }
  }
  if (a.entered.value() + restored != a.delivered.value() + dropped + a.held.value() + spooled) {
    story->Fail(
        "{}: {} entered + {} restored are not {} delivered + {} dropped + {} held + "
        "{} on disk",
        name_, a.entered.value(), restored, a.delivered.value(), dropped, a.held.value(), spooled);
  }
  if (a.held.value() != delivery_.CountHeld()) {
    story->Fail("{} says it holds {} documents and holds {}", name_, a.held.value(),
                delivery_.CountHeld());
  }
  if (a.delivered.value() != delivered_) {
    story->Fail("{} counts {} delivered, the far side told it of {}", name_, a.delivered.value(),
                delivered_);
  }
  if (a.dropped_total() != dropped_) {
    story->Fail("{} counts {} dropped, of {} it told", name_, a.dropped_total(), dropped_);
  }
  // One frame may come when nothing else is in the way.
  if (a.held_bytes.value() > backend_.delivery.quota + BlockPool::kBlockBytesMax) {
    story->Fail("{} holds {} bytes of a quota of {}", name_, a.held_bytes.value(),
                backend_.delivery.quota);
  }
  const auto most =
      static_cast<size_t>(backend_.delivery.concurrency > 0 ? backend_.delivery.concurrency
                                                            : Delivery::kConcurrencyMax);
  if (delivery_.calls_in_flight() > most) {
    story->Fail("{} has {} calls in flight of {}", name_, delivery_.calls_in_flight(), most);
  }
}

void VirtualLane::Explain(const std::vector<uint64_t>& documents, Why why) {
  for (const uint64_t number : documents) {
    world_->books->Explain(backend_.far_side->key(), number, why);
  }
}

void VirtualLane::Excuse(const OpenCall& call) {
  for (const uint64_t number : call.documents) {
    world_->books->Excuse(backend_.far_side->key(), number);
  }
}

std::vector<uint64_t> VirtualLane::Numbers(const Batch& batch, DocumentSet documents) const {
  std::vector<uint64_t> numbers;
  numbers.reserve(static_cast<size_t>(Count(documents)));
  ForEach(documents, [&](size_t i) {
    const std::optional<uint64_t> number = NumberOf(batch.document(i));
    if (number.has_value() && world_->books->Expected(backend_.far_side->key(), *number)) {
      numbers.push_back(*number);
    } else {
      world_->story->Fail("{} has a document that is none of its own: {}", name_,
                          batch.document(i).substr(0, 80));
    }
  });
  return numbers;
}

// --- the process ---------------------------------------------------------------------------------------

Agent::Agent(Options options, Surroundings* world)
    : options_(std::move(options)),
      world_(world),
      random_(options_.seed),
      process_(world->disk),
      faults_before_(world->disk_faults) {
  CHECK(options_.workers <= kProducersMax);
  size_t bytes = options_.workers * 2 * BlockPool::kBlockBytesMax;
  for (const Backend& backend : options_.backends) bytes += backend.share;
  pool_ = *BlockPool::Create(bytes);
  if (options_.with_spool) {
    std::vector<SpoolTarget> targets;
    for (const Backend& backend : options_.backends) {
      targets.push_back({backend.name, backend.identity});
    }
    options_.spool.seed = random_.Next() | 1;
    world_->disk->modified = world_->loop->wall();
    spool_ = *Spool::Open(options_.spool, targets, &process_, world_->log, world_->loop->wall());
  }
  for (const Backend& backend : options_.backends) {
    AddLane(backend, spool_ == nullptr ? nullptr : spool_->lane(backend.name));
  }
  BuildRoutes();
  Beat();
}

Agent::~Agent() {
  lanes_.clear();
  leaving_.clear();
  left_.clear();
  if (pool_->bytes_used() != 0) {
    world_->story->Fail("agent {} left {} bytes of its buffer taken", options_.number,
                        pool_->bytes_used());
  }
}

void Agent::AddLane(const Backend& backend, SpoolLane* spool) {
  Backend b = backend;
  b.delivery.quota = b.share * 5 / 8;
  b.delivery.in_flight_bytes = b.share / 5;
  b.delivery.seed = random_.Next();
  b.delivery.spool = spool != nullptr;
  lanes_.push_back(std::make_shared<VirtualLane>(this, std::move(b), spool));
  lanes_.back()->Begin();
}

void Agent::BuildRoutes() {
  std::vector<BackendConfig> backends;
  for (const auto& lane : lanes_) backends.push_back({lane->backend().name, {}, {}});
  std::vector<RouteConfig> routes;
  for (RouteConfig route : options_.routes) {
    std::erase_if(route.to, [&](const std::string& name) {
      return std::none_of(backends.begin(), backends.end(),
                          [&](const BackendConfig& b) { return b.name == name; });
    });
    routes.push_back(std::move(route));
  }
  router_ = *Router::Create(routes, backends);
  workers_.clear();
  workers_.resize(options_.workers);
  route_keys_.clear();
  for (size_t r = 0; r < router_->size(); ++r) {
    uint32_t keys = 0;
    for (const size_t lane : router_->lanes(r)) {
      keys |= uint32_t{1} << lanes_[lane]->backend().far_side->key();
    }
    route_keys_.push_back(keys);
    for (Worker& worker : workers_) {
      worker.routes.push_back(std::make_unique<OpenRoute>(pool_.get(), options_.batch));
    }
  }
}

// As Worker::Take.
void Agent::Receive(size_t worker, uint64_t number, const std::string& document) {
  std::string padded(document);
  padded.resize(document.size() + kScanPadding);
  const ScanResult scan = world_->scanner->Scan({padded.data(), document.size()});
  if (scan.reject != RejectReason::kNone ||
      scan.kind != KindOf(world_->books->shape(number).style)) {
    return world_->story->Fail("document {} was refused or taken for another kind", number);
  }
  const Time now = world_->loop->now();
  ++accepted_;
  const size_t r = router_->Match(scan.kind, {world_->scanner, {}});
  if (r == Router::kNoRoute || router_->lanes(r).empty()) {
    ++filtered_;
    world_->books->Expect(number, 0, now);
    return;
  }
  world_->books->Expect(number, route_keys_[r], now);
  OpenRoute* const route = workers_[worker].routes[r].get();
  if (!route->builder.Add(scan.document, scan.kind, RejectReason::kNone, now)) {
    Close(worker, r);
    CHECK(route->builder.Add(scan.document, scan.kind, RejectReason::kNone, now));
  }
  route->documents.push_back(number);
  if (route->documents.size() == 1) {
    world_->loop->At(route->builder.due(), [this, worker, r, alive = std::weak_ptr<bool>(alive_),
                                            opened = ++route->opened, route] {
      if (alive.expired() || dead_ || r >= workers_[worker].routes.size()) return;
      const OpenRoute* const open = workers_[worker].routes[r].get();
      if (open == route && open->opened == opened && !open->documents.empty()) Close(worker, r);
    });
  }
  if (route->builder.full()) Close(worker, r);
}

void Agent::Close(size_t worker, size_t r) {
  OpenRoute* const route = workers_[worker].routes[r].get();
  if (route->builder.empty()) return;
  const BatchRef batch = route->builder.Close();
  const std::vector<uint64_t> documents = std::exchange(route->documents, {});
  for (const size_t i : router_->lanes(r)) {
    if (batch) {
      lanes_[i]->Push(worker, batch.Share(), documents);
    } else {
      lanes_[i]->Lose(documents);
    }
    lanes_[i]->inbox().Notify();
  }
  routed_ += documents.size();
}

void Agent::CloseAll() {
  for (size_t worker = 0; worker < workers_.size(); ++worker) {
    for (size_t r = 0; r < workers_[worker].routes.size(); ++r) Close(worker, r);
  }
}

void Agent::Stop(Duration grace) {
  world_->story->Tell("agent {}: asked to end within {:.1f} s", options_.number, Seconds(grace));
  stopping_ = true;
  CloseAll();
  const auto lanes = lanes_;
  for (const auto& lane : lanes) {
    if (!lane->draining() && !dead_) lane->Drain(world_->loop->now() + grace);
  }
  NoteFinished();
}

void Agent::Die() {
  if (dead_) return;
  dead_ = true;
  died_at_change_ = process_.killed();
  process_.Kill();
  for (Worker& worker : workers_) {
    for (size_t r = 0; r < worker.routes.size(); ++r) {
      for (const size_t lane : router_->lanes(r)) {
        const Key key = lanes_[lane]->backend().far_side->key();
        for (const uint64_t number : worker.routes[r]->documents) {
          world_->books->Explain(key, number, kInMemory);
        }
      }
    }
  }
  for (const auto& lane : lanes_) lane->Die();
  for (const auto& lane : leaving_) lane->Die();
}

bool Agent::DiedAtDisk() { return process_.killed() || world_->disk->crashed(); }

void Agent::Remove(const std::string& backend, Duration grace) {
  const auto found = std::find_if(lanes_.begin(), lanes_.end(),
                                  [&](const auto& l) { return l->backend().name == backend; });
  CHECK(found != lanes_.end() && leaving_.empty());
  world_->story->Tell("agent {}: backend {} goes", options_.number, backend);
  CloseAll();
  const std::shared_ptr<VirtualLane> lane = *found;
  leaving_.push_back(lane);
  lanes_.erase(found);
  BuildRoutes();
  lane->Drain(world_->loop->now() + grace);
}

void Agent::Add(const Backend& backend) {
  world_->story->Tell("agent {}: backend {} comes as {}", options_.number, backend.name,
                      backend.identity);
  CloseAll();
  SpoolLane* spool = nullptr;
  if (spool_ != nullptr) {
    spool = spool_->Attach({backend.name, backend.identity});
    if (DiedAtDisk()) return world_->crashed();
  }
  AddLane(backend, spool);
  BuildRoutes();
}

void Agent::NoteFinished() {
  for (const auto& lane : std::exchange(leaving_, {})) {
    if (!lane->finished()) {
      leaving_.push_back(lane);
      continue;
    }
    left_.push_back(lane);
    if (lane->spool() == nullptr) continue;
    spool_->Detach(lane->spool());
    if (DiedAtDisk()) return world_->crashed();
    lane->CheckAtRest();
  }
  finished_ =
      stopping_ && leaving_.empty() &&
      std::all_of(lanes_.begin(), lanes_.end(), [](const auto& l) { return l->finished(); });
  if (finished_) Audit(true);
}

bool Agent::empty() const {
  for (const Worker& worker : workers_) {
    for (const auto& route : worker.routes) {
      if (!route->builder.empty()) return false;
    }
  }
  return leaving_.empty() &&
         std::all_of(lanes_.begin(), lanes_.end(), [](const auto& l) { return l->empty(); });
}

void Agent::Beat() {
  world_->loop->After(kBeat, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired() || dead_) return;
    Housekeep();
    Beat();
  });
}

void Agent::Housekeep() {
  if (dead_) return;
  Audit(false);
  if (spool_ == nullptr || finished_) return;
  world_->disk->modified = world_->loop->wall();
  world_->disk_delay = Duration::zero();
  spool_->Housekeep(world_->loop->wall());
  if (world_->disk_delay > Duration::zero()) {
    world_->disk_busy_until =
        std::max(world_->loop->now(), world_->disk_busy_until) + world_->disk_delay;
  }
  if (DiedAtDisk()) return world_->crashed();
  for (const auto& lane : lanes_) {
    if (!lane->finished()) lane->CheckAtRest();
  }
  CheckDisk();
}

// As Agent::ledger and Audit of the program.
void Agent::Audit(bool last) {
  Ledger ledger;
  ledger.datagrams = ledger.accepted = accepted_;
  ledger.routed = routed_;
  ledger.filtered = filtered_;
  for (const Worker& worker : workers_) {
    for (const auto& route : worker.routes) ledger.open += route->builder.size();
  }
  for (const auto* lanes : {&lanes_, &leaving_, &left_}) {
    for (const auto& lane : *lanes) {
      ledger.lanes.push_back(
          LedgerOf(ReportOf(lane->backend().name, lane->account(),
                            lane->spool() == nullptr ? nullptr : &lane->spool()->account())));
    }
  }
  if (!audit_.Look(ledger, last) && ledger.balanced()) return;
  world_->story->Fail("agent {}: {}", options_.number, ledger.text());
}

// What lies in its directory is what it says, and not too much.
void Agent::CheckDisk() {
  const Spool::State state = spool_->state();
  if (saw_faults() || !state.on) return;
  uint64_t bytes = 0;
  for (const std::string& path : world_->disk->Paths()) {
    if (path.starts_with(state.text + "/")) bytes += world_->disk->Bytes(path)->size();
  }
  if (bytes > options_.spool.bytes_max || bytes != state.bytes) {
    world_->story->Fail("agent {} has {} bytes on disk, says {}, and may have {}", options_.number,
                        bytes, state.bytes, options_.spool.bytes_max);
  }
}

std::string Agent::text() const {
  std::string out = fmt::format("agent {}:", options_.number);
  for (const auto* lanes : {&lanes_, &leaving_}) {
    for (const auto& lane : *lanes) out += " " + lane->text();
  }
  return out;
}

uint64_t Agent::spool_dropped() const {
  uint64_t sum = 0;
  for (const auto* lanes : {&lanes_, &leaving_, &left_}) {
    for (const auto& lane : *lanes) {
      if (lane->spool() != nullptr) sum += lane->spool()->account().dropped_total();
      sum += lane->lent_at_death();
    }
  }
  return sum;
}

}  // namespace mobula::sim
