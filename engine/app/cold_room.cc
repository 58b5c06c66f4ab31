// Tested by tests/unit/engine/app/cold_room_test.cc, agent_test.cc and the e2e suite.
#include "engine/app/cold_room.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <utility>

#include "engine/app/version.h"
#include "engine/aws/xray_service.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr Duration kListenAgain = std::chrono::seconds(5);
constexpr Duration kTellUnverified = std::chrono::minutes(1);
constexpr Duration kLastReport = std::chrono::seconds(2);
constexpr Duration kOnThreadMax = std::chrono::seconds(3);

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

ColdRoom::~ColdRoom() { (void)Stop(kTimeNever); }

void ColdRoom::Run() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "cold");
    loop_.Run();
    ended_.set_value();
  });
}

bool ColdRoom::Stop(Time deadline) {
  if (!thread_.joinable()) return true;
  loop_.Stop();
  if (deadline != kTimeNever && has_ended_.wait_until(deadline) == std::future_status::timeout) {
    return false;
  }
  thread_.join();
  if (sampling_ != nullptr) sampling_->Close();
  telemetry_.clear();
  ending_.clear();
  return true;
}

bool ColdRoom::OnThread(std::function<void()> f) {
  const auto done = std::make_shared<std::promise<void>>();
  loop_.Post([f = std::move(f), done] {
    f();
    done->set_value();
  });
  if (done->get_future().wait_for(kOnThreadMax) == std::future_status::ready) return true;
  log_->Warn(
      "cold_room_slow",
      "Looking for credentials takes long: sampling port and telemetry follow when it is over");
  return false;
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
  ASSIGN_OR_RETURN(options.upstream, UpstreamOf(config_));
  return options;
}

absl::StatusOr<std::optional<AwsClient::Options>> ColdRoom::UpstreamOf(const Config& config) {
  const BackendConfig* const backend = SamplingBackend(config);
  if (backend == nullptr) return std::nullopt;
  ASSIGN_OR_RETURN(const XrayService service,
                   FindXrayService(std::get<XrayBackendConfig>(backend->settings), &aws_,
                                   Now() + kFindRegionMax));
  const HttpUrl& url = service.http.url;
  log_->Info("sampling_endpoint",
             fmt::format("HTTP Proxy server using X-Ray Endpoint : {}://{}{}",
                         url.tls ? "https" : "http", url.Authority(), url.path));
  return XrayClientOptions(service, aws_);
}

absl::Status ColdRoom::OpenSamplingPort(const std::string& udp_address, PortUse use) {
  if (config_.proxy.address == "off") return absl::OkStatus();
  ASSIGN_OR_RETURN(SamplingProxy::Options options, SamplingOptions(udp_address));
  sampling_address_ = options.address;
  sampling_port_use_ = use;
  log_->Info("sampling_port", "Starting proxy http server on " + sampling_address_);
  sampling_ = std::make_unique<SamplingProxy>(&loop_, std::move(options));
  sampling_stats_ = &sampling_->stats();
  (void)OnThread([this] { Listen(); });
  listen_again_ = Now() + kListenAgain;
  MutexLock lock(&mutex_);
  // An address that cannot be one, or a name nobody knows, is a mistake; a taken port may become free.
  return absl::IsInvalidArgument(listening_) || absl::IsNotFound(listening_)
             ? absl::Status(listening_.code(), fmt::format("receivers.proxy.address: {}",
                                                           std::string(listening_.message())))
             : absl::OkStatus();
}

void ColdRoom::Listen() {
  const absl::Status status = sampling_->Listen(sampling_port_use_);
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

absl::StatusOr<std::optional<Telemetry::Options>> ColdRoom::TelemetryOf(
    const BackendConfig& backend) {
  const auto* xray = std::get_if<XrayBackendConfig>(&backend.settings);
  if (xray == nullptr || !xray->telemetry) return std::nullopt;
  ASSIGN_OR_RETURN(const XrayService service,
                   FindXrayService(*xray, &aws_, Now() + kFindRegionMax));
  Telemetry::Options options;
  options.name = backend.name;
  options.client = XrayClientOptions(service, aws_);
  options.resource_arn = xray->resource_arn;
  options.host_facts = [this](std::function<void(HostFacts)> done) {
    aws_.FindHostFacts(std::move(done));
  };
  options.counts = [this, name = backend.name] { return counts_(name); };
  options.log = log_;
  return options;
}

absl::Status ColdRoom::Report(Telemetry::Options options) {
  std::string name = options.name;
  ASSIGN_OR_RETURN(std::unique_ptr<Telemetry> made, Telemetry::Create(&loop_, std::move(options)));
  telemetry_.emplace_back(std::move(name), std::move(made));
  return absl::OkStatus();
}

absl::Status ColdRoom::StartTelemetry(
    std::function<TelemetryCounts(std::string_view backend)> counts) {
  counts_ = std::move(counts);
  for (const BackendConfig& backend : config_.backends) {
    ASSIGN_OR_RETURN(std::optional<Telemetry::Options> options, TelemetryOf(backend));
    if (!options) continue;
    reports_ = true;
    const auto status = std::make_shared<absl::Status>();
    const bool done =
        OnThread([this, options = *std::move(options), status] { *status = Report(options); });
    if (done) RETURN_IF_ERROR(*status);
  }
  return absl::OkStatus();
}

void ColdRoom::TellUnverified() const {
  for (const BackendConfig& backend : config_.backends) {
    const auto* xray = std::get_if<XrayBackendConfig>(&backend.settings);
    if (xray == nullptr || xray->tls.verify) continue;
    log_->Warn("tls_not_verified",
               fmt::format("The certificate of backend {} is not checked ({}): whoever is in "
                           "between can read and change what is sent",
                           backend.name, config_.of_daemon ? "NoVerifySSL" : "tls.verify: false"),
               {{"key", backend.name}});
  }
}

absl::StatusOr<ColdRoom::Change> ColdRoom::Prepare(const Config& next) {
  Change change;
  change.config = next;
  if (sampling_ != nullptr) {
    const BackendConfig* const before = SamplingBackend(config_);
    const BackendConfig* const after = SamplingBackend(next);
    change.other_upstream = (before == nullptr) != (after == nullptr) ||
                            (before != nullptr && !(before->settings == after->settings));
    if (change.other_upstream) {
      ASSIGN_OR_RETURN(change.upstream, UpstreamOf(next));
    }
  }
  for (const BackendConfig& backend : next.backends) {
    const bool same = std::any_of(
        config_.backends.begin(), config_.backends.end(), [&](const BackendConfig& before) {
          return before.name == backend.name && before.settings == backend.settings;
        });
    if (same) {
      change.kept.push_back(backend.name);
      continue;
    }
    ASSIGN_OR_RETURN(std::optional<Telemetry::Options> options, TelemetryOf(backend));
    if (options) change.telemetry.push_back(*std::move(options));
  }
  return change;
}

void ColdRoom::Commit(Change change) {
  config_ = change.config;
  reports_ = reports_ || !change.telemetry.empty();
  loop_.Post([this, change = std::move(change)]() mutable {
    const auto tell = [this](std::string_view what, const absl::Status& status) {
      if (status.ok()) return;
      log_->Error("reload_incomplete", "A changed backend is not in use for everything",
                  {{"key", what}, {"error", std::string(status.message())}});
    };
    if (change.other_upstream) {
      tell("sampling", sampling_->SetUpstream(std::move(change.upstream)));
    }
    EndReports(change.kept);
    for (Telemetry::Options& options : change.telemetry) {
      options.told = options.counts();
      tell("telemetry", Report(std::move(options)));
    }
  });
}

void ColdRoom::EndReports(const std::vector<std::string>& kept) {
  const auto first =
      std::stable_partition(telemetry_.begin(), telemetry_.end(), [&](const auto& reporter) {
        return std::find(kept.begin(), kept.end(), reporter.first) != kept.end();
      });
  for (auto reporter = first; reporter != telemetry_.end(); ++reporter) {
    Telemetry* const telemetry = reporter->second.get();
    ending_.push_back(std::move(*reporter));
    telemetry->Flush(Now() + kLastReport, [this, telemetry] {
      // Not from inside its own callback.
      loop_.Post([this, telemetry] {
        std::erase_if(ending_, [&](const auto& ended) { return ended.second.get() == telemetry; });
      });
    });
  }
  telemetry_.erase(first, telemetry_.end());
}

void ColdRoom::Housekeep(Time now) {
  if (unverified_told_ == Time::min() || now - unverified_told_ >= kTellUnverified) {
    unverified_told_ = now;
    TellUnverified();
  }
  if (closed_ || now < listen_again_ || sampling_fault().empty()) return;
  listen_again_ = now + kListenAgain;
  loop_.Post([this] { Listen(); });
}

void ColdRoom::CloseSamplingPort() {
  closed_ = true;
  if (sampling_ == nullptr) return;
  loop_.Post([this] { sampling_->StopListening(); });
}

void ColdRoom::FlushTelemetry(Time deadline) {
  if (!reports_) return;
  const auto done = std::make_shared<std::promise<void>>();
  loop_.Post([this, deadline, done] {
    const auto left = std::make_shared<size_t>(telemetry_.size());
    if (telemetry_.empty()) done->set_value();
    for (const auto& [backend, telemetry] : telemetry_) {
      telemetry->Flush(deadline, [left, done] {
        if (--*left == 0) done->set_value();
      });
    }
  });
  (void)done->get_future().wait_until(deadline + std::chrono::milliseconds(200));
}

const SamplingProxyStats* ColdRoom::sampling_stats() const { return sampling_stats_; }

std::string ColdRoom::sampling_fault() const {
  MutexLock lock(&mutex_);
  return std::string(listening_.message());
}

}  // namespace mobula
