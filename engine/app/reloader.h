// Reads the configuration again and has the agent take up what changed, or says why it stays as it was.
//
// Room:      cold.
// Lifecycle: made when the agent has started; Request at each SIGHUP, Step until the drain begins, destroyed.
// Threads:   the control thread; what may take long runs on a thread of its own.
// Errors:    a configuration that cannot be used changes nothing, and is told as `reload_failed`.
// Limits:    one reload at a time; requests that come meanwhile make one more.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/app/agent.h"
#include "engine/base/time.h"
#include "engine/config/config.h"
#include "engine/config/reload.h"

namespace mobula {

class Reloader {
 public:
  // Reads the configuration as at the start. May be called on any thread.
  using Load = std::function<absl::StatusOr<Config>()>;

  // `running` is the agent's configuration, and is changed with it. All outlive this.
  Reloader(Agent* agent, Config* running, Load load, Log* log);
  ~Reloader();
  Reloader(const Reloader&) = delete;
  Reloader& operator=(const Reloader&) = delete;

  void Request() { requested_ = true; }
  // Often while busy().
  void Step(Time now);
  [[nodiscard]] bool busy() const { return requested_ || thread_.joinable() || agent_->changing(); }
  // The process ends: a reload under way is left behind.
  void Abandon();

 private:
  struct Prepared {
    Config config;
    std::vector<OptionChange> kept;         // what only a start reads
    std::unique_ptr<Agent::Change> change;  // null: backends and routes are the same
  };
  static absl::StatusOr<Prepared> Prepare(const Config& running, const Load& load, Agent* agent);
  void Commit(Prepared prepared);
  void Fail(const absl::Status& status);

  Agent* const agent_;
  Config* const running_;
  const Load load_;
  Log* const log_;
  bool requested_ = false;
  std::thread thread_;
  std::future<absl::StatusOr<Prepared>> prepared_;
};

}  // namespace mobula
