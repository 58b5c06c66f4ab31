// A small HTTP/1.1 server: a few hundred clients, small requests, answers given at once or later.
//
// Room:      cold.
// Lifecycle: made, Listen, then it serves while the loop runs, Close.
// Threads:   the loop's thread; the handler is called there and must not wait.
// Ownership: the loop outlives the server.
// Errors:    Listen names the address. A request that is no HTTP, or over a limit, is answered 400,
//            413 or 431 and the connection closed; the handler never sees it.
// Limits:    those of Options; one connection more ends the one that has been quiet longest.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/time.h"
#include "engine/http/io_loop.h"

namespace mobula {

struct HttpServerRequest {
  std::string_view method;  // a HEAD request is shown as GET; its answer goes out without the body
  std::string_view target;  // as sent, with its query
  std::string_view body;
  std::vector<std::pair<std::string_view, std::string_view>> headers;

  // The first header of that name, in any case; empty when there is none.
  [[nodiscard]] std::string_view Header(std::string_view name) const noexcept;
};

struct HttpReply {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

class HttpServer {
 public:
  // Answers a request: to be called once, on the loop's thread, at any time; later calls, and calls after the
  // connection has ended, do nothing. The request's views are valid until then.
  using Responder = std::function<void(HttpReply)>;
  using Handler = std::function<void(const HttpServerRequest&, Responder)>;
  struct Options {
    Duration idle_timeout =
        std::chrono::seconds(5);  // waiting for the next request on a kept connection
    Duration head_timeout = std::chrono::seconds(5);  // from its first byte to the end of its head
    Duration timeout = std::chrono::seconds(10);      // of its body, and of taking the answer
    size_t connections_max = 64;
    size_t header_bytes_max = 8 * 1024;
    size_t body_bytes_max = 64 * 1024;
  };

  HttpServer(IoLoop* loop, Handler handler) : HttpServer(loop, std::move(handler), Options()) {}
  HttpServer(IoLoop* loop, Handler handler, Options options);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // "host:port", "[v6]:port" or ":port" (all addresses); port 0 takes a free one.
  absl::Status Listen(std::string_view address);
  // The port listened on. REQUIRES: Listen returned OK.
  [[nodiscard]] uint16_t port() const;
  // Stops listening and ends every connection. Safe twice.
  void Close();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace mobula
