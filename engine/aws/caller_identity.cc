// Tested by tests/unit/engine/aws/caller_identity_test.cc.
#include "engine/aws/caller_identity.h"

#include <algorithm>
#include <pugixml.hpp>

#include "engine/aws/sts_answer.h"

namespace mobula {
namespace {

constexpr size_t kAccountDigits = 12;
constexpr size_t kArnBytesMax = 2048;

bool IsAccount(std::string_view text) {
  return text.size() == kAccountDigits &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Both are shown to people: nothing but what an ARN may hold gets through.
bool IsArn(std::string_view text) {
  return text.size() <= kArnBytesMax && text.starts_with("arn:") &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

}  // namespace

absl::StatusOr<CallerIdentity> ParseCallerIdentity(std::string_view body) {
  pugi::xml_document document;
  if (body.size() > kStsAnswerBytesMax ||
      !document.load_buffer(body.data(), body.size(), pugi::parse_minimal | pugi::parse_escapes,
                            pugi::encoding_utf8)) {
    return absl::FailedPreconditionError("the answer of STS is no XML of a sensible size");
  }
  const pugi::xml_node result =
      document.child("GetCallerIdentityResponse").child("GetCallerIdentityResult");
  CallerIdentity identity{result.child_value("Account"), result.child_value("Arn")};
  if (!IsAccount(identity.account) || !IsArn(identity.arn)) {
    return absl::FailedPreconditionError("the answer of STS names no account and ARN");
  }
  return identity;
}

}  // namespace mobula
