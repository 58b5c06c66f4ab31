// Tests of engine/aws/sigv4.h against requests that other implementations signed.
#include "engine/aws/sigv4.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <vector>

#include "absl/strings/match.h"

namespace mobula {
namespace {

using std::chrono::system_clock;

Credentials ExampleKeys() {
  return {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "", std::nullopt};
}

system_clock::time_point ParseAmzDate(const std::string& text) {
  std::tm parts{};
  EXPECT_NE(::strptime(text.c_str(), "%Y%m%dT%H%M%SZ", &parts), nullptr) << text;
  return system_clock::from_time_t(::timegm(&parts));
}

struct Captured {
  std::string method, path, query, body;
  std::vector<std::pair<std::string, std::string>> headers;

  [[nodiscard]] std::string Header(std::string_view name) const {
    for (const auto& [key, value] : headers) {
      if (absl::EqualsIgnoreCase(key, absl::string_view(name.data(), name.size()))) return value;
    }
    return "";
  }
};

Captured Load(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const size_t end = text.find("\r\n\r\n");
  EXPECT_NE(end, std::string::npos) << path;
  Captured out;
  out.body = text.substr(end + 4);
  size_t at = 0;
  for (bool first = true; at < end; first = false) {
    const size_t next = std::min(end, text.find("\r\n", at));
    const std::string line = text.substr(at, next - at);
    at = next + 2;
    if (first) {
      const size_t space = line.find(' ');
      out.method = line.substr(0, space);
      const std::string target = line.substr(space + 1, line.rfind(' ') - space - 1);
      const size_t mark = target.find('?');
      out.path = target.substr(0, mark);
      if (mark != std::string::npos) out.query = target.substr(mark + 1);
    } else {
      const size_t colon = line.find(": ");
      out.headers.emplace_back(line.substr(0, colon), line.substr(colon + 2));
    }
  }
  return out;
}

std::string Between(const std::string& text, const std::string& from, const std::string& to) {
  const size_t begin = text.find(from) + from.size();
  return text.substr(begin, text.find(to, begin) - begin);
}

TEST(Sha256Test, HashesKnownTexts) {
  Sha256 sha256;
  EXPECT_EQ(ToHex(sha256.Finish()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(ToHex(sha256.Update("abc").Finish()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(ToHex(sha256.Update("a").Update("").Update("bc").Finish()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(SigV4Test, AgreesWithEveryCapturedRequest) {
  int checked = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MOBULA_HTTP_CAPTURES)) {
    if (entry.path().extension() != ".http") continue;
    const Captured captured = Load(entry.path());
    const std::string authorization = captured.Header("Authorization");
    if (authorization.empty()) continue;  // unsigned by design
    ++checked;

    const std::string service = Between(authorization, "/us-east-1/", "/");
    const std::string signed_names = ";" + Between(authorization, "SignedHeaders=", ",") + ";";
    std::vector<std::pair<std::string_view, std::string_view>> headers;
    for (const auto& [name, value] : captured.headers) {
      std::string wanted = ";" + name + ";";
      std::transform(wanted.begin(), wanted.end(), wanted.begin(), ::tolower);
      if (signed_names.find(wanted) == std::string::npos || wanted == ";x-amz-date;" ||
          wanted == ";x-amz-security-token;") {
        continue;
      }
      headers.emplace_back(name, value);
    }
    Credentials credentials = ExampleKeys();
    credentials.session_token = captured.Header("X-Amz-Security-Token");
    const SigV4Request request{captured.method, captured.path, captured.query, headers,
                               Sha256().Update(captured.body).Finish()};
    SigV4Signer signer("us-east-1", service);
    const SigV4Headers mine =
        signer.Sign(request, credentials, ParseAmzDate(captured.Header("X-Amz-Date")));
    EXPECT_EQ(mine.authorization, authorization) << entry.path();
    EXPECT_EQ(mine.date, captured.Header("X-Amz-Date"));
  }
  EXPECT_GE(checked, 10);
}

TEST(SigV4Test, TheKeyFollowsSecretAndDay) {
  const std::pair<std::string_view, std::string_view> host[] = {{"host", "example.com"}};
  const SigV4Request request{"POST", "/", "", host, Sha256().Finish()};
  const auto first_day = ParseAmzDate("20260101T235959Z");
  const auto next_day = ParseAmzDate("20260102T000000Z");
  Credentials other = ExampleKeys();
  other.secret_access_key = "another";
  SigV4Signer kept("eu-west-1", "xray");
  for (const auto& [credentials, now] :
       {std::pair(ExampleKeys(), first_day), std::pair(ExampleKeys(), next_day),
        std::pair(other, next_day), std::pair(ExampleKeys(), next_day)}) {
    SigV4Signer fresh("eu-west-1", "xray");
    EXPECT_EQ(kept.Sign(request, credentials, now).authorization,
              fresh.Sign(request, credentials, now).authorization);
  }
}

TEST(SigV4Test, CanonicalFormIgnoresOrderCaseAndBlanks) {
  const std::pair<std::string_view, std::string_view> plain[] = {
      {"content-type", "a b"}, {"host", "h"}, {"x-two", "1,2"}};
  const std::pair<std::string_view, std::string_view> odd[] = {
      {"X-Two", " 1"}, {"Host", "h "}, {"Content-Type", "  a   b "}, {"x-two", "2"}};
  const auto now = ParseAmzDate("20260101T000000Z");
  SigV4Signer signer("eu-west-1", "xray");
  const auto signature = [&](std::string_view path, std::string_view query, auto& headers) {
    return signer.Sign({"GET", path, query, headers, Sha256().Finish()}, ExampleKeys(), now)
        .authorization;
  };
  const std::string expected = signature("/a/b", "a=1&b=2&b=3&c=", plain);
  EXPECT_EQ(signature("/a/b", "a=1&b=2&b=3&c=", odd), expected);
  EXPECT_EQ(signature("/x/../a//./b", "b=3&c&b=2&a=%31", plain), expected);
  EXPECT_NE(signature("/a/b/", "a=1&b=2&b=3&c=", plain), expected);
}

}  // namespace
}  // namespace mobula
