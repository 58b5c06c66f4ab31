// What the tests of HttpClient share: a loop, a client, and calls that wait for their answer.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "engine/http/http_client.h"
#include "tests/support/scripted_server.h"

namespace mobula::testing {

class ClientFixture : public ::testing::Test {
 protected:
  // No test waits that long unless it fails.
  static Time Limit() { return std::chrono::steady_clock::now() + std::chrono::seconds(10); }

  void Connect(uint16_t port, HttpClient::Options options = {},
               const std::string& base = "http://127.0.0.1") {
    auto url = ParseHttpUrl(base + ":" + std::to_string(port));
    ASSERT_TRUE(url.ok()) << url.status();
    options.url = *std::move(url);
    auto client = HttpClient::Create(&loop_, std::move(options));
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  static HttpRequest Post(std::string target, std::string_view body) {
    HttpRequest request;
    request.target = std::move(target);
    request.body = body;
    request.deadline = Limit();
    return request;
  }

  // Sends and runs the loop until the answer is there.
  HttpResponse Call(HttpRequest request) {
    std::optional<HttpResponse> answer;
    client_->Send(std::move(request), [&](HttpResponse response) {
      EXPECT_FALSE(answer) << "answered twice";
      answer = std::move(response);
      loop_.Stop();
    });
    loop_.RunUntil(Limit() + std::chrono::seconds(5));
    EXPECT_TRUE(answer) << "no answer at all";
    return answer.value_or(HttpResponse());
  }

  IoLoop loop_;
  std::unique_ptr<HttpClient> client_;
};

}  // namespace mobula::testing
