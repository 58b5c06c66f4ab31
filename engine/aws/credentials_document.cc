// Tested by tests/unit/engine/aws/credentials_document_test.cc.
#include "engine/aws/credentials_document.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/aws/iso_time.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

constexpr size_t kTextBytesMax = 12 * 1024;  // all of it must fit into the headers of a call
constexpr double kMillisecondsMax = 7.2e12;  // the year 2198

// Fit to stand in a header.
bool IsClean(std::string_view text) {
  return text.size() <= kTextBytesMax &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

}  // namespace

absl::StatusOr<Credentials> ReadCredentials(const JsonValue& object, std::string_view what,
                                            const CredentialsMembers& members) {
  if (object.kind != JsonValue::Kind::kObject) {
    return absl::FailedPreconditionError(fmt::format("{} is no JSON object", what));
  }
  const auto wrong = [what](std::string_view member, std::string_view is) {
    return absl::FailedPreconditionError(fmt::format("{} {} {}", what, is, member));
  };
  Credentials credentials;
  credentials.access_key_id = object.FindString(members.access_key_id);
  credentials.secret_access_key = object.FindString(members.secret_access_key);
  credentials.session_token = object.FindString(members.session_token);
  if (credentials.access_key_id.empty()) return wrong(members.access_key_id, "has no");
  if (credentials.secret_access_key.empty()) return wrong(members.secret_access_key, "has no");
  for (const auto& [member, text] : {std::pair(members.access_key_id, &credentials.access_key_id),
                                     {members.secret_access_key, &credentials.secret_access_key},
                                     {members.session_token, &credentials.session_token}}) {
    if (!IsClean(*text)) return wrong(member, "has strange characters in, or too much of,");
  }
  const JsonValue* const expiry = object.Find(members.expiry);
  if (expiry == nullptr || expiry->kind == JsonValue::Kind::kNull) return credentials;
  if (expiry->kind == JsonValue::Kind::kNumber && expiry->number > 0 &&
      expiry->number < kMillisecondsMax) {
    credentials.expiry = std::chrono::system_clock::time_point(
        std::chrono::milliseconds(static_cast<int64_t>(expiry->number)));
    return credentials;
  }
  if (expiry->kind == JsonValue::Kind::kString) credentials.expiry = ParseIsoTime(expiry->string);
  if (!credentials.expiry) return wrong(members.expiry, "has no usable time in");
  return credentials;
}

absl::Status OfSource(std::string_view source, const absl::Status& status) {
  return absl::Status(status.code(), fmt::format("{}: {}", source, std::string(status.message())));
}

}  // namespace mobula
