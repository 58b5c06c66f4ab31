// The checks of each backend, one thread each, and how they are told. Tested by
// tests/unit/engine/app/live_check_test.cc and tests/e2e/live_check_test.py.
#include "engine/app/live_check.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "backends/file/record_format.h"
#include "engine/app/progress_bar.h"
#include "engine/app/version.h"
#include "engine/aws/aws_client.h"
#include "engine/aws/aws_context.h"
#include "engine/aws/aws_error.h"
#include "engine/aws/caller_identity.h"
#include "engine/aws/xray_service.h"
#include "engine/base/status_macros.h"
#include "engine/config/shown.h"
#include "engine/segment/json_quote.h"

namespace mobula {
namespace {

// No single wait may leave nothing for what comes after it. Slow metadata gets as much time as in a run.
constexpr Duration kBackendMax = kFindRegionMax + std::chrono::seconds(15);
constexpr Duration kCredentialsMax = std::chrono::seconds(8);
constexpr Duration kCallMax = std::chrono::seconds(5);
// A callback may come a little after its call's deadline.
constexpr Duration kMargin = std::chrono::seconds(1);
// The fault of a call that could not even be prepared: a file that cannot be read, a proxy that cannot be used.
constexpr std::string_view kSetup = "setup";
constexpr Duration kPoll = std::chrono::milliseconds(20);
constexpr size_t kAnswerBytesMax = 1 << 20;

Time Now() { return std::chrono::steady_clock::now(); }

// Foreign text for one line of a terminal.
std::string Line(std::string_view text) {
  constexpr size_t kBytesMax = 600;
  std::string line(text);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  return Shown(line, kBytesMax);
}

// An answer without what its row has as the fix.
std::string WithoutHelp(std::string answer, std::string_view help) {
  if (answer.ends_with(help)) answer.resize(answer.size() - help.size());
  answer.resize(answer.find_last_not_of(". ") + 1);
  return answer;
}

std::string Message(const absl::Status& status) {
  return Line({status.message().data(), status.message().size()});
}

// The loop that carries the calls, with what all backends share.
class Room {
 public:
  // Without a log: what it would say stands in the rows.
  Room(const Config& config, const Environment& environment)
      : aws_(&loop_, nullptr, Options(config, environment)), thread_([this] { loop_.Run(); }) {}
  ~Room() {
    loop_.Stop();
    thread_.join();
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  AwsContext* aws() { return &aws_; }

  // One call, waited for.
  HttpResponse Call(AwsClient::Options options, AwsClient::Request request, Time deadline) {
    struct Shared {
      std::unique_ptr<AwsClient> client;
      std::promise<HttpResponse> promise;
    };
    const auto shared = std::make_shared<Shared>();
    std::future<HttpResponse> answer = shared->promise.get_future();
    request.deadline = deadline;
    options.http.body_bytes_max = kAnswerBytesMax;
    loop_.Post(
        [this, shared, options = std::move(options), request = std::move(request)]() mutable {
          absl::StatusOr<std::unique_ptr<AwsClient>> client =
              AwsClient::Create(&loop_, std::move(options));
          if (!client.ok()) {
            shared->promise.set_value({.transport = client.status(), .fault = kSetup});
            return;
          }
          shared->client = *std::move(client);
          shared->client->Call(std::move(request), [shared](HttpResponse response) {
            shared->promise.set_value(std::move(response));
            shared->client.reset();
          });
        });
    if (answer.wait_until(deadline + kMargin) == std::future_status::ready) return answer.get();
    return {.transport = absl::DeadlineExceededError("no answer in time"), .fault = "timeout"};
  }

 private:
  static AwsContext::Options Options(const Config& config, const Environment& environment) {
    AwsContext::Options options;
    options.environment = environment;
    options.metadata = config.aws.metadata;
    options.user_agent = XrayUserAgent(kVersion, environment);
    return options;
  }

  IoLoop loop_;
  AwsContext aws_;
  std::thread thread_;
};

// A name that is being resolved cannot be stopped, and holds whoever ends the loop: such a one is left behind.
void EndSoon(std::unique_ptr<Room> room) {
  std::promise<void> promise;
  const std::future<void> ended = promise.get_future();
  std::thread([held = std::move(room), ending = std::move(promise)]() mutable {
    held.reset();
    ending.set_value();
  }).detach();
  (void)ended.wait_for(kMargin);
}

// Whether the backend answers the SDKs' questions for sampling rules.
bool ServesSampling(const Config& config, const BackendConfig& backend) {
  return config.proxy.address != "off" && SamplingBackend(config) == &backend;
}

class XrayCheck {
 public:
  XrayCheck(const BackendConfig& backend, bool sampling, Room* room,
            const std::function<void()>& step)
      : name_(backend.name),
        config_(std::get<XrayBackendConfig>(backend.settings)),
        sampling_(sampling),
        room_(room),
        step_(step),
        deadline_(Now() + kBackendMax) {}

  // How many rows Run answers.
  static size_t RowCount(const XrayBackendConfig& config, bool sampling) {
    const size_t roles = config.via.size() + (config.role.role_arn.empty() ? 0 : 1);
    return 4 + roles + (sampling ? 1 : 0) + (config.telemetry ? 1 : 0);
  }

  std::vector<LiveRow> Run() {
    if (TryRegion()) {
      TryIdentities();
      TryService();
    } else {
      Skip("credentials");
      for (const AwsRole& role : IdentityOf(config_, "").roles) Skip("role " + role.role_arn);
      Skip("endpoint");
      Skip("xray:PutTraceSegments");
    }
    TryMore();
    return std::move(rows_);
  }

 private:
  Time Within(Duration limit) const { return std::min(deadline_, Now() + limit); }

  LiveRow* Add(std::string tried, LiveResult result) {
    LiveRow row;
    row.backend = name_;
    row.tried = std::move(tried);
    row.result = result;
    rows_.push_back(std::move(row));
    step_();
    return &rows_.back();
  }
  void Skip(std::string tried) { Add(std::move(tried), LiveResult::kSkipped); }

  bool TryRegion() {
    const absl::StatusOr<FoundRegion> region =
        room_->aws()->FindRegion(config_.region, config_.profile, Within(kFindRegionMax));
    LiveRow* const row = Add("region", region.ok() ? LiveResult::kOk : LiveResult::kFailed);
    if (!region.ok()) {
      row->answer = WithoutHelp(Message(region.status()), kRegionHelp);
      row->fix = fmt::format("set backends.{}.region, or AWS_REGION", name_);
      return false;
    }
    region_ = region->name;
    row->answer = region_;
    row->source = region->source;
    return true;
  }

  // The credentials at the beginning of the chain and after each of its roles.
  void TryIdentities() {
    const AwsIdentity whole = IdentityOf(config_, region_);
    AwsIdentity identity = whole;
    identity.roles.clear();
    bool good = TryIdentity(identity, "credentials");
    for (const AwsRole& role : whole.roles) {
      identity.roles.push_back(role);
      if (good) {
        good = TryIdentity(identity, "role " + role.role_arn);
      } else {
        Skip("role " + role.role_arn);
      }
    }
    if (!good) credentials_ = nullptr;
  }

  bool TryIdentity(const AwsIdentity& identity, std::string tried) {
    const std::shared_ptr<CredentialsProvider> provider = room_->aws()->Credentials(identity);
    const Time limit = Within(kCredentialsMax);
    absl::StatusOr<CredentialsPtr> found = provider->Get();
    while (absl::IsUnavailable(found.status()) && Now() < limit) {
      std::this_thread::sleep_for(kPoll);
      found = provider->Get();
    }
    LiveRow* const row = Add(std::move(tried), found.ok() ? LiveResult::kOk : LiveResult::kFailed);
    if (!found.ok()) {
      row->answer = WithoutHelp(Message(found.status()), kCredentialsHelp);
      row->fix = !identity.roles.empty()
                     ? fmt::format(
                           "{} needs sts:AssumeRole on this role, and the role's trust "
                           "policy must name it, with the same external_id",
                           caller_.empty() ? "the identity before it" : caller_)
                 : absl::IsNotFound(found.status()) ? kCredentialsHelp
                                                    : "mend the source named";
      return false;
    }
    row->source = Line((*found)->source);
    credentials_ = provider;
    return TellAccount(identity, row);
  }

  // Whose the credentials are. That needs no permission, so a refusal means that they are no good; an STS
  // that cannot be reached or is forbidden means nothing.
  bool TellAccount(const AwsIdentity& identity, LiveRow* row) {
    const Environment& environment = room_->aws()->environment();
    absl::StatusOr<HttpClient::Options> http =
        ResolveService("sts", region_, identity.sts, environment);
    if (!http.ok()) {
      row->answer = "account unknown: " + Message(http.status());
      return true;
    }
    AwsClient::Options options;
    options.service = "sts";
    options.region = SigningRegion(region_, http->url);
    options.http = *std::move(http);
    options.credentials = credentials_;
    options.user_agent = room_->aws()->user_agent();
    AwsClient::Request request;
    request.path = "/";
    request.headers = {{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}};
    request.body = kGetCallerIdentity;
    const HttpResponse response =
        room_->Call(std::move(options), std::move(request), Within(kCallMax));
    if (!response.transport.ok()) {
      row->answer = "account unknown: STS: " + Message(response.transport);
      return true;
    }
    if (response.status == 200) {
      const absl::StatusOr<CallerIdentity> caller = ParseCallerIdentity(response.body);
      if (!caller.ok()) {
        row->answer = "account unknown: " + Message(caller.status());
        return true;
      }
      caller_ = caller->arn;
      row->account = account_ = caller->account;
      row->answer = caller->arn;
      return true;
    }
    const AwsFault fault = ReadAwsFault(response);
    if (!IsAwsCredentialFault(fault.code) && !IsAwsClockFault(fault.code)) {
      row->answer =
          fmt::format("account unknown: STS answers {} {}", response.status, Line(fault.code));
      return true;
    }
    row->result = LiveResult::kFailed;
    row->answer = Line(fmt::format("{}: {}", fault.code, fault.message));
    row->fix = FaultFix(fault.code);
    return false;
  }

  static std::string FaultFix(std::string_view code) {
    return IsAwsClockFault(code)
               ? "set the clock of this machine, and check that the secret key is whole"
               : "the keys are wrong, revoked or expired: get new ones from the source named";
  }

  HttpResponse Ask(std::string path, std::string body) {
    AwsClient::Options options = XrayClientOptions(service_, *room_->aws());
    AwsClient::Request request;
    request.path = std::move(path);
    request.headers = {{"Content-Type", "application/json"}};
    request.body = std::move(body);
    return room_->Call(std::move(options), std::move(request), Within(kCallMax));
  }

  // X-Ray looks at the permission first, and then refuses a put without documents.
  void TryService() {
    absl::StatusOr<HttpClient::Options> http =
        ResolveService("xray", region_, XrayEndpointSettings(config_), room_->aws()->environment());
    if (!http.ok()) {
      LiveRow* const row = Add("endpoint", LiveResult::kFailed);
      row->answer = Message(http.status());
      row->fix = fmt::format("mend backends.{}.endpoint, or the variable named", name_);
      Skip("xray:PutTraceSegments");
      return;
    }
    const HttpUrl url = http->url;
    proxy_ = http->proxy;
    service_ = {region_, *std::move(http), credentials_};
    const Time begin = Now();
    // Without credentials it goes out unsigned, to see whether anybody answers.
    const HttpResponse response = Ask("/TraceSegments", R"({"TraceSegmentDocuments":[]})");
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Now() - begin);

    LiveRow* const row = Add("endpoint", LiveResult::kOk);
    row->source = fmt::format("{}://{}{}", url.tls ? "https" : "http", url.Authority(), url.path);
    if (response.transport.ok()) {
      row->answer = fmt::format("answers in {} ms", took.count());
      reached_ = true;
    } else if (response.fault == "no_credentials") {
      row->result = LiveResult::kUnknown;
      row->answer = "not asked, the credentials went away: " + Message(response.transport);
    } else {
      row->result = LiveResult::kFailed;
      row->answer = fmt::format("{}: {}", response.fault, Message(response.transport));
      row->fix = TransportFix(response.fault, url);
    }
    if (!reached_ || credentials_ == nullptr) {
      Skip("xray:PutTraceSegments");
      return;
    }
    JudgePermission("xray:PutTraceSegments", response, "");
  }

  // Who named the file of authorities.
  std::string AuthoritySetting() const {
    if (!config_.tls.ca.empty()) return fmt::format("backends.{}.tls.ca", name_);
    return room_->aws()->environment()("AWS_CA_BUNDLE") ? "AWS_CA_BUNDLE"
                                                        : "ca_bundle of the profile";
  }

  std::string TransportFix(std::string_view fault, const HttpUrl& url) const {
    // TLS to the proxy itself is the one other thing that cannot be set up.
    if (fault == kSetup && !(proxy_ && proxy_->url.tls)) {
      return fmt::format("let {} name a PEM file that can be read, or take it away",
                         AuthoritySetting());
    }
    const bool connection = fault == "dns" || fault == "refused" || fault == "unreachable" ||
                            fault == "timeout" || fault == "reset" || fault == "proxy_refused" ||
                            fault == kSetup;
    if (proxy_ && connection) {
      return fmt::format(
          "the way leads through the forward proxy {}, which {} names: check that it is the right "
          "one, is up and lets {} through; NO_PROXY excepts hosts",
          proxy_->url.Authority(),
          proxy_->variable.empty() ? fmt::format("backends.{}.http_proxy", name_)
                                   : proxy_->variable,
          url.host);
    }
    if (fault == "dns") {
      return fmt::format(
          "the name {} is not known here: check region and endpoint, the DNS of the "
          "pod or VPC, and the private DNS of a VPC endpoint for X-Ray",
          url.host);
    }
    if (fault == "tls_verify") {
      return fmt::format(
          "the certificate is not one to trust: name its authority in "
          "backends.{}.tls.ca or AWS_CA_BUNDLE",
          name_);
    }
    if (fault == "tls_handshake") {
      return "something answers there that does not speak TLS as X-Ray does: check scheme and port "
             "of the endpoint, and proxies in between";
    }
    if (fault == "garbled" || fault == "invalid_request") {
      return "what answers there is no X-Ray: check the endpoint";
    }
    return "no connection: look at security groups, network policies and routes; without a way to "
           "the "
           "internet it takes a VPC endpoint for X-Ray, or HTTPS_PROXY";
  }

  void JudgePermission(std::string action, const HttpResponse& response,
                       std::string_view otherwise) {
    LiveRow* const row = Add(action, LiveResult::kOk);
    row->account = account_;
    if (!response.transport.ok()) {
      row->result = LiveResult::kFailed;
      row->answer = fmt::format("{}: {}", response.fault, Message(response.transport));
      row->fix = "try again: the endpoint answered before";
      return;
    }
    const AwsFault fault = ReadAwsFault(response);
    const std::string told =
        Line(fault.message.empty()
                 ? fmt::format("{} {}", response.status, fault.code)
                 : fmt::format("{} {}: {}", response.status, fault.code, fault.message));
    if (IsAwsCredentialFault(fault.code) || IsAwsClockFault(fault.code)) {
      row->result = LiveResult::kFailed;
      row->answer = told;
      row->fix = FaultFix(fault.code);
    } else if (response.status == 429 || IsAwsThrottling(fault.code)) {
      row->result = LiveResult::kUnknown;
      row->answer = told;
    } else if (response.status == 200 || response.status == 400) {
      row->answer = "allowed";
    } else {
      row->result = LiveResult::kFailed;
      row->answer = told;
      row->fix =
          response.status == 403
              ? fmt::format("allow {} to {}, as the policy AWSXRayDaemonWriteAccess does{}", action,
                            caller_.empty() ? "this identity" : caller_, otherwise)
              : fmt::format("what answers there is no X-Ray, or is out of order{}", otherwise);
    }
  }

  // What segments do not need, but the configuration asks for.
  void TryMore() {
    const bool able = reached_ && credentials_ != nullptr;
    if (sampling_) {
      if (able) {
        JudgePermission("xray:GetSamplingRules", Ask("/GetSamplingRules", "{}"),
                        ", or set receivers.proxy.address: off");
      } else {
        Skip("xray:GetSamplingRules");
      }
    }
    if (config_.telemetry) {
      if (able) {
        JudgePermission("xray:PutTelemetryRecords",
                        Ask("/TelemetryRecords", R"({"TelemetryRecords":[]})"),
                        fmt::format(", or set backends.{}.telemetry: false", name_));
      } else {
        Skip("xray:PutTelemetryRecords");
      }
    }
  }

  const std::string name_;
  const XrayBackendConfig config_;
  const bool sampling_;
  Room* const room_;
  const std::function<void()>& step_;
  const Time deadline_;

  std::vector<LiveRow> rows_;
  std::string region_;
  std::shared_ptr<CredentialsProvider> credentials_;  // the last of the chain; null: there are none
  std::string caller_;                                // ARN of the last identity that AWS named
  std::string account_;
  XrayService service_;
  std::optional<HttpForwardProxy> proxy_;
  bool reached_ = false;
};

// Whether the file backend could write, without making anything.
LiveRow CheckFile(const BackendConfig& backend, const FileBackendConfig& config) {
  LiveRow row;
  row.backend = backend.name;
  row.tried = "file";
  if (config.path == "-") {
    row.source = "stdout";
    row.answer = "written to stdout";
    return row;
  }
  const std::string path = FileWritten(config);
  row.source = path;
  struct stat info {};
  if (stat(path.c_str(), &info) == 0) {
    const int error = access(path.c_str(), W_OK) == 0 ? 0 : errno;
    if (error == 0 && !S_ISDIR(info.st_mode)) {
      row.answer = fmt::format("writable, {} bytes so far", info.st_size);
      return row;
    }
    row.answer = S_ISDIR(info.st_mode) ? "is a folder" : std::strerror(error);
  } else if (errno != ENOENT) {
    row.answer = std::strerror(errno);
  } else {
    // Missing folders are made too: what counts is the deepest one that is there.
    std::error_code error;
    std::filesystem::path folder = std::filesystem::absolute(path, error).parent_path();
    while (folder.has_relative_path() && !std::filesystem::exists(folder, error) && !error) {
      folder = folder.parent_path();
    }
    if (access(folder.c_str(), W_OK | X_OK) == 0) {
      row.answer = "can be made";
      return row;
    }
    row.answer = fmt::format("{}: {}", folder.string(), std::strerror(errno));
  }
  row.result = LiveResult::kFailed;
  row.fix =
      fmt::format("let user {} write there, or change backends.{}.path", geteuid(), backend.name);
  return row;
}

std::string_view ResultName(LiveResult result) {
  switch (result) {
    case LiveResult::kOk:
      return "ok";
    case LiveResult::kFailed:
      return "failed";
    case LiveResult::kUnknown:
      return "unknown";
    case LiveResult::kSkipped:
      return "skipped";
  }
  return "unknown";
}

std::string_view ResultColour(LiveResult result) {
  constexpr std::string_view kGreen = "\x1b[32m";
  constexpr std::string_view kRed = "\x1b[31m";
  constexpr std::string_view kYellow = "\x1b[33m";
  if (result == LiveResult::kOk) return kGreen;
  return result == LiveResult::kFailed ? kRed : kYellow;
}

// What shows that a check is under way, and how far.
void WaitShowingProgress(std::future<std::vector<LiveRow>>* rows, const std::atomic<size_t>& done,
                         size_t total) {
  ProgressBar progress(STDERR_FILENO, true);
  while (rows->wait_for(std::chrono::milliseconds(100)) != std::future_status::ready) {
    progress.Update(done.load(), total, Now());
  }
}

}  // namespace

size_t LiveRowCount(const Config& config) {
  size_t count = 0;
  for (const BackendConfig& backend : config.backends) {
    const auto* const xray = std::get_if<XrayBackendConfig>(&backend.settings);
    count += xray == nullptr ? 1 : XrayCheck::RowCount(*xray, ServesSampling(config, backend));
  }
  return count;
}

std::vector<LiveRow> RunLiveCheck(const Config& config, const Environment& environment,
                                  const std::function<void()>& step) {
  auto room = std::make_unique<Room>(config, environment);
  std::vector<std::vector<LiveRow>> found(config.backends.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < config.backends.size(); ++i) {
    const BackendConfig& backend = config.backends[i];
    if (const auto* const file = std::get_if<FileBackendConfig>(&backend.settings)) {
      found[i] = {CheckFile(backend, *file)};
      step();
    } else if (std::holds_alternative<NullBackendConfig>(backend.settings)) {
      found[i] = {{backend.name, "null", LiveResult::kOk, "", "", "keeps nothing", ""}};
      step();
    } else {
      threads.emplace_back([&, i] {
        found[i] = XrayCheck(config.backends[i], ServesSampling(config, config.backends[i]),
                             room.get(), step)
                       .Run();
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
  EndSoon(std::move(room));
  std::vector<LiveRow> rows;
  for (std::vector<LiveRow>& part : found) {
    for (LiveRow& row : part) rows.push_back(std::move(row));
  }
  return rows;
}

bool LivePassed(const std::vector<LiveRow>& rows) {
  return std::none_of(rows.begin(), rows.end(),
                      [](const LiveRow& row) { return row.result == LiveResult::kFailed; });
}

std::string LiveTable(const std::vector<LiveRow>& rows, bool colour) {
  size_t tried = std::string_view("TRIED").size();
  size_t account = std::string_view("ACCOUNT").size();
  size_t source = std::string_view("SOURCE").size();
  for (const LiveRow& row : rows) {
    tried = std::max(tried, row.tried.size());
    account = std::max(account, row.account.size());
    source = std::max(source, row.source.size());
  }
  std::string text;
  const std::string* backend = nullptr;
  std::set<std::string_view> told;
  for (const LiveRow& row : rows) {
    if (backend == nullptr || *backend != row.backend) {
      text += fmt::format("{}backend {}\n  {:<7}  {:<{}}  {:<{}}  {:<{}}  ANSWER\n",
                          backend == nullptr ? "" : "\n", row.backend, "RESULT", "TRIED", tried,
                          "SOURCE", source, "ACCOUNT", account);
      backend = &row.backend;
    }
    std::string line = fmt::format("{:<{}}  {:<{}}  {:<{}}  {}", row.tried, tried, row.source,
                                   source, row.account, account, row.answer);
    line.erase(line.find_last_not_of(' ') + 1);
    text += fmt::format("  {}{:<7}{}  {}\n", colour ? ResultColour(row.result) : "",
                        ResultName(row.result), colour ? "\x1b[0m" : "", line);
    // What mends several is said once.
    if (!row.fix.empty() && told.insert(row.fix).second) {
      text += fmt::format("           -> {}\n", row.fix);
    }
  }
  return text;
}

std::string LiveJson(const std::vector<LiveRow>& rows) {
  std::string text = fmt::format("{{\"ok\":{},\"checks\":[", LivePassed(rows));
  for (const LiveRow& row : rows) {
    if (&row != rows.data()) text += ',';
    text += fmt::format(
        "{{\"backend\":{},\"tried\":{},\"result\":\"{}\",\"source\":{},\"account\":{},\"answer\":{}"
        ","
        "\"fix\":{}}}",
        JsonQuote(row.backend), JsonQuote(row.tried), ResultName(row.result), JsonQuote(row.source),
        JsonQuote(row.account), JsonQuote(row.answer), JsonQuote(row.fix));
  }
  return text + "]}\n";
}

int LiveCheck(const Config& config, OutputForm form) {
  std::atomic<size_t> done{0};
  std::promise<std::vector<LiveRow>> promise;
  std::future<std::vector<LiveRow>> answer = promise.get_future();
  std::thread thread(
      [&] { promise.set_value(RunLiveCheck(config, ProcessEnvironment(), [&] { ++done; })); });
  WaitShowingProgress(&answer, done, LiveRowCount(config));
  thread.join();
  const std::vector<LiveRow> rows = answer.get();
  const std::string text = IsJson(form) ? LiveJson(rows) : LiveTable(rows, HasColour());
  std::fputs(text.c_str(), stdout);
  return LivePassed(rows) ? 0 : 1;
}

}  // namespace mobula
