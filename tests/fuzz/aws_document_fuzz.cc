// What credential endpoints, programs and metadata services hand out, as JSON, and STS's word on who we are: any bytes
// are values fit for a header or a host name, or an error that quotes nothing of them. Beside it the reader of JSON
// itself: what it understood, written again, reads the same.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/aws/caller_identity.h"
#include "engine/aws/credentials_document.h"
#include "engine/aws/region_document.h"
#include "engine/base/aws_region.h"
#include "engine/segment/json_quote.h"
#include "engine/segment/json_reader.h"
#include "fmt/format.h"
#include "tests/fuzz/expect.h"

namespace {

using mobula::JsonValue;

std::string Written(const JsonValue& value) {
  std::string text;
  switch (value.kind) {
    case JsonValue::Kind::kNull:
      return "null";
    case JsonValue::Kind::kBool:
      return value.boolean ? "true" : "false";
    case JsonValue::Kind::kNumber:
      return fmt::format("{:.17g}", value.number);
    case JsonValue::Kind::kString:
      return mobula::JsonQuote(value.string);
    case JsonValue::Kind::kArray:
      for (const JsonValue& item : value.items) {
        text += (text.empty() ? "" : ",") + Written(item);
      }
      return "[" + text + "]";
    case JsonValue::Kind::kObject:
      for (const auto& [name, member] : value.members) {
        text += (text.empty() ? "" : ",") + mobula::JsonQuote(name) + ":" + Written(member);
      }
      return "{" + text + "}";
  }
  return text;
}

bool Same(const JsonValue& a, const JsonValue& b) {
  return a.kind == b.kind && a.boolean == b.boolean && a.number == b.number &&
         a.string == b.string &&
         std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), Same) &&
         std::equal(a.members.begin(), a.members.end(), b.members.begin(), b.members.end(),
                    [](const auto& x, const auto& y) {
                      return x.name == y.name && Same(x.value, y.value);
                    });
}

bool IsClean(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

// No text of the document that could be a secret stands in the message, whose own words have no digits.
void ExpectUnquoted(const JsonValue& value, std::string_view message) {
  if (value.string.find_first_of("0123456789") != value.string.npos) {
    EXPECT(message.find(value.string) == message.npos);
  }
  for (const JsonValue& item : value.items) ExpectUnquoted(item, message);
  for (const auto& member : value.members) ExpectUnquoted(member.value, message);
}

void ExpectError(const absl::Status& status, const JsonValue& document) {
  const std::string_view message(status.message().data(), status.message().size());
  EXPECT(!message.empty() && message.size() < 200);
  ExpectUnquoted(document, message);
}

void TryCredentials(const JsonValue& document, const mobula::CredentialsMembers& members) {
  const auto found = mobula::ReadCredentials(document, "the answer", members);
  if (!found.ok()) return ExpectError(found.status(), document);
  EXPECT(!found->access_key_id.empty() && IsClean(found->access_key_id));
  EXPECT(!found->secret_access_key.empty() && IsClean(found->secret_access_key));
  EXPECT(IsClean(found->session_token));
  EXPECT(found->access_key_id == document.FindString(members.access_key_id));
  const JsonValue* const expiry = document.Find(members.expiry);
  EXPECT(found->expiry.has_value() ==
         (expiry != nullptr && expiry->kind != JsonValue::Kind::kNull));
  if (found->expiry) {
    EXPECT(found->expiry->time_since_epoch() > -std::chrono::hours(24));
    EXPECT(found->expiry->time_since_epoch() < std::chrono::hours(24 * 366 * 231));
  }
}

void TryRegion(const absl::StatusOr<std::string>& region, const JsonValue& document) {
  if (!region.ok()) return ExpectError(region.status(), document);
  EXPECT(mobula::IsAwsRegion(*region));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(data, data + size);
  if (const auto identity = mobula::ParseCallerIdentity(text); identity.ok()) {
    EXPECT(identity->account.size() == 12 && IsClean(identity->account));
    EXPECT(identity->arn.starts_with("arn:") && IsClean(identity->arn));
  }
  const std::optional<JsonValue> document = mobula::ParseJson(text);
  if (!document) {
    EXPECT(!mobula::RegionOfTask(text).ok());
    EXPECT(!mobula::RegionOfInstance(text).ok());
    return 0;
  }
  const std::optional<JsonValue> again = mobula::ParseJson(Written(*document));
  EXPECT(again.has_value() && Same(*document, *again));
  // The container's and the instance's, a credential_process's and the SSO portal's.
  TryCredentials(*document, {});
  TryCredentials(*document, {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"});
  if (const JsonValue* const role = document->Find("roleCredentials")) {
    TryCredentials(*role, {"accessKeyId", "secretAccessKey", "sessionToken", "expiration"});
  }
  TryRegion(mobula::RegionOfTask(text), *document);
  TryRegion(mobula::RegionOfInstance(text), *document);
  return 0;
}
