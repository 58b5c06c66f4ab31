// What a refusal of any AWS service means for the clock and the credentials of the call.
//
// Room:   warm.
// Errors: every sequence of bytes has a meaning; none is an error here.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include "engine/http/http_client.h"

namespace mobula {

// What is kept of a foreign code and message.
inline constexpr size_t kAwsCodeBytesMax = 100;
inline constexpr size_t kAwsMessageBytesMax = 500;

template <size_t N>
bool IsOneOf(std::string_view code, const std::string_view (&codes)[N]) noexcept {
  return std::find(std::begin(codes), std::end(codes), code) != std::end(codes);
}

// What an answer says of itself, in the header, the JSON or the XML of either protocol, cut to that.
struct AwsFault {
  std::string code;  // without name space: "AccessDenied"; may be empty
  std::string message;
};
AwsFault ReadAwsFault(const HttpResponse& response);

// "com.amazonaws.xray#InvalidRequestException:http://…" is InvalidRequestException. Cut to kAwsCodeBytesMax.
std::string_view BareAwsCode(std::string_view code) noexcept;

struct AwsRefusal {
  // The credentials are not, or no longer, accepted: get new ones, then try again.
  bool credentials = false;
  // How far the far side's clock is ahead of the one the call was signed by, if that is why it was refused.
  std::optional<std::chrono::seconds> clock_error;
};
// `code` of the answer's fault; `signed_at` is the time in the call's signature.
AwsRefusal JudgeAwsRefusal(std::string_view code, const HttpResponse& response,
                           std::chrono::system_clock::time_point signed_at);

// The codes that standard AWS clients take for throttling, whatever the status.
bool IsAwsThrottling(std::string_view code) noexcept;
// Codes that blame the credentials, and those that blame clock or signature.
bool IsAwsCredentialFault(std::string_view code) noexcept;
bool IsAwsClockFault(std::string_view code) noexcept;

}  // namespace mobula
