// STS's answers over pugixml. Tested by
// tests/unit/engine/aws/sts_answer_test.cc and tests/fuzz/sts_fuzz.cc.
#include "engine/aws/sts_answer.h"

#include <fmt/format.h>

#include <pugixml.hpp>

#include "engine/aws/credentials_document.h"
#include "engine/segment/json_reader.h"

namespace mobula {

absl::StatusOr<Credentials> ParseStsAnswer(std::string_view body, std::string_view action) {
  if (body.size() > kStsAnswerBytesMax) {
    return absl::FailedPreconditionError("the answer of STS is too long");
  }
  pugi::xml_document document;
  if (!document.load_buffer(body.data(), body.size(), pugi::parse_minimal | pugi::parse_escapes,
                            pugi::encoding_utf8)) {
    return absl::FailedPreconditionError("the answer of STS is no XML");
  }
  const pugi::xml_node credentials = document.child(fmt::format("{}Response", action).c_str())
                                         .child(fmt::format("{}Result", action).c_str())
                                         .child("Credentials");
  if (!credentials) {
    return absl::FailedPreconditionError(
        fmt::format("the answer of STS is no {}Response with Credentials", action));
  }
  // Judged as the documents of all other sources are.
  JsonValue object;
  object.kind = JsonValue::Kind::kObject;
  for (const char* const name : {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}) {
    const std::string_view text = credentials.child_value(name);
    if (text.empty()) {
      return absl::FailedPreconditionError(fmt::format("the answer of STS has no {}", name));
    }
    JsonValue value;
    value.kind = JsonValue::Kind::kString;
    value.string = text;
    object.members.push_back({name, std::move(value)});
  }
  CredentialsMembers members;
  members.session_token = "SessionToken";
  return ReadCredentials(object, "the answer of STS", members);
}

}  // namespace mobula
