// The admin endpoint, on a thread of its own: /healthz, /readyz and /metrics for everybody, every other page for those
// that AdminAccess lets in; over TLS where there is a certificate.
//
// Room:    cold.
// Threads: Start, Reopen and Stop by the control thread; requests are served on the endpoint's own.
// Limits:  those of HttpServer: 64 connections, 5 s for a handshake and as much for a head.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "engine/app/admin_access.h"
#include "engine/app/agent.h"
#include "engine/config/config.h"
#include "engine/http/http_server.h"
#include "engine/http/io_loop.h"
#include "engine/http/tls_server.h"

namespace mobula {

class Admin {
 public:
  // `agent` and `log` outlive it. `enter` is called first of all on the endpoint's thread.
  Admin(const Agent* agent, Log* log, std::function<void()> enter);
  ~Admin();

  // Listens as `config` says and serves. The error names the address or the file, and the setting.
  absl::Status Start(const AdminConfig& config, PortUse use = PortUse::kAlone);
  // Looks at once whether the certificate's files have changed, as it does every ten seconds.
  void Reopen();
  void Stop();
  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  [[nodiscard]] HttpReply Answer(const HttpServerRequest& request) const;
  [[nodiscard]] HttpReply AnswerForAll(std::string_view path, std::string_view accepted) const;
  void RefreshCertificate();

  const Agent* const agent_;
  Log* const log_;
  const std::function<void()> enter_;
  IoLoop loop_;
  std::unique_ptr<TlsServerContext> tls_;  // null: plain HTTP
  std::unique_ptr<HttpServer> server_;     // null before Start, like the rest
  std::optional<AdminAccess> access_;
  std::optional<IoLoop::Timer> refresh_;
  uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace mobula
