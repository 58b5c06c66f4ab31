// Tested by tests/unit/engine/app/admin_test.cc and the e2e suite.
#include "engine/app/admin.h"

#include <fmt/format.h>
#include <pthread.h>

#include "engine/app/metrics_page.h"

namespace mobula {

Admin::Admin(const Agent* agent, std::function<void()> enter)
    : agent_(agent),
      enter_(std::move(enter)),
      server_(&loop_, [this](const HttpServerRequest& request, const auto& respond) {
        respond(Answer(request));
      }) {}

Admin::~Admin() { Stop(); }

absl::Status Admin::Start(const std::string& address) {
  if (absl::Status status = server_.Listen(address); !status.ok()) {
    return absl::Status(status.code(),
                        fmt::format("{}; set admin.address to another one, or to off",
                                    std::string(status.message())));
  }
  port_ = server_.port();
  const std::string host = address.substr(0, address.rfind(':'));
  loopback_ = host.rfind("127.", 0) == 0 || host == "[::1]" || host == "localhost";
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "admin");
    if (enter_) enter_();
    loop_.Run();
  });
  return absl::OkStatus();
}

void Admin::Stop() {
  if (!thread_.joinable()) return;
  loop_.Post([this] {
    server_.Close();
    loop_.Stop();
  });
  thread_.join();
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
  if (path == "/healthz") {
    std::string why;
    reply.status = agent_->Healthy(&why) ? 200 : 503;
    reply.body = why + "\n";
  } else if (path == "/readyz") {
    reply.status = agent_->Ready(&reply.body) ? 200 : 503;
  } else if (path == "/metrics") {
    MetricsPage page = RenderMetrics(*agent_, request.Header("accept"));
    reply.content_type = std::move(page.content_type);
    reply.body = std::move(page.body);
  } else if (path == "/ledger" && !loopback_) {
    reply.status = 403;
    reply.body = "the ledger is shown on loopback only: set admin.address to 127.0.0.1:PORT\n";
  } else if (path == "/ledger") {
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

}  // namespace mobula
