// Tested by tests/unit/backends/xray/xray_exporter_test.cc.
#include "backends/xray/xray_exporter.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "backends/xray/answer.h"
#include "backends/xray/request_body.h"
#include "backends/xray/unprocessed.h"
#include "engine/aws/xray_service.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

using std::chrono::system_clock;

constexpr size_t kAnswerBytesMax = 64 * 1024;

// Credentials that are being fetched are there within moments.
constexpr Duration kCredentialsPause = std::chrono::milliseconds(50);

ExportResult Failed(Verdict verdict, std::string_view code, std::string_view message,
                    DocumentSet taken) {
  ExportResult result;
  result.verdict = verdict;
  result.code = code;
  result.message = message;
  result.taken = taken;
  return result;
}

}  // namespace

// One call in flight. Gives its body back to the pool.
struct XrayExporter::Call {
  Call(const Batch& batch_sent, BlockPool* body_pool, RequestBody request_body)
      : batch(batch_sent), pool(body_pool), body(request_body) {}
  ~Call() { pool->Release(body.block); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  const Batch& batch;
  BlockPool* const pool;
  const RequestBody body;
  std::shared_ptr<const Credentials> credentials;
  system_clock::time_point signed_at;
  std::chrono::seconds clock_offset;  // in signed_at
  ExportDone done;
};

XrayExporter::XrayExporter(std::string_view name, XrayBackendConfig config,
                           const ExporterContext& context, WallClock wall_clock)
    : name_(name),
      config_(std::move(config)),
      context_(context),
      wall_clock_(std::move(wall_clock)) {}

XrayExporter::~XrayExporter() = default;

absl::Status XrayExporter::Start(IoLoop* loop) {
  CHECK(context_.aws != nullptr);
  ASSIGN_OR_RETURN(
      XrayService service,
      FindXrayService(config_, context_.aws, std::chrono::steady_clock::now() + kFindRegionMax));
  service.http.body_bytes_max = kAnswerBytesMax;
  host_ = service.http.url.Authority();
  path_ = service.http.url.path + "/TraceSegments";
  const bool tls = service.http.url.tls;
  ASSIGN_OR_RETURN(client_, HttpClient::Create(loop, std::move(service.http)));
  const std::string region = service.region;
  signer_ = std::make_unique<SigV4Signer>(region, "xray");
  credentials_ = std::move(service.credentials);

  // The X-Ray daemon's words, which people look for.
  context_.log->Info(
      "xray_endpoint", "Using region: " + region,
      {{"key", name_},
       {"endpoint", fmt::format("{}://{}{}", tls ? "https" : "http", host_, path_)}});
  return absl::OkStatus();
}

void XrayExporter::Export(const ExportCall& call, ExportDone done) {
  CHECK(client_ != nullptr);
  const auto credentials = credentials_->Get();
  if (!credentials.ok()) {
    const bool pending = absl::IsUnavailable(credentials.status());
    ExportResult result = Failed(pending ? Verdict::kRetry : Verdict::kHold,
                                 pending ? "credentials_pending" : "no_credentials",
                                 std::string(credentials.status().message()), call.documents);
    if (pending) result.retry_after = kCredentialsPause;
    done(std::move(result));
    return;
  }
  RequestBody body = BuildRequestBody(call.batch, call.documents, context_.pool);
  switch (body.outcome) {
    case RequestBody::Outcome::kBuilt:
      break;
    case RequestBody::Outcome::kNoMemory:
      done(Failed(Verdict::kRetry, "no_memory", "no room in the buffer for the request body",
                  call.documents));
      return;
    case RequestBody::Outcome::kTooLarge:
      done(Failed(Verdict::kTooLarge, "too_large", "the escaped document fits into no request",
                  body.taken));
      return;
  }
  const auto sent = std::make_shared<Call>(call.batch, context_.pool, body);
  sent->credentials = *credentials;
  sent->clock_offset = clock_offset_;
  sent->signed_at = wall_clock_() + clock_offset_;
  sent->done = std::move(done);
  HttpRequest request = MakeRequest(*sent, call.deadline);
  client_->Send(std::move(request),
                [this, sent](const HttpResponse& response) { OnAnswer(sent.get(), response); });
}

HttpRequest XrayExporter::MakeRequest(const Call& call, Time deadline) {
  constexpr std::string_view kJson = "application/json";
  const int64_t nanoseconds =
      std::chrono::duration_cast<std::chrono::nanoseconds>(call.signed_at.time_since_epoch())
          .count();
  std::string timestamp =
      fmt::format("{}.{:09}", nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000);
  const std::pair<std::string_view, std::string_view> signed_headers[] = {
      {"content-type", kJson}, {"host", host_}, {"x-amzn-xray-timestamp", timestamp}};
  SigV4Headers signature =
      signer_->Sign({"POST", path_, "", signed_headers, sha256_.Update(call.body.text()).Finish()},
                    *call.credentials, call.signed_at);

  HttpRequest request;
  request.target = path_;
  request.body = call.body.text();
  request.deadline = deadline;
  request.headers.reserve(6);
  request.headers.emplace_back("User-Agent", context_.aws->user_agent());
  request.headers.emplace_back("Content-Type", kJson);
  request.headers.emplace_back("X-Amzn-Xray-Timestamp", std::move(timestamp));
  request.headers.emplace_back("X-Amz-Date", std::move(signature.date));
  if (!call.credentials->session_token.empty()) {
    request.headers.emplace_back("X-Amz-Security-Token", call.credentials->session_token);
  }
  request.headers.emplace_back("Authorization", std::move(signature.authorization));
  return request;
}

void XrayExporter::OnAnswer(Call* call, const HttpResponse& response) {
  XrayAnswer answer = JudgeAnswer(response, call->signed_at);
  answer.result.taken = call->body.taken;
  answer.result.http_status = response.status;
  if (answer.result.verdict == Verdict::kDelivered) {
    refused_.reset();
    if (!answer.result.code.empty()) {
      context_.log->Warn(answer.result.code, answer.result.message, {{"key", name_}});
    }
    if (!answer.unprocessed.empty()) ReadUnprocessed(*call, &answer);
  }
  if (answer.refresh_credentials) OnCredentialsRefused(*call, &answer.result);
  if (answer.clock_error) OnClockError(*call, *answer.clock_error);
  const ExportDone done = std::move(call->done);
  done(std::move(answer.result));
}

void XrayExporter::OnCredentialsRefused(const Call& call, ExportResult* result) {
  credentials_->Invalidate(*call.credentials);
  if (refused_ != nullptr && *refused_ == *call.credentials) result->verdict = Verdict::kHold;
  refused_ = call.credentials;
}

void XrayExporter::OnClockError(const Call& call, std::chrono::seconds error) {
  // From what this call was signed with: several can be refused before the first correction is in use.
  clock_offset_ = call.clock_offset + error;
  context_.log->Warn("clock_skew", "the clock is wrong: signing with the time of X-Ray's answers",
                     {{"key", name_}, {"seconds", static_cast<int64_t>(clock_offset_.count())}});
}

void XrayExporter::ReadUnprocessed(const Call& call, XrayAnswer* answer) {
  const auto tell = [this](const XrayAnswer::Unprocessed& entry,
                           const UnprocessedMatcher::Match* match) {
    const std::string_view id = entry.id.empty() ? "without id" : std::string_view(entry.id);
    context_.log->Error(
        "segment_unprocessed",
        match != nullptr && !match->trace_id.empty()
            ? fmt::format("Unprocessed trace {}, segment {}: {}", match->trace_id, id, entry.code)
            : fmt::format("Unprocessed segment {}: {}", id, entry.code),
        {{"key", fmt::format("{}/{}", name_, entry.code)}, {"detail", entry.message}});
  };
  JoinUnprocessed(call.batch, call.body.taken, answer, tell);
}

absl::Status XrayExporter::Shutdown() {
  if (client_ != nullptr) client_->Close();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Exporter>> MakeXrayExporter(std::string_view name,
                                                           const XrayBackendConfig& config,
                                                           const ExporterContext& context) {
  if (!config.endpoint.empty()) RETURN_IF_ERROR(ParseHttpUrl(config.endpoint).status());
  return std::make_unique<XrayExporter>(name, config, context, [] { return system_clock::now(); });
}

}  // namespace mobula
