// Tested by the e2e suite.
#include "engine/app/run_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <future>
#include <memory>
#include <optional>
#include <thread>

#include "engine/app/admin.h"
#include "engine/app/agent.h"
#include "engine/app/hardening.h"
#include "engine/app/open_log.h"
#include "engine/app/reloader.h"
#include "engine/app/signals.h"
#include "engine/app/status_line.h"
#include "engine/app/version.h"
#include "engine/base/log.h"
#include "engine/base/printable.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

// How soon a reload goes on, and how often it is looked whether another agent has let go of the port.
constexpr Duration kStep = std::chrono::milliseconds(20);
// For what a backend can still take when the start fails.
constexpr Duration kLastCalls = std::chrono::seconds(2);

Time Now() { return std::chrono::steady_clock::now(); }

void TellLanes(const Config& config, Log* log) {
  for (const BackendConfig& backend : config.backends) {
    if (const auto* file = std::get_if<FileBackendConfig>(&backend.settings)) {
      log->Info("backend", fmt::format("Backend {} writes to {}", backend.name, file->path));
    } else {
      log->Info("backend",
                fmt::format("Backend {} is of type {}", backend.name, std::string(backend.type())));
    }
  }
}

std::string SamplingPort(const Config& config) {
  if (config.proxy.address == "off") return "off";
  const BackendConfig* const backend = SamplingBackend(config);
  return fmt::format(
      "tcp {}, {}", config.proxy.address == "auto" ? config.udp.address : config.proxy.address,
      backend == nullptr ? "answers the default rule" : "asks as backend " + backend->name);
}

// "https 0.0.0.0:2010, all pages with the token or a client certificate"
std::string AdminPages(const AdminConfig& admin) {
  if (admin.address == "off") return "off";
  std::string keys = admin.token.empty() ? "" : "the token";
  if (!admin.tls.client_ca.empty()) {
    keys += fmt::format("{}a client certificate", keys.empty() ? "" : " or ");
  }
  return fmt::format("{} {}{}{}", admin.tls.cert.empty() ? "http" : "https", admin.address,
                     keys.empty() ? "" : ", all pages with ", keys);
}

// "of 2 networks, at most 2000 documents a second each"; empty: whoever, and as much as they like.
std::string Senders(const UdpConfig& udp) {
  std::string text;
  if (!udp.allow.empty()) {
    text = fmt::format("of {} network{}", udp.allow.size(), udp.allow.size() == 1 ? "" : "s");
  }
  if (udp.source_rate > 0) {
    text += fmt::format("{}at most {} documents a second each", text.empty() ? "" : ", ",
                        udp.source_rate);
  }
  return text;
}

// "prod (xray, eu-west-1, role arn:…)"
std::string Summary(const BackendConfig& backend) {
  std::string text = fmt::format("{} ({}", backend.name, backend.type());
  if (const auto* xray = std::get_if<XrayBackendConfig>(&backend.settings)) {
    if (!xray->region.empty()) text += ", " + xray->region;
    for (const AwsRole& role : xray->via) text += ", via " + role.role_arn;
    if (!xray->role.role_arn.empty()) text += ", role " + xray->role.role_arn;
  } else if (const auto* file = std::get_if<FileBackendConfig>(&backend.settings)) {
    text += ", " + file->path;
  }
  return text + ")";
}

// One run, and what differs between its styles.
class Run {
 public:
  Run(const Config& config, RunStyle style, Reloader::Load load, Log* log)
      : config_(config),
        style_(style),
        load_(std::move(load)),
        log_(log),
        hardening_(config, log) {}

  // Returns only when it could not start.
  absl::Status Serve(const std::string& origin);
  // Why it ended.
  void TellFailure(const absl::Status& status) const;

 private:
  [[nodiscard]] bool as_daemon() const { return style_ == RunStyle::kDaemon; }

  absl::Status StartAdmin();
  // kToStop: and a signal to stop came meanwhile. kNot: it came, and the start is still under way.
  enum class Started : uint8_t { kYes, kToStop, kNot };
  absl::StatusOr<Started> StartAgent(const Signals& signals);
  // Whether that signal ends the run; told then.
  bool Ends(int signal);
  void ServeUntilSignal(const Signals& signals);
  void Drain(const Signals& signals);
  void Reopen();
  // SIGHUP.
  void Reload();
  void TellLedger();
  void DrawLine(Time now) {
    if (line_.has_value()) line_->Draw(*agent_, now);
  }

  Config config_;
  const RunStyle style_;
  const Reloader::Load load_;
  Log* const log_;
  Hardening hardening_;
  std::unique_ptr<Agent> agent_;
  std::optional<Admin> admin_;
  std::optional<Reloader> reloader_;  // while it serves
  std::optional<StatusLine> line_;    // only on a terminal
};

void Run::TellFailure(const absl::Status& status) const {
  log_->Error("start_failed", std::string(status.message()));
  if (!config_.log.path.empty() && config_.log.path != "-") {
    std::fprintf(stderr, "%s\n", PrintableLines(std::string(status.message())).c_str());
  }
}

absl::Status Run::StartAdmin() {
  if (config_.admin.address == "off") return absl::OkStatus();
  admin_.emplace(agent_.get(), log_, [this] { hardening_.Enter(ThreadRole::kLane); });
  if (absl::Status started = admin_->Start(config_.admin, agent_->port_use()); !started.ok()) {
    if (!as_daemon()) return started;
    // The X-Ray daemon has no such port: what replaces it must not fail for it.
    log_->Warn("admin",
               fmt::format("No health and metrics pages: {}", std::string(started.message())));
    return absl::OkStatus();
  }
  log_->Info("admin",
             fmt::format("Health, metrics and ledger on {} port {}",
                         config_.admin.tls.cert.empty() ? "http" : "https", admin_->port()),
             {{"address", config_.admin.address}});
  return absl::OkStatus();
}

void Run::Reopen() {
  agent_->Reopen();
  if (admin_.has_value()) admin_->Reopen();
  if (const absl::Status opened = log_->Reopen(); !opened.ok()) {
    log_->Error("reopen_failed", std::string(opened.message()));
  }
  log_->Info("reopen", "Opened output files again (SIGHUP)");
}

void Run::Reload() {
  Reopen();
  if (load_) {
    reloader_->Request();
  } else {
    log_->Info("reload", "The configuration came from standard input and cannot be read again");
  }
}

bool Run::Ends(int signal) {
  if (signal != SIGTERM && signal != SIGINT) return false;
  log_->Info("stop", fmt::format("Got shutdown signal: {}",
                                 signal == SIGTERM ? "terminated" : "interrupt"));
  return true;
}

// The start may ask metadata for seconds. A signal to stop ends that at once if there is nothing to deliver yet, else
// when the grace is over.
absl::StatusOr<Run::Started> Run::StartAgent(const Signals& signals) {
  agent_->Receive();
  const auto promise = std::make_shared<std::promise<absl::Status>>();
  std::future<absl::Status> started = promise->get_future();
  std::thread thread([promise, agent = agent_.get()] { promise->set_value(agent->Start()); });
  Time limit = kTimeNever;
  bool hangup = false;
  bool stop = false;
  while (started.wait_for(std::chrono::milliseconds(20)) != std::future_status::ready) {
    const int signal = signals.Next(Duration::zero());
    hangup = hangup || signal == SIGHUP;
    if (!stop && Ends(signal)) {
      stop = true;
      limit = agent_->ledger().datagrams == 0 ? Now() : Now() + config_.shutdown.grace;
    }
    if (Now() < limit) continue;
    // It cannot be interrupted, and whoever calls this ends the process.
    thread.detach();
    return Started::kNot;
  }
  thread.join();
  RETURN_IF_ERROR(started.get());
  if (hangup) Reload();
  return stop ? Started::kToStop : Started::kYes;
}

void Run::ServeUntilSignal(const Signals& signals) {
  const Duration pause =
      line_.has_value() ? std::chrono::milliseconds(500) : std::chrono::seconds(1);
  Time next = Now();
  for (;;) {
    Handover& handover = agent_->handover();
    const bool steps = reloader_->busy() || handover.taking_over();
    const int signal = signals.Next(steps ? kStep : pause, handover.fd());
    if (signal == SIGHUP) Reload();
    if (Ends(signal)) break;
    const Time now = Now();
    handover.Step(now);
    reloader_->Step(now);
    if (now < next) continue;
    next = now + pause;
    agent_->Housekeep(now);
    DrawLine(now);
  }
  reloader_->Abandon();
}

// Lets the lanes deliver until the grace is over.
void Run::Drain(const Signals& signals) {
  const Time deadline = Now() + config_.shutdown.grace;
  agent_->BeginDrain(deadline);
  // The lanes keep the deadline themselves; the margin is for their last call's end.
  while (!agent_->Drained() && Now() < deadline + std::chrono::milliseconds(500)) {
    const int signal = signals.Next(std::chrono::milliseconds(50));
    if (!as_daemon() && signal == SIGINT && isatty(STDIN_FILENO) == 1) {
      log_->Warn("drain_cut_short", "interrupted again: giving up what is not delivered yet");
      agent_->BeginDrain(Now());
      return;
    }
    const Time now = Now();
    agent_->Housekeep(now);
    DrawLine(now);
  }
}

void Run::TellLedger() {
  const Ledger ledger = agent_->ledger();
  if (!line_.has_value() || !config_.log.path.empty()) {
    const uint64_t lost = ledger.lost_total();
    log_->Write(ledger.balanced() && lost == 0 ? LogLevel::kInfo : LogLevel::kWarn, "ledger",
                fmt::format("Ended: {}{}", ledger.summary(),
                            ledger.balanced() ? "" : "; THE LEDGER DOES NOT BALANCE"),
                {LogField::Json("ledger", ledger.json())});
  }
  if (line_.has_value()) std::fputs(ledger.text().c_str(), stderr);
}

absl::Status Run::Serve(const std::string& origin) {
  log_->Info(
      "start",
      fmt::format("Initializing {} {}", as_daemon() ? "AWS X-Ray daemon" : "Mobula", kVersion),
      {{"config", origin}});
  log_->Debug("config", "Configuration from " + (origin.empty() ? "flags and variables" : origin));
  for (const std::string& warning : config_.warnings) {
    log_->Warn("config", warning, {{"key", warning}});
  }
  hardening_.TellExposedFiles();
  ASSIGN_OR_RETURN(agent_, Agent::Create(config_, log_, &hardening_));
  if (as_daemon()) {
    log_->Info("buffer_memory",
               fmt::format("Using buffer memory limit of {} MB", agent_->plan().buffer >> 20));
  }
  // From here on signals are ours: earlier, as while a name is resolved, they simply end the program.
  const Signals signals;
  hardening_.FilterCalls(agent_->engine() == ReceiveEngine::kIoUring);
  RETURN_IF_ERROR(StartAdmin());
  reloader_.emplace(agent_.get(), &config_, load_, log_);
  const absl::StatusOr<Started> started = StartAgent(signals);
  if (!started.ok() || *started == Started::kNot) {
    // What a backend that works has goes there still, the rest to the spool.
    const Time deadline = Now() + std::min<Duration>(config_.shutdown.grace, kLastCalls);
    agent_->BeginDrain(deadline);
    while (!agent_->Drained() && Now() < deadline) std::this_thread::sleep_for(kStep);
    const bool ended = agent_->Finish();
    if (agent_->ledger().datagrams > 0) TellLedger();
    if (!started.ok() && ended) return started.status();
    if (started.ok()) {
      log_->Info("stopped_early", "Stopped before the start was over");
    } else {
      TellFailure(started.status());
    }
    std::fflush(nullptr);
    _exit(started.ok() ? 0 : 1);
  }
  hardening_.Enter(ThreadRole::kControl);
  log_->Info("listening", fmt::format("Receiving segments on udp {}", agent_->address()));
  TellLanes(config_, log_);

  if (!as_daemon() && isatty(STDERR_FILENO) == 1) line_.emplace();
  if (*started == Started::kYes) {
    agent_->BeginService(Now());
    ServeUntilSignal(signals);
  }
  Drain(signals);
  if (!agent_->Finish()) log_->Error("backend_hangs", "a backend hangs and is left behind");
  agent_->Housekeep(Now());
  if (line_.has_value()) line_->Erase();
  TellLedger();
  // Everything is told. What still hangs, a name being resolved or a file system, must not hold the end.
  std::fflush(nullptr);
  _exit(0);
}

}  // namespace

int RunAgent(const ConfigInput& input) {
  const absl::StatusOr<Config> config = LoadConfig(input);
  if (!config.ok()) {
    std::fprintf(stderr, "%s\n", PrintableLines(std::string(config.status().message())).c_str());
    return 1;
  }
  std::function<absl::StatusOr<Config>()> load;
  if (input.path != "-") load = [input] { return LoadConfig(input); };
  return RunAgent(*config, ConfigPath(input), RunStyle::kMobula, std::move(load));
}

int RunAgent(const Config& config, const std::string& origin, RunStyle style,
             std::function<absl::StatusOr<Config>()> load) {
  if (const absl::Status begun = Hardening::Begin(config); !begun.ok()) {
    std::fprintf(stderr, "%s\n", PrintableLines(std::string(begun.message())).c_str());
    return 1;
  }
  absl::StatusOr<std::unique_ptr<Log>> log = OpenLog(config.log);
  if (!log.ok() && style == RunStyle::kDaemon) {
    const std::string why(log.status().message());
    LogConfig instead = config.log;
    instead.path.clear();
    log = OpenLog(instead);
    if (log.ok()) (*log)->Error("log_file", why + "; the log goes to standard error");
  }
  if (!log.ok()) {
    std::fprintf(stderr, "%s\n", PrintableLines(std::string(log.status().message())).c_str());
    return 1;
  }
  Run run(config, style, std::move(load), log->get());
  run.TellFailure(run.Serve(origin));
  return 1;
}

absl::Status CheckConfig(const ConfigInput& input) {
  ASSIGN_OR_RETURN(const Config config, LoadConfig(input));
  ASSIGN_OR_RETURN(const std::unique_ptr<Router> router,
                   Router::Create(config.routes, config.backends));
  for (const std::string& warning : config.warnings) {
    std::fprintf(stderr, "warning: %s\n", PrintableLines(warning).c_str());
  }
  // Memory is judged for where `check` runs; the container that `run` will live in may differ.
  const int workers = WorkerCount(config.udp.workers, AllowedCores());
  ASSIGN_OR_RETURN(
      const MemoryPlan plan,
      PlanMemory(config, workers, config.udp.receive_buffer * static_cast<uint64_t>(workers),
                 CgroupMemoryLimit()));
  RETURN_IF_ERROR(DivideBuffer(config, plan.buffer, workers, router->size()).status());
  const std::string path = ConfigPath(input);
  std::string text = fmt::format("{}: ok\n", path.empty() ? "flags and variables" : path);
  const auto tell = [&text](std::string_view what, std::string_view value) {
    text += fmt::format("  {:<13} {}\n", what, value);
  };
  tell("receives on", "udp " + config.udp.address);
  if (!config.unix_socket.path.empty()) tell("receives on", "unix " + config.unix_socket.path);
  if (const std::string senders = Senders(config.udp); !senders.empty()) tell("senders", senders);
  tell("sampling port", SamplingPort(config));
  tell("admin", AdminPages(config.admin));
  tell("memory", plan.text());
  if (const SpoolConfig& spool = config.buffer.spool; !spool.path.empty()) {
    tell("spool", fmt::format("{}, up to {} MiB", spool.path, spool.size >> 20));
  }
  for (const BackendConfig& backend : config.backends) tell("backend", Summary(backend));
  for (const RouteConfig& route : config.routes) {
    std::string to;
    for (const std::string& name : route.to) to += (to.empty() ? "" : ", ") + name;
    tell("route", fmt::format("{} -> {}", route.when.empty() ? "everything" : route.when,
                              to.empty() ? "dropped" : to));
  }
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace mobula
