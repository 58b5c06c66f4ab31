// Signed calls to one AWS service: for everything but segments, whose exporter builds its requests itself.
//
// Room:    cold.
// Threads: the loop's thread.
// Errors:  as HttpClient; besides, without credentials the call ends with their status and the fault
//          "no_credentials". An answer that refuses the clock or the credentials is followed by one more call
//          with the time corrected or the credentials renewed.
// Limits:  `http.body_bytes_max` of answer.
#pragma once

#include <memory>
#include <string>
#include <string_view>

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
    std::string_view method = "POST";
    std::string path;  // below the endpoint's base: "/GetSamplingRules"; may have a query
    // Signed and sent, beside those the client adds (Host, User-Agent, Content-Length, X-Amz-*).
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;
    Time deadline = kTimeNever;
  };
  // Calls `done` exactly once, from the loop, never from inside Call.
  void Call(Request request, HttpDone done);

  [[nodiscard]] const HttpUrl& url() const noexcept;

 private:
  class Impl;
  explicit AwsClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mobula
