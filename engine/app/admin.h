// The admin endpoint: /healthz, /readyz, /metrics and, on a loopback address only, /ledger, on a thread of its
// own.
//
// Room:    cold.
// Threads: Start and Stop by the control thread; requests are served on the endpoint's own.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "engine/app/agent.h"
#include "engine/http/http_server.h"
#include "engine/http/io_loop.h"

namespace mobula {

class Admin {
 public:
  // `agent` outlives it.
  // `enter` is called first of all on the endpoint's thread.
  Admin(const Agent* agent, std::function<void()> enter);
  ~Admin();

  // Listens on `address` and serves. The error names the address and the setting.
  absl::Status Start(const std::string& address);
  void Stop();
  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  HttpReply Answer(const HttpServerRequest& request) const;

  const Agent* const agent_;
  const std::function<void()> enter_;
  IoLoop loop_;
  HttpServer server_;
  uint16_t port_ = 0;
  bool loopback_ = false;
  std::thread thread_;
};

}  // namespace mobula
