// A small HTTP/1.1 server for the admin page: a few clients, small answers.
//
// Room:      cold.
// Lifecycle: made, Listen, then it serves while the loop runs, Close.
// Threads:   the loop's thread; the handler is called there and must not wait.
// Ownership: the loop outlives the server.
// Errors:    Listen names the address. A request that is no HTTP, or over a limit, is answered 400,
//            413 or 431 and the connection closed; the handler never sees it.
// Limits:    64 connections (one more ends the one that has been quiet longest), 8 KiB of headers, 64 KiB of
//            body; 5 s for the head of a request, waiting for it included, 10 s for its body and for taking
//            the answer.
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
  using Handler = std::function<HttpReply(const HttpServerRequest&)>;
  struct Options {
    Duration head_timeout = std::chrono::seconds(5);
    Duration timeout = std::chrono::seconds(10);
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
