// Signed calls to one AWS service: for everything but segments, whose exporter builds its requests itself.
//
// Room:    cold.
// Threads: the loop's thread.
// Errors:  as HttpClient; besides, without credentials the call ends with their status and the fault
//          "no_credentials". While they are being fetched it waits for them. An answer that refuses the clock or the
//          credentials is followed by one more call with the time corrected or the credentials renewed; where they
//          cannot be renewed in time, that answer is the call's.
// Limits:  `http.body_bytes_max` of answer; 30 s of waiting for credentials.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"
#include "engine/http/http_client.h"

namespace mobula {

class Log;

class AwsClient {
 public:
  struct Options {
    std::string service;  // of the signature: "xray", "sts"
    std::string region;   // of the signature
    HttpClient::Options http;
    std::shared_ptr<CredentialsProvider> credentials;  // null: calls go out unsigned
    std::string user_agent;
    Log* log = nullptr;
  };

  static absl::StatusOr<std::unique_ptr<AwsClient>> Create(IoLoop* loop, Options options);
  // Drops the callbacks of calls in flight.
  ~AwsClient();

  struct Request {
    std::string method = "POST";
    std::string path;  // below the endpoint's base: "/GetSamplingRules"; may have a query
    // Signed and sent, beside those the client adds: Host, Content-Length, User-Agent, Authorization, X-Amz-Date,
    // X-Amz-Security-Token. None of these may be among them, nor anything that holds for one connection only
    // (Connection, Expect, Transfer-Encoding, Proxy-…): leaving that out is the caller's business.
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;
    Time deadline = kTimeNever;
  };
  // Calls `done` exactly once, from the loop, never from inside Call. It may destroy the client.
  void Call(Request request, HttpDone done);

  [[nodiscard]] const HttpUrl& url() const noexcept;

 private:
  class Impl;
  explicit AwsClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mobula
