// Tested by tests/unit/engine/aws/aws_error_test.cc and tests/fuzz/aws_error_fuzz.cc.
#include "engine/aws/aws_error.h"

#include <fmt/format.h>

#include <initializer_list>

#include "engine/http/http_date.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

// AWS accepts signatures of five minutes; nearer clocks are not the reason.
constexpr seconds kClockErrorMin = std::chrono::minutes(4);

constexpr std::string_view kThrottlingCodes[] = {
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
};
constexpr std::string_view kCredentialCodes[] = {
    "ExpiredToken",         "ExpiredTokenException",
    "InvalidClientTokenId", "InvalidClientTokenIdException",
    "TokenRefreshRequired", "UnrecognizedClientException",
};
constexpr std::string_view kClockCodes[] = {
    "RequestExpired",        "RequestExpiredException", "RequestInTheFuture",
    "RequestTimeTooSkewed",  "InvalidSignature",        "InvalidSignatureException",
    "SignatureDoesNotMatch",
};

// The text of the first element `name` of an XML body.
std::string_view XmlText(std::string_view body, std::string_view name) {
  const std::string begin = fmt::format("<{}>", name);
  const size_t from = body.find(begin);
  if (from == std::string_view::npos) return {};
  body.remove_prefix(from + begin.size());
  return body.substr(0, body.find('<'));
}

}  // namespace

std::string_view BareAwsCode(std::string_view code) noexcept {
  code = code.substr(0, code.find(':'));
  const size_t hash = code.rfind('#');
  if (hash != std::string_view::npos) code.remove_prefix(hash + 1);
  return code.substr(0, kAwsCodeBytesMax);
}

AwsFault ReadAwsFault(const HttpResponse& response) {
  std::string_view code = BareAwsCode(response.Header("x-amzn-errortype"));
  std::string_view message;
  const std::optional<JsonValue> json = ParseJson(response.body);
  const auto first_of = [&](std::initializer_list<std::string_view> names) {
    std::string_view found;
    for (const std::string_view name : names) {
      if (found.empty()) found = json->FindString(name);
    }
    return found;
  };
  if (json) {
    if (code.empty()) code = BareAwsCode(first_of({"__type", "code", "Code"}));
    message = first_of({"message", "Message", "errorMessage"});
  } else {
    if (code.empty()) code = BareAwsCode(XmlText(response.body, "Code"));
    message = XmlText(response.body, "Message");
  }
  return {std::string(code), std::string(message.substr(0, kAwsMessageBytesMax))};
}

AwsRefusal JudgeAwsRefusal(std::string_view code, const HttpResponse& response,
                           system_clock::time_point signed_at) {
  AwsRefusal refusal;
  refusal.credentials = IsAwsCredentialFault(code);
  if (!IsAwsClockFault(code)) return refusal;
  const std::optional<system_clock::time_point> date = ParseHttpDate(response.Header("date"));
  if (!date) return refusal;
  const auto error = std::chrono::duration_cast<seconds>(*date - signed_at);
  if (error > kClockErrorMin || error < -kClockErrorMin) refusal.clock_error = error;
  return refusal;
}

bool IsAwsThrottling(std::string_view code) noexcept { return IsOneOf(code, kThrottlingCodes); }
bool IsAwsCredentialFault(std::string_view code) noexcept {
  return IsOneOf(code, kCredentialCodes);
}
bool IsAwsClockFault(std::string_view code) noexcept { return IsOneOf(code, kClockCodes); }

}  // namespace mobula
