// Tested by tests/unit/engine/app/agent_test.cc and the e2e suite.
#include "engine/app/cold_room.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <future>
#include <utility>

#include "engine/app/version.h"
#include "engine/aws/xray_service.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr Duration kListenAgain = std::chrono::seconds(5);

Time Now() { return std::chrono::steady_clock::now(); }

AwsContext::Options AwsOptions(const Config& config) {
  AwsContext::Options options;
  options.environment = ProcessEnvironment();
  options.metadata = config.aws.metadata;
  options.of_daemon = config.of_daemon;
  options.user_agent = XrayUserAgent(kVersion, options.environment);
  return options;
}

}  // namespace

ColdRoom::ColdRoom(const Config& config, Log* log)
    : config_(config), log_(log), aws_(&loop_, log, AwsOptions(config)) {}

ColdRoom::~ColdRoom() {
  if (!thread_.joinable()) return;
  OnThread([this] {
    if (sampling_ != nullptr) sampling_->Close();
    telemetry_.clear();
    loop_.Stop();
  });
  thread_.join();
}

void ColdRoom::Run() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "cold");
    loop_.Run();
  });
}

void ColdRoom::OnThread(const std::function<void()>& f) {
  std::promise<void> done;
  loop_.Post([&] {
    f();
    done.set_value();
  });
  done.get_future().wait();
}

absl::StatusOr<SamplingProxy::Options> ColdRoom::SamplingOptions(const std::string& udp_address) {
  SamplingProxy::Options options;
  options.address = config_.proxy.address;
  if (options.address == "auto") {
    // ":2000" of UDP means both families; what is bound then reads "[::]:2000".
    options.address = config_.udp.address.front() == ':'
                          ? udp_address.substr(udp_address.rfind(':'))
                          : udp_address;
  }
  options.all_paths = config_.proxy.paths == ProxyPaths::kAll;
  options.rules_age = config_.proxy.rules_age;
  options.log = log_;
  if (const BackendConfig* backend = SamplingBackend(config_)) {
    ASSIGN_OR_RETURN(const XrayService service,
                     FindXrayService(std::get<XrayBackendConfig>(backend->settings), &aws_,
                                     Now() + kFindRegionMax));
    options.upstream = XrayClientOptions(service, aws_);
    const HttpUrl& url = service.http.url;
    log_->Info("sampling_endpoint",
               fmt::format("HTTP Proxy server using X-Ray Endpoint : {}://{}{}",
                           url.tls ? "https" : "http", url.Authority(), url.path));
  }
  return options;
}

absl::Status ColdRoom::OpenSamplingPort(const std::string& udp_address) {
  if (config_.proxy.address == "off") return absl::OkStatus();
  ASSIGN_OR_RETURN(SamplingProxy::Options options, SamplingOptions(udp_address));
  sampling_address_ = options.address;
  log_->Info("sampling_port", "Starting proxy http server on " + sampling_address_);
  OnThread([&] {
    sampling_ = std::make_unique<SamplingProxy>(&loop_, std::move(options));
    Listen();
  });
  MutexLock lock(&mutex_);
  // An address that cannot be one, or a name nobody knows, is a mistake; a taken port may become free.
  return absl::IsInvalidArgument(listening_) || absl::IsNotFound(listening_)
             ? absl::Status(listening_.code(), fmt::format("receivers.proxy.address: {}",
                                                           std::string(listening_.message())))
             : absl::OkStatus();
}

void ColdRoom::Listen() {
  const absl::Status status = sampling_->Listen();
  if (!status.ok()) {
    log_->Error("sampling_port_failed", fmt::format("proxy http server failed to listen: {}",
                                                    std::string(status.message())));
  }
  MutexLock lock(&mutex_);
  if (status.ok() && !listening_.ok()) {
    log_->Info("sampling_port", "Started proxy http server on " + sampling_address_);
  }
  listening_ = status;
}

absl::Status ColdRoom::StartTelemetry(
    const std::function<TelemetryCounts(size_t backend)>& counts) {
  for (size_t i = 0; i < config_.backends.size(); ++i) {
    const auto* xray = std::get_if<XrayBackendConfig>(&config_.backends[i].settings);
    if (xray == nullptr || !xray->telemetry) continue;
    ASSIGN_OR_RETURN(const XrayService service,
                     FindXrayService(*xray, &aws_, Now() + kFindRegionMax));
    Telemetry::Options options;
    options.name = config_.backends[i].name;
    options.client = XrayClientOptions(service, aws_);
    options.resource_arn = xray->resource_arn;
    options.host_facts = [this](std::function<void(HostFacts)> done) {
      aws_.FindHostFacts(std::move(done));
    };
    options.counts = [counts, i] { return counts(i); };
    options.log = log_;
    absl::Status status;
    OnThread([&] {
      auto made = Telemetry::Create(&loop_, std::move(options));
      status = made.status();
      if (made.ok()) telemetry_.push_back(*std::move(made));
    });
    RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

void ColdRoom::Housekeep(Time now) {
  if (sampling_fault().empty()) {
    listen_again_ = now + kListenAgain;
  } else if (now >= listen_again_) {
    listen_again_ = now + kListenAgain;
    loop_.Post([this] { Listen(); });
  }
}

void ColdRoom::CloseSamplingPort() {
  if (sampling_ == nullptr) return;
  OnThread([this] { sampling_->Close(); });
}

void ColdRoom::FlushTelemetry(Time deadline) {
  if (telemetry_.empty()) return;
  const auto left = std::make_shared<std::atomic<size_t>>(telemetry_.size());
  const auto done = std::make_shared<std::promise<void>>();
  loop_.Post([this, deadline, left, done] {
    for (const auto& telemetry : telemetry_) {
      telemetry->Flush(deadline, [left, done] {
        if (left->fetch_sub(1) == 1) done->set_value();
      });
    }
  });
  (void)done->get_future().wait_until(deadline + std::chrono::milliseconds(200));
}

const SamplingProxyStats* ColdRoom::sampling_stats() const {
  return sampling_ == nullptr ? nullptr : &sampling_->stats();
}

std::string ColdRoom::sampling_fault() const {
  MutexLock lock(&mutex_);
  return std::string(listening_.message());
}

}  // namespace mobula
