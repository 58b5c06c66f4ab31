// Tested by tests/e2e/admin_test.py; who may see what by tests/unit/engine/app/admin_access_test.cc.
#include "engine/app/admin.h"

#include <fmt/format.h>
#include <pthread.h>

#include <string>
#include <utility>

#include "engine/app/metrics_page.h"
#include "engine/base/log.h"

namespace mobula {
namespace {

constexpr Duration kRefreshEvery = std::chrono::seconds(10);

}  // namespace

Admin::Admin(const Agent* agent, Log* log, std::function<void()> enter)
    : agent_(agent), log_(log), enter_(std::move(enter)) {}

Admin::~Admin() { Stop(); }

absl::Status Admin::Start(const AdminConfig& config, PortUse use) {
  HttpServer::Options options;
  if (!config.tls.cert.empty()) {
    auto tls = TlsServerContext::Create({config.tls.cert, config.tls.key, config.tls.client_ca});
    if (!tls.ok()) {
      return absl::Status(tls.status().code(),
                          fmt::format("admin.tls: {}", std::string(tls.status().message())));
    }
    tls_ = *std::move(tls);
    options.tls = tls_.get();
  }
  server_ = std::make_unique<HttpServer>(
      &loop_,
      [this](const HttpServerRequest& request, const auto& respond) { respond(Answer(request)); },
      options);
  if (absl::Status status = server_->Listen(config.address, use); !status.ok()) {
    return absl::Status(status.code(),
                        fmt::format("{}; set admin.address to another one, or to off",
                                    std::string(status.message())));
  }
  port_ = server_->port();
  access_.emplace(config, server_->is_loopback());
  if (tls_ != nullptr) {
    log_->Info("admin_certificate", "The admin endpoint has a certificate",
               {{"expires", tls_->expires()}});
    refresh_.emplace(&loop_);
    refresh_->Set(std::chrono::steady_clock::now() + kRefreshEvery,
                  [this] { RefreshCertificate(); });
  }
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "admin");
    if (enter_) enter_();
    loop_.Run();
  });
  return absl::OkStatus();
}

void Admin::Reopen() {
  if (thread_.joinable() && tls_ != nullptr) loop_.Post([this] { RefreshCertificate(); });
}

void Admin::Stop() {
  if (!thread_.joinable()) return;
  loop_.Post([this] {
    server_->Close();
    loop_.Stop();
  });
  thread_.join();
}

void Admin::RefreshCertificate() {
  const absl::StatusOr<bool> changed = tls_->Refresh();
  if (!changed.ok()) {
    log_->Error("admin_certificate",
                fmt::format("admin.tls: {}; what was there before stays in use",
                            std::string(changed.status().message())),
                {{"expires", tls_->expires()}});
  } else if (*changed) {
    log_->Info("admin_certificate", "The admin endpoint has a new certificate",
               {{"expires", tls_->expires()}});
  }
  refresh_->Set(std::chrono::steady_clock::now() + kRefreshEvery, [this] { RefreshCertificate(); });
}

HttpReply Admin::Answer(const HttpServerRequest& request) const {
  HttpReply reply;
  if (request.method != "GET") {
    reply.status = 405;
    reply.headers = {{"Allow", "GET, HEAD"}};
    reply.body = "only GET and HEAD are answered here\n";
    return reply;
  }
  const std::string_view path = request.target.substr(0, request.target.find('?'));
  if (path == "/healthz" || path == "/readyz" || path == "/metrics") {
    return AnswerForAll(path, request.Header("accept"));
  }
  if (std::optional<HttpReply> refusal = access_->Refuse(request)) {
    log_->Warn("admin_refused", "Refused to show a page of the admin endpoint",
               {{"source", request.peer}, {"status", refusal->status}});
    return *std::move(refusal);
  }
  if (path == "/ledger") {
    reply.content_type = "application/json";
    reply.body = agent_->ledger().json() + "\n";
  } else {
    reply.status = 404;
    reply.body =
        "/healthz  the receivers' loops turn\n/readyz   documents can be taken; what is degraded\n"
        "/metrics  for Prometheus\n/ledger   where every document went\n";
  }
  return reply;
}

// What a kubelet and a Prometheus ask, which have neither token nor certificate.
HttpReply Admin::AnswerForAll(std::string_view path, std::string_view accepted) const {
  HttpReply reply;
  if (path == "/healthz") {
    std::string why;
    reply.status = agent_->Healthy(&why) ? 200 : 503;
    reply.body = why + "\n";
  } else if (path == "/readyz") {
    reply.status = agent_->Ready(&reply.body) ? 200 : 503;
  } else {
    MetricsPage page = RenderMetrics(*agent_, accepted);
    reply.content_type = std::move(page.content_type);
    reply.body = std::move(page.body);
  }
  return reply;
}

}  // namespace mobula
