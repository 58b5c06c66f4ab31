// The signer of engine/aws/sigv4.h against libcurl's: both sign the same request, as a server receives it.
#include <curl/curl.h>
#include <gtest/gtest.h>

#include <cctype>
#include <ctime>
#include <string>
#include <vector>

#include "engine/aws/sigv4.h"
#include "tests/support/scripted_server.h"

namespace mobula {
namespace {

TEST(SigV4CurlTest, SignsAsLibcurlDoes) {
  for (const std::string& token : {std::string(), std::string("Fwo/GZX+token==")}) {
    testing::PeerRequest seen;
    testing::ScriptedServer server([&](testing::Peer& peer) {
      seen = *peer.Read();
      peer.Reply(200, "{}");
      peer.WaitForEnd();
    });
    const std::string body(3000, 'x');
    const std::string url = "http://127.0.0.1:" + std::to_string(server.port()) + "/TraceSegments";
    CURL* const curl = curl_easy_init();
    curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
    if (!token.empty()) {
      headers = curl_slist_append(headers, ("X-Amz-Security-Token: " + token).c_str());
    }
    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.c_str());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
    curl_easy_setopt(curl, CURLOPT_AWS_SIGV4, "aws:amz:eu-west-1:xray");
    curl_easy_setopt(curl, CURLOPT_USERPWD, "AKIDEXAMPLE:se/cr+et=");
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 10L);
    curl_easy_setopt(
        curl, CURLOPT_WRITEFUNCTION,
        +[](char*, size_t size, size_t count, void*) { return size * count; });
    ASSERT_EQ(curl_easy_perform(curl), CURLE_OK);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);

    const std::string host = seen.Header("host");
    const std::pair<std::string_view, std::string_view> to_sign[] = {
        {"host", host}, {"content-type", "application/json"}};
    std::tm parts{};
    ASSERT_NE(::strptime(seen.Header("x-amz-date").c_str(), "%Y%m%dT%H%M%SZ", &parts), nullptr);
    SigV4Signer signer("eu-west-1", "xray");
    const SigV4Headers mine =
        signer.Sign({"POST", "/TraceSegments", "", to_sign, Sha256().Update(seen.body).Finish()},
                    {"AKIDEXAMPLE", "se/cr+et=", token, std::nullopt},
                    std::chrono::system_clock::from_time_t(::timegm(&parts)));
    EXPECT_EQ(mine.authorization, seen.Header("authorization"));
  }
}

}  // namespace
}  // namespace mobula
