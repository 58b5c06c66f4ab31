// Tested by tests/unit/engine/app/health_command_test.cc and tests/e2e/health_test.py.
#include "engine/app/health_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/base/ip_address.h"
#include "engine/base/printable.h"
#include "engine/base/status_macros.h"
#include "engine/config/config.h"
#include "engine/http/http_client.h"
#include "engine/http/http_url.h"
#include "engine/http/io_loop.h"

namespace mobula {
namespace {

constexpr Duration kTimeMax = std::chrono::seconds(2);
constexpr Duration kConnectMax = std::chrono::seconds(1);
constexpr size_t kAnswerBytesMax = 64 * 1024;
constexpr std::string_view kHelp =
    "is the agent running? admin.address of its configuration says where it answers: give it with "
    "--address or "
    "MOBULA_ADMIN_ADDRESS";

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool IsLoopback(const std::string& host) {
  const auto address = ParseIpAddress(host);
  return host == "localhost" || (address && address->is_loopback());
}

absl::StatusOr<HttpUrl> FindAdminPage(const HealthOptions& options) {
  std::string address = options.address;
  if (address.empty()) address = Variable("MOBULA_ADMIN_ADDRESS");
  if (address.empty()) address = AdminConfig().address;
  if (address == "off") {
    return absl::FailedPreconditionError("admin.address is off: there is no page to ask");
  }
  ASSIGN_OR_RETURN(HostPort place, ParseHostPort(address));
  if (place.host.empty() || place.host == "0.0.0.0") place.host = "127.0.0.1";
  if (place.host == "::") place.host = "::1";
  const bool tls = options.tls || !options.ca.empty() || !Variable("MOBULA_ADMIN_TLS_CERT").empty();
  return HttpUrl{tls, std::move(place.host), place.port, ""};
}

absl::StatusOr<HttpResponse> Get(const HttpUrl& url, const std::string& path,
                                 const std::string& ca) {
  IoLoop loop;
  HttpClient::Options options;
  options.url = url;
  options.body_bytes_max = kAnswerBytesMax;
  options.connect_timeout = kConnectMax;
  options.ca_file = ca;
  options.verify = !ca.empty() || !IsLoopback(url.host);
  ASSIGN_OR_RETURN(const std::unique_ptr<HttpClient> client,
                   HttpClient::Create(&loop, std::move(options)));
  HttpRequest request;
  request.method = "GET";
  request.target = path;
  request.deadline = std::chrono::steady_clock::now() + kTimeMax;
  std::optional<HttpResponse> answer;
  client->Send(std::move(request), [&](HttpResponse response) {
    answer = std::move(response);
    loop.Stop();
  });
  loop.Run();
  RETURN_IF_ERROR(answer->transport);
  return *std::move(answer);
}

}  // namespace

int HealthCommand(const HealthOptions& options) {
  const std::string path = options.ready ? "/readyz" : "/healthz";
  const absl::StatusOr<HttpUrl> url = FindAdminPage(options);
  if (!url.ok()) {
    std::fprintf(stderr, "mobula health: %s\n", std::string(url.status().message()).c_str());
    return 1;
  }
  const std::string page =
      fmt::format("{}://{}{}", url->tls ? "https" : "http", url->Authority(), path);
  const absl::StatusOr<HttpResponse> answer = Get(*url, path, options.ca);
  if (!answer.ok()) {
    std::fprintf(stderr, "mobula health: no answer from %s: %s; %s\n", page.c_str(),
                 std::string(answer.status().message()).c_str(), std::string(kHelp).c_str());
    return 1;
  }
  // Another program may answer there.
  const std::string body = PrintableLines(answer->body);
  std::printf("%s%s", body.c_str(), body.empty() || body.back() == '\n' ? "" : "\n");
  if (answer->status == 200) return 0;
  std::fprintf(stderr, "mobula health: %s answers %d\n", page.c_str(), answer->status);
  return 1;
}

}  // namespace mobula
