// Tested by tests/unit/backends/xray/answer_test.cc.
#include "backends/xray/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "engine/aws/aws_error.h"
#include "engine/http/http_date.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

constexpr seconds kRetryAfterMax = std::chrono::hours(1);

// The service's own faults, which pass: the common errors of AWS, in all spellings, and those of its front ends.
constexpr std::string_view kServiceFaultCodes[] = {
    "DependencyTimeoutException",
    "InternalError",
    "InternalErrorException",
    "InternalFailure",
    "InternalFailureException",
    "InternalServerError",
    "InternalServerException",
    "InternalServerErrorException",
    "InternalServiceError",
    "InternalServiceErrorException",
    "InternalServiceException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServerError",
    "ServiceException",
    "ServiceUnavailable",
    "ServiceUnavailableError",
    "ServiceUnavailableException",
    "TimeoutError",
    "TimeoutException",
};
constexpr std::string_view kTooLargeCodes[] = {"RequestEntityTooLarge", "RequestTooLarge",
                                               "RequestEntityTooLargeException"};

std::string Cut(std::string_view text, size_t bytes_max) {
  return std::string(text.substr(0, bytes_max));
}

Duration ReadRetryAfter(std::string_view text, system_clock::time_point now) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  seconds wait(0);
  if (error == std::errc() && end == text.data() + text.size()) {
    wait = seconds(std::clamp<int64_t>(number, 0, kRetryAfterMax.count()));
  } else if (const auto date = ParseHttpDate(text)) {
    wait = std::chrono::duration_cast<seconds>(*date - now);
  }
  return std::clamp(wait, seconds(0), kRetryAfterMax);
}

Verdict JudgeStatus(int status, std::string_view code) {
  if (IsAwsThrottling(code) || status == 429) return Verdict::kThrottled;
  if (IsOneOf(code, kTooLargeCodes) || status == 413) return Verdict::kTooLarge;
  if (IsOneOf(code, kServiceFaultCodes) || status == 408 || status >= 500) return Verdict::kRetry;
  // Who we are, or may do, is wrong: data must wait until somebody repairs that.
  if (status == 401 || status == 403 || status == 407) return Verdict::kHold;
  if (IsAwsCredentialFault(code) || IsAwsClockFault(code) || code.starts_with("AccessDenied") ||
      code.starts_with("MissingAuthenticationToken") || code.starts_with("IncompleteSignature")) {
    return Verdict::kHold;
  }
  // A redirect is no answer of X-Ray; it may be a portal that goes away.
  return status / 100 == 4 ? Verdict::kRefused : Verdict::kRetry;
}

// Of a single document. The code may be the number of a status, as it is in other answers of X-Ray.
Verdict JudgeEntry(std::string_view code) {
  if (IsAwsThrottling(code) || code == "429") return Verdict::kThrottled;
  const bool passes =
      IsOneOf(code, kServiceFaultCodes) || code == "408" || (code.size() == 3 && code[0] == '5');
  return passes ? Verdict::kRetry : Verdict::kRefused;
}

XrayAnswer JudgeSuccess(const HttpResponse& response) {
  XrayAnswer answer;
  const auto strange = [&answer](std::string_view what) {
    answer.result.code = "strange_answer";
    answer.result.message = what;
  };
  const bool empty = response.body.find_first_not_of(" \t\r\n") == std::string::npos;
  const std::optional<JsonValue> json = ParseJson(response.body);
  if (!json) {
    // X-Ray did not say that: a portal or a proxy stands between, or half of the answer is lost.
    if (!empty) {
      answer.result.verdict = Verdict::kRetry;
      strange(fmt::format("status {} with a body that is no JSON", response.status));
    }
    return answer;
  }
  // How the service says "no such path": with 200.
  if (const JsonValue* const output = json->Find("Output")) {
    if (const std::string_view type = output->FindString("__type"); !type.empty()) {
      answer.result.verdict = Verdict::kRefused;
      answer.result.code = BareAwsCode(type);
      answer.result.message = "the endpoint does not know this call";
      return answer;
    }
  }
  const JsonValue* const list = json->Find("UnprocessedTraceSegments");
  if (list == nullptr || list->kind == JsonValue::Kind::kNull) return answer;
  if (list->kind != JsonValue::Kind::kArray) strange("UnprocessedTraceSegments is no list");
  for (const JsonValue& entry : list->items) {
    const std::string_view code = entry.FindString("ErrorCode");
    answer.unprocessed.push_back({std::string(entry.FindString("Id")), Cut(code, kAwsCodeBytesMax),
                                  Cut(entry.FindString("Message"), kAwsMessageBytesMax),
                                  JudgeEntry(BareAwsCode(code))});
  }
  return answer;
}

XrayAnswer JudgeTransport(const HttpResponse& response) {
  XrayAnswer answer;
  switch (response.transport.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      answer.result.verdict = Verdict::kThrottled;
      break;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kInvalidArgument:
      answer.result.verdict = Verdict::kHold;
      break;
    default:
      answer.result.verdict = Verdict::kRetry;
      break;
  }
  answer.result.code = response.fault;
  answer.result.message = std::string(response.transport.message());
  return answer;
}

}  // namespace

XrayAnswer JudgeAnswer(const HttpResponse& response, system_clock::time_point signed_at) {
  if (!response.transport.ok()) return JudgeTransport(response);
  if (response.status / 100 == 2) return JudgeSuccess(response);

  XrayAnswer answer;
  AwsFault fault = ReadAwsFault(response);
  answer.result.verdict = JudgeStatus(response.status, fault.code);
  const std::optional<system_clock::time_point> date = ParseHttpDate(response.Header("date"));
  answer.result.retry_after =
      ReadRetryAfter(response.Header("retry-after"), date.value_or(signed_at));
  const AwsRefusal refusal = JudgeAwsRefusal(fault.code, response, signed_at);
  answer.refresh_credentials = refusal.credentials;
  answer.clock_error = refusal.clock_error;
  if (refusal.credentials || refusal.clock_error) answer.result.verdict = Verdict::kRetry;
  answer.result.code =
      fault.code.empty() ? fmt::format("http_{}", response.status) : std::move(fault.code);
  answer.result.message = fmt::format("status {}{}{}", response.status,
                                      fault.message.empty() ? "" : ": ", fault.message);
  return answer;
}

}  // namespace mobula
