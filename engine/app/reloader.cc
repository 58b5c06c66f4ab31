// Tested by tests/unit/engine/app/reloader_test.cc and tests/e2e/reload_test.py.
#include "engine/app/reloader.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <string>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

const BackendConfig* Find(const Config& config, const std::string& name) {
  const auto found = std::find_if(config.backends.begin(), config.backends.end(),
                                  [&](const BackendConfig& b) { return b.name == name; });
  return found == config.backends.end() ? nullptr : &*found;
}

// "added a, b; changed c; removed d; other routes"
std::string Summary(const Config& before, const Config& after) {
  std::string added;
  std::string changed;
  std::string removed;
  const auto list = [](const std::string& name, std::string* to) {
    *to += (to->empty() ? "" : ", ") + name;
  };
  for (const BackendConfig& backend : after.backends) {
    const BackendConfig* const old = Find(before, backend.name);
    if (old == nullptr) {
      list(backend.name, &added);
    } else if (!(*old == backend)) {
      list(backend.name, &changed);
    }
  }
  for (const BackendConfig& backend : before.backends) {
    if (Find(after, backend.name) == nullptr) list(backend.name, &removed);
  }
  std::string text;
  const auto tell = [&text](const std::string& what) { text += (text.empty() ? "" : "; ") + what; };
  if (!added.empty()) tell("added " + added);
  if (!changed.empty()) tell("changed " + changed);
  if (!removed.empty()) tell("removed " + removed);
  if (!(before.routes == after.routes)) tell("other routes");
  if (before.log.level != after.log.level) tell("another log level");
  if (before.shutdown.grace != after.shutdown.grace) tell("another shutdown.grace");
  return text.empty() ? "nothing changed" : text;
}

}  // namespace

Reloader::Reloader(Agent* agent, Config* running, Load load, Log* log)
    : agent_(agent), running_(running), load_(std::move(load)), log_(log) {}

Reloader::~Reloader() {
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<Reloader::Prepared> Reloader::Prepare(const Config& running, const Load& load,
                                                     Agent* agent) {
  Prepared prepared;
  ASSIGN_OR_RETURN(prepared.config, load());
  prepared.kept = KeepForRestart(running, &prepared.config);
  const Config& next = prepared.config;
  if (next.backends == running.backends && next.routes == running.routes &&
      next.proxy.backend == running.proxy.backend) {
    return prepared;
  }
  ASSIGN_OR_RETURN(prepared.change, agent->Prepare(next));
  return prepared;
}

void Reloader::Step(Time now) {
  agent_->Settle(now);
  if (thread_.joinable()) {
    if (prepared_.wait_for(Duration::zero()) != std::future_status::ready) return;
    thread_.join();
    absl::StatusOr<Prepared> prepared = prepared_.get();
    if (prepared.ok()) {
      Commit(*std::move(prepared));
    } else {
      Fail(prepared.status());
    }
  }
  if (!requested_ || !agent_->settled()) return;
  requested_ = false;
  std::promise<absl::StatusOr<Prepared>> promise;
  prepared_ = promise.get_future();
  // Left behind by Abandon, it has nothing of this object.
  thread_ = std::thread(
      [promise = std::move(promise), running = *running_, load = load_, agent = agent_]() mutable {
        pthread_setname_np(pthread_self(), "reload");
        promise.set_value(Prepare(running, load, agent));
      });
}

void Reloader::Commit(Prepared prepared) {
  for (const std::string& warning : prepared.config.warnings) {
    log_->Warn("config", warning, {{"key", warning}});
  }
  for (const OptionChange& kept : prepared.kept) {
    log_->Warn("reload_restart",
               fmt::format("{}: {} -> {} needs a restart", kept.path, kept.from, kept.to),
               {{"key", kept.path}});
  }
  if (prepared.change != nullptr) agent_->Commit(std::move(prepared.change));
  const std::string summary = Summary(*running_, prepared.config);
  *running_ = std::move(prepared.config);
  log_->SetLevel(running_->log.level);
  agent_->NoteReload(absl::OkStatus());
  log_->Info("reload", "Read the configuration again (SIGHUP): " + summary);
}

void Reloader::Fail(const absl::Status& status) {
  agent_->NoteReload(status);
  // Each is told, however soon it comes after another.
  log_->Error("reload_failed",
              fmt::format("The configuration on disk is not in use, the old one is: {}",
                          std::string(status.message())),
              {{"key", agent_->reloads().failed}});
}

void Reloader::Abandon() {
  requested_ = false;
  if (thread_.joinable()) thread_.detach();
}

}  // namespace mobula
