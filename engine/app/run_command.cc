// Tested by the e2e suite.
#include "engine/app/run_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "engine/app/admin.h"
#include "engine/app/agent.h"
#include "engine/app/open_log.h"
#include "engine/app/signals.h"
#include "engine/app/status_line.h"
#include "engine/app/version.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

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

// Lets the lanes deliver until the grace is over; on a terminal a second Ctrl-C ends it.
void Drain(Agent* agent, const Signals& signals, Duration grace, StatusLine* line, Log* log) {
  const Time deadline = Now() + grace;
  agent->BeginDrain(deadline);
  // The lanes keep the deadline themselves; the margin is for their last call's end.
  while (!agent->Drained() && Now() < deadline + std::chrono::milliseconds(500)) {
    const int signal = signals.Next(std::chrono::milliseconds(50));
    if (signal == SIGINT && isatty(STDIN_FILENO) == 1) {
      log->Warn("drain_cut_short", "interrupted again: giving up what is not delivered yet");
      agent->BeginDrain(Now());
      return;
    }
    agent->Housekeep(Now());
    line->Draw(*agent, Now());
  }
}

// Serves until a signal, drains, tells the ledger.
absl::Status Serve(const ConfigInput& input, const Config& config, Log* log) {
  log->Info("start", fmt::format("Initializing Mobula {}", kVersion), {{"config", input.path}});
  for (const std::string& warning : config.warnings) log->Warn("config", warning);
  ASSIGN_OR_RETURN(const std::unique_ptr<Agent> agent, Agent::Create(config, log));
  // From here on signals are ours: earlier, as while a name is resolved, they simply end the program.
  const Signals signals;
  auto admin = std::make_unique<Admin>(agent.get());
  if (config.admin.address != "off") {
    RETURN_IF_ERROR(admin->Start(config.admin.address));
    log->Info("admin", fmt::format("Health, metrics and ledger on http port {}", admin->port()),
              {{"address", config.admin.address}});
  }
  RETURN_IF_ERROR(agent->Start());
  log->Info("listening", fmt::format("Receiving segments on udp {}", agent->address()));
  TellLanes(config, log);

  StatusLine line;
  const Duration pause = line.enabled() ? std::chrono::milliseconds(500) : std::chrono::seconds(1);
  for (bool serving = true; serving;) {
    switch (const int signal = signals.Next(pause)) {
      case 0:
        break;
      case SIGHUP:
        agent->Reopen();
        log->Info("reopen", "Opened output files again (SIGHUP)");
        break;
      default:
        log->Info("stop", fmt::format("Got shutdown signal: {}",
                                      signal == SIGTERM ? "terminated" : "interrupt"));
        serving = false;
    }
    const Time now = Now();
    agent->Housekeep(now);
    line.Draw(*agent, now);
  }

  Drain(agent.get(), signals, config.shutdown.grace, &line, log);
  if (!agent->Finish()) log->Error("backend_hangs", "a backend hangs and is left behind");
  agent->Housekeep(Now());
  line.Erase();
  const Ledger ledger = agent->ledger();
  if (!line.enabled() || !config.log.path.empty()) {
    const bool clean = ledger.balanced() && ledger.lost_total() == 0;
    log->Write(clean ? LogLevel::kInfo : LogLevel::kWarn, "ledger",
               !ledger.balanced()         ? "The ledger does not balance"
               : ledger.lost_total() == 0 ? "The ledger balances, nothing was lost"
                                          : "The ledger balances; some documents were lost",
               {LogField::Json("ledger", ledger.json())});
  }
  if (line.enabled()) std::fputs(ledger.text().c_str(), stderr);
  // Everything is told. What still hangs, a name being resolved or a file system, must not hold the end.
  std::fflush(nullptr);
  _exit(0);
}

}  // namespace

int RunAgent(const ConfigInput& input) {
  const absl::StatusOr<Config> config = LoadConfig(input);
  const absl::StatusOr<std::unique_ptr<Log>> log =
      config.ok() ? OpenLog(config->log) : config.status();
  if (!log.ok()) {
    std::fprintf(stderr, "%s\n", std::string(log.status().message()).c_str());
    return 1;
  }
  const absl::Status status = Serve(input, *config, log->get());
  (*log)->Error("start_failed", std::string(status.message()));
  if (!config->log.path.empty()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  }
  return 1;
}

absl::Status CheckConfig(const ConfigInput& input) {
  ASSIGN_OR_RETURN(const Config config, LoadConfig(input));
  ASSIGN_OR_RETURN(const std::unique_ptr<Router> router,
                   Router::Create(config.routes, config.backends));
  for (const std::string& warning : config.warnings) {
    std::fprintf(stderr, "warning: %s\n", warning.c_str());
  }
  // Memory is judged for where `check` runs; the container that `run` will live in may differ.
  const int workers = WorkerCount(config.udp.workers, AllowedCores());
  ASSIGN_OR_RETURN(
      const MemoryPlan plan,
      PlanMemory(config, workers, config.udp.receive_buffer * static_cast<uint64_t>(workers),
                 CgroupMemoryLimit()));
  RETURN_IF_ERROR(DivideBuffer(config, plan.buffer, workers, router->size()).status());
  std::printf("%s: ok\n  receives on   udp %s\n  memory        %s\n", input.path.c_str(),
              config.udp.address.c_str(), plan.text().c_str());
  for (const BackendConfig& backend : config.backends) {
    std::printf("  backend       %s (%s)\n", backend.name.c_str(),
                std::string(backend.type()).c_str());
  }
  for (const RouteConfig& route : config.routes) {
    std::string to;
    for (const std::string& name : route.to) to += (to.empty() ? "" : ", ") + name;
    std::printf("  route         %s -> %s\n",
                route.when.empty() ? "everything" : route.when.c_str(),
                to.empty() ? "dropped" : to.c_str());
  }
  return absl::OkStatus();
}

}  // namespace mobula
