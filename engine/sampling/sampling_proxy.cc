// Who may ask what, and who answers. Tested by tests/unit/engine/sampling/sampling_proxy_test.cc and
// tests/e2e/proxy_test.py.
#include "engine/sampling/sampling_proxy.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/http/http_server.h"
#include "engine/sampling/default_rules.h"
#include "engine/sampling/pass_through.h"
#include "engine/sampling/rules_cache.h"
#include "engine/sampling/sampling_paths.h"

namespace mobula {
namespace {

constexpr size_t kCallsMax = 64;
constexpr size_t kCopiesOfHead = 4;
// After a flood the allocator keeps about what it took, and would for good.
constexpr size_t kFlood = 1 << 20;
constexpr Duration kTrimAfter = std::chrono::seconds(5);
constexpr size_t kBodyBytesMax = 2 << 20;

HttpServer::Options ServerOptions(std::shared_ptr<ByteBudget> budget) {
  HttpServer::Options options;
  // SDKs keep connections for less than that, so that it is they who close.
  options.idle_timeout = std::chrono::seconds(75);
  options.timeout = std::chrono::seconds(20);
  options.connections_max = 512;
  options.header_bytes_max = 16 * 1024;
  options.body_bytes_max = kBodyBytesMax;
  options.budget = std::move(budget);
  return options;
}

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

class SamplingProxy::Impl {
 public:
  Impl(IoLoop* loop, Options options)
      : loop_(loop),
        options_(std::move(options)),
        default_rules_(UnixSeconds()),
        trim_timer_(loop) {}

  absl::Status Listen(PortUse use) {
    if (upstreams_.empty()) RETURN_IF_ERROR(SetUpstream(options_.upstream));
    server_ = std::make_unique<HttpServer>(
        loop_,
        [this](HttpServerRequest& request, HttpServer::Responder respond) {
          OnRequest(request, std::move(respond));
        },
        ServerOptions(budget_));
    return server_->Listen(options_.address, use);
  }

  absl::Status SetUpstream(std::optional<AwsClient::Options> options) {
    auto upstream = std::make_unique<Upstream>();
    if (options) {
      options->http.body_bytes_max = kBodyBytesMax;
      options->http.budget = budget_;
      ASSIGN_OR_RETURN(upstream->client, AwsClient::Create(loop_, *std::move(options)));
    }
    upstream->cache = std::make_unique<RulesCache>(
        RulesCache::Options{.age = options_.rules_age},
        [this, to = upstream.get()](std::string body, Duration timeout, HttpDone done) {
          FetchRules(to, std::move(body), timeout, std::move(done));
        },
        &stats_);
    upstreams_.push_back(std::move(upstream));
    RemoveIdle();
    return absl::OkStatus();
  }

  void StopListening() {
    if (server_ != nullptr) server_->StopListening();
  }
  [[nodiscard]] bool idle() const noexcept { return calls_.load(std::memory_order_relaxed) == 0; }

  void Close() {
    if (server_ != nullptr) server_->Close();
    for (const auto& upstream : upstreams_) upstream->client.reset();
    trim_timer_.Cancel();
  }

  [[nodiscard]] uint16_t port() const { return server_->port(); }
  [[nodiscard]] const SamplingProxyStats& stats() const noexcept { return stats_; }

 private:
  // A far side, and the rules it gave.
  struct Upstream {
    std::unique_ptr<RulesCache> cache;
    size_t calls = 0;                   // under way
    std::unique_ptr<AwsClient> client;  // null: there is none; goes first
  };

  // Former ones that have answered everything.
  void RemoveIdle() {
    const Upstream* const current = upstreams_.back().get();
    std::erase_if(upstreams_, [current](const auto& upstream) {
      return upstream->calls == 0 && upstream.get() != current;
    });
  }

  void OnRequest(HttpServerRequest& request, HttpServer::Responder respond) {
    if (budget_->TakePeak() >= kFlood) TrimLater();
    options_.log->Debug("sampling_request",
                        fmt::format("Received request on HTTP Proxy server : {}", request.target),
                        {{"key", request.target}});
    const std::string_view path = request.target.substr(0, request.target.find('?'));
    const bool sampling = request.method == "POST" && IsSamplingPath(path);
    Upstream* const upstream = upstreams_.back().get();
    if (!sampling && (upstream->client == nullptr || !options_.all_paths)) {
      Refuse(request, respond);
    } else if (upstream->client == nullptr) {
      stats_.local.Add();
      respond(default_rules_.Answer(path, request.body, std::chrono::steady_clock::now(),
                                    UnixSeconds()));
    } else if (sampling && request.target == kRulesPath) {
      upstream->cache->Get(std::move(request.body), std::move(respond), request.share);
    } else if (!request.target.starts_with('/')) {
      stats_.refused.Add();
      respond(ServiceError(400, "InvalidRequestException", "the target is no path"));
    } else {
      Forward(upstream, request, path == kTargetsPath, std::move(respond));
    }
  }

  void TrimLater() {
    if (std::exchange(trims_, true)) return;
    trim_timer_.Set(std::chrono::steady_clock::now() + kTrimAfter, [this] {
      trims_ = false;
      if (budget_->TakePeak() >= kFlood) {
        TrimLater();
      } else {
        ::malloc_trim(0);
      }
    });
  }

  void Refuse(const HttpServerRequest& request, const HttpServer::Responder& respond) {
    stats_.refused.Add();
    const std::string_view way = upstreams_.back()->client == nullptr
                                     ? "there is no backend of type xray to pass it on to"
                                     : "`receivers.proxy.paths: all` passes everything on";
    respond(ServiceError(
        403, "AccessDeniedException",
        fmt::format("{} {} is not for this port, which takes POST {}, {} and {} only; {}",
                    request.method.substr(0, 20), request.target.substr(0, 200), kRulesPath,
                    kTargetsPath, kSummariesPath, way)));
  }

  void FetchRules(Upstream* upstream, std::string body, Duration timeout, HttpDone done) {
    AwsClient::Request call;
    call.path = std::string(kRulesPath);
    // Not the client's: its answer may go to all.
    call.headers = {{"Content-Type", "application/json"}};
    call.body = std::move(body);
    Call(upstream, std::move(call), std::min(timeout, options_.timeout), std::move(done));
  }

  void Forward(Upstream* upstream, HttpServerRequest& request, bool targets,
               HttpServer::Responder respond) {
    AwsClient::Request call;
    call.method = std::string(request.method);
    call.path = std::string(request.target);
    call.headers = PassedRequestHeaders(request);
    size_t head = call.method.size() + call.path.size();
    for (const auto& [name, value] : call.headers) head += name.size() + value.size();
    // The call has it several times: as given, to be signed, and as sent.
    if (!request.share->Resize(request.share->bytes() + kCopiesOfHead * head)) {
      stats_.failed.Add();
      respond(TooBusy());
      return;
    }
    call.body = std::move(request.body);
    Call(upstream, std::move(call), options_.timeout,
         [this, upstream, targets, respond = std::move(respond),
          share = request.share](HttpResponse response) {
           if (targets) upstream->cache->NoteTargets(response);
           (response.transport.ok() ? stats_.forwarded : stats_.failed).Add();
           respond(PassBack(std::move(response)));
         });
  }

  // May call `done` at once.
  void Call(Upstream* upstream, AwsClient::Request call, Duration timeout, HttpDone done) {
    if (calls_ >= kCallsMax) {
      HttpResponse response;
      response.transport = absl::ResourceExhaustedError("too many calls are under way");
      response.fault = "busy";
      Tell(response);
      done(std::move(response));
      return;
    }
    ++calls_;
    ++upstream->calls;
    call.deadline = std::chrono::steady_clock::now() + timeout;
    upstream->client->Call(std::move(call),
                           [this, upstream, done = std::move(done)](HttpResponse response) {
                             --calls_;
                             Tell(response);
                             done(std::move(response));
                             --upstream->calls;
                             RemoveIdle();
                           });
  }

  void Tell(const HttpResponse& response) {
    if (!response.transport.ok()) {
      options_.log->Warn(
          "sampling_failed", "A sampling call of an SDK could not be passed on",
          {{"key", response.fault}, {"why", std::string(response.transport.message())}});
    } else if (response.status == 403) {
      options_.log->Warn("sampling_denied",
                         "X-Ray refuses the sampling calls of SDKs: allow xray:GetSamplingRules, "
                         "xray:GetSamplingTargets and xray:GetSamplingStatisticSummaries",
                         {{"code", response.Header("x-amzn-ErrorType").substr(0, 100)}});
    }
  }

  IoLoop* const loop_;
  const Options options_;
  const std::shared_ptr<ByteBudget> budget_ = std::make_shared<ByteBudget>(kBytesMax);
  SamplingProxyStats stats_;
  DefaultRules default_rules_;
  std::atomic<size_t> calls_{0};  // under way
  IoLoop::Timer trim_timer_;
  bool trims_ = false;                                // when it fires
  std::vector<std::unique_ptr<Upstream>> upstreams_;  // the last is asked, the others still answer
  std::unique_ptr<HttpServer> server_;                // goes first
};

SamplingProxy::SamplingProxy(IoLoop* loop, Options options)
    : impl_(std::make_unique<Impl>(loop, std::move(options))) {}
SamplingProxy::~SamplingProxy() { Close(); }

absl::Status SamplingProxy::Listen(PortUse use) { return impl_->Listen(use); }
void SamplingProxy::StopListening() { impl_->StopListening(); }
bool SamplingProxy::idle() const noexcept { return impl_->idle(); }
uint16_t SamplingProxy::port() const { return impl_->port(); }
void SamplingProxy::Close() { impl_->Close(); }
absl::Status SamplingProxy::SetUpstream(std::optional<AwsClient::Options> upstream) {
  return impl_->SetUpstream(std::move(upstream));
}
const SamplingProxyStats& SamplingProxy::stats() const noexcept { return impl_->stats(); }

}  // namespace mobula
