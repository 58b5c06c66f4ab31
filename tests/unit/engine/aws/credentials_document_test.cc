// Tests of engine/aws/credentials_document.h and iso_time.h. How the sources use them, and which documents are refused,
// is in the tests of each source.
#include "engine/aws/credentials_document.h"

#include <gtest/gtest.h>

#include "engine/aws/iso_time.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

std::optional<int64_t> Parse(std::string_view text) {
  const auto time = ParseIsoTime(text);
  if (!time) return std::nullopt;
  return std::chrono::duration_cast<std::chrono::seconds>(time->time_since_epoch()).count();
}

TEST(IsoTimeTest, Times) {
  EXPECT_EQ(Parse("2026-01-01T00:00:00Z"), 1767225600);
  EXPECT_EQ(Parse("2026-01-01t00:00:00z"), 1767225600);
  EXPECT_EQ(Parse("2026-01-01T00:00:00UTC"), 1767225600);
  EXPECT_EQ(Parse("2026-01-01 00:00:00.999999999Z"), 1767225600);
  EXPECT_EQ(Parse("2026-01-01T02:30:00+02:30"), 1767225600);
  EXPECT_EQ(Parse("2025-12-31T19:00:00-0500"), 1767225600);
  EXPECT_EQ(Parse("2024-02-29T23:59:60Z"), 1709251200);
  EXPECT_EQ(Parse("1970-01-01T00:00:00Z"), 0);
}

TEST(IsoTimeTest, WhatIsNone) {
  for (const char* text : {"",
                           "2026",
                           "2026-01-01",
                           "2026-01-01T00:00:00",
                           "2026-01-01T00:00Z",
                           "2026-13-01T00:00:00Z",
                           "2026-02-29T00:00:00Z",
                           "2026-01-01T24:00:00Z",
                           "2026-01-01T00:60:00Z",
                           "2026-01-01T00:00:61Z",
                           "2026-01-01T00:00:00.Z",
                           "2026-01-01T00:00:00.1",
                           "1969-01-01T00:00:00Z",
                           "9999-01-01T00:00:00Z",
                           "2026-01-01T00:00:00+24:00",
                           "2026-01-01T00:00:00+1",
                           "2026-01-01T00:00:00ZZ",
                           " 2026-01-01T00:00:00Z",
                           "2026-01-01X00:00:00Z",
                           "-026-01-01T00:00:00Z",
                           "2026-00-10T00:00:00Z",
                           "2026-01-00T00:00:00Z"}) {
    EXPECT_EQ(Parse(text), std::nullopt) << text;
  }
}

TEST(CredentialsDocumentTest, NumbersOfMilliseconds) {
  const auto read = [](const char* expiry) {
    const auto json =
        ParseJson(std::string(R"({"AccessKeyId": "i", "SecretAccessKey": "s", "Expiration": )") +
                  expiry + "}");
    return ReadCredentials(*json, "it", {});
  };
  EXPECT_EQ(read("1767225600000")->expiry, std::chrono::system_clock::from_time_t(1767225600));
  for (const char* expiry : {"0", "-1", "1e30", "1e400", "[]", "\"\""}) {
    const auto json = ParseJson(expiry);
    if (!json) continue;  // not even JSON
    EXPECT_FALSE(read(expiry).ok()) << expiry;
  }
}

TEST(CredentialsDocumentTest, MessagesNameTheMemberAndNotWhatItHolds) {
  const auto json = ParseJson(R"({"AccessKeyId": "hunter2", "SecretAccessKey": "hunter 2"})");
  EXPECT_EQ(ReadCredentials(*json, "it", {}).status(),
            absl::FailedPreconditionError(
                "it has strange characters in, or too much of, SecretAccessKey"));
  EXPECT_EQ(OfSource("container", absl::UnavailableError("no")),
            absl::UnavailableError("container: no"));
}

}  // namespace
}  // namespace mobula
