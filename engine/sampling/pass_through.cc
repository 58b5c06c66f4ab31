// Tested by tests/unit/engine/sampling/pass_through_test.cc.
#include "engine/sampling/pass_through.h"

#include <fmt/format.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "engine/segment/json_quote.h"

namespace mobula {
namespace {

absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }

bool SameName(std::string_view a, std::string_view b) {
  return absl::EqualsIgnoreCase(ToAbsl(a), ToAbsl(b));
}

bool BeginsWith(std::string_view name, std::string_view prefix) {
  return absl::StartsWithIgnoreCase(ToAbsl(name), ToAbsl(prefix));
}

// Whether a Connection header names `name`: then it is meant for the next machine only.
template <typename Headers>
bool IsNamedByConnection(const Headers& headers, std::string_view name) {
  return std::any_of(headers.begin(), headers.end(), [&](const auto& header) {
    if (!SameName(header.first, "Connection")) return false;
    const std::vector<absl::string_view> names = absl::StrSplit(ToAbsl(header.second), ',');
    return std::any_of(names.begin(), names.end(), [&](absl::string_view token) {
      return absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(token), ToAbsl(name));
    });
  });
}

bool IsPassedOn(std::string_view name) {
  return SameName(name, "Content-Type") || SameName(name, "Accept") ||
         SameName(name, "X-Amz-Target") || BeginsWith(name, "X-Amzn-") ||
         BeginsWith(name, "Amz-Sdk-");
}

// Signers and servers agree on how these are signed, and on no others.
bool IsPlain(std::string_view value) {
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

bool IsOfConnection(std::string_view name) {
  constexpr std::string_view kNames[] = {"Connection",        "Keep-Alive", "TE",
                                         "Trailer",           "Upgrade",    "Content-Length",
                                         "Transfer-Encoding", "Alt-Svc"};
  return BeginsWith(name, "Proxy-") ||
         std::any_of(std::begin(kNames), std::end(kNames),
                     [name](std::string_view known) { return SameName(name, known); });
}

HttpReply NoAnswer(const HttpResponse& response) {
  if (absl::IsResourceExhausted(response.transport)) return TooBusy();
  if (absl::IsDeadlineExceeded(response.transport)) {
    return ServiceError(504, "GatewayTimeout", "X-Ray did not answer in time");
  }
  return ServiceError(502, "BadGateway",
                      response.fault == "no_credentials"
                          ? "the agent has no credentials for X-Ray; its log says why"
                          : "X-Ray gave no answer; the agent's log says why");
}

// A text with what counts it.
struct CountedText {
  std::string text;
  std::shared_ptr<ByteShare> share;
};

}  // namespace

HttpHeaders PassedRequestHeaders(const HttpServerRequest& request) {
  HttpHeaders passed;
  for (const auto& [name, value] : request.headers) {
    const bool again =
        std::any_of(passed.begin(), passed.end(),
                    [&name = name](const auto& header) { return SameName(header.first, name); });
    if (again || !IsPassedOn(name) || !IsPlain(value) ||
        IsNamedByConnection(request.headers, name)) {
      continue;
    }
    passed.emplace_back(name, value);
  }
  return passed;
}

HttpReply PassBack(HttpResponse response) {
  if (!response.transport.ok()) return NoAnswer(response);
  HttpReply reply;
  reply.status = response.status;
  reply.content_type.clear();
  const auto body = std::make_shared<const CountedText>(
      CountedText{std::move(response.body), std::move(response.share)});
  reply.shared_body = std::shared_ptr<const std::string>(body, &body->text);
  for (auto& [name, value] : response.headers) {
    if (IsOfConnection(name) || IsNamedByConnection(response.headers, name)) continue;
    reply.headers.emplace_back(name, value);
  }
  return reply;
}

HttpReply TooBusy() {
  HttpReply reply = ServiceError(503, "ServiceUnavailable", "too many requests at once, try again");
  reply.headers.emplace_back("Retry-After", "1");
  return reply;
}

HttpReply ServiceError(int status, std::string_view code, std::string_view message) {
  HttpReply reply;
  reply.status = status;
  reply.content_type = "application/json";
  reply.body = fmt::format(R"({{"__type":{},"Message":{}}})", JsonQuote(code), JsonQuote(message));
  reply.headers = {{"x-amzn-ErrorType", std::string(code)}};
  return reply;
}

}  // namespace mobula
