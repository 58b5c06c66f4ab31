// A small HTTP/1.1 server: a few hundred clients, small requests, answers given at once or later.
//
// Room:      cold.
// Lifecycle: made, Listen, then it serves while the loop runs, StopListening, Close.
// Threads:   the loop's thread; the handler is called there and must not wait.
// Ownership: the loop outlives the server.
// Errors:    Listen names the address. A request that is no HTTP, over a limit or too slow is answered 400, 413,
//            417, 431, 501, 503 or not at all, and the connection closed; the handler never sees it. Over TLS, who
//            speaks plain HTTP is answered 400, and a handshake that fails ends the connection.
// Limits:    those of Options and 128 headers a request; every time-out is absolute, so that no byte buys more
//            time. One connection more ends the one that has been quiet longest, and first one whose client has
//            said that it sends no more. The kernel keeps 64 KiB each way for a connection. Over the budget a
//            request is answered 503 with Retry-After; where a head or a small answer finds no room, it is the request that has been
//            coming for longest.
//
// A body may come chunked, and a client that asks for 100 Continue gets it. Pipelined requests are answered one
// after the other. A connection that breaks while its request waits for an answer is freed at once; one that was
// closed by the client looks like one whose client only sends no more, and is answered as such.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/port_use.h"
#include "engine/base/time.h"
#include "engine/http/byte_budget.h"
#include "engine/http/io_loop.h"
#include "engine/http/tls_server.h"

namespace mobula {

struct HttpServerRequest {
  std::string_view method;  // a HEAD request is shown as GET; its answer goes out without the body
  std::string_view target;  // as sent, with its query
  std::string body;         // may be moved away
  std::string_view peer;    // who asks: "10.1.2.3:45678", "[fd00::1]:45678"
  bool verified = false;    // over TLS, and the client showed a certificate that was accepted
  std::vector<std::pair<std::string_view, std::string_view>> headers;
  // Counts all of this: to be kept by who keeps the body or copies of the rest.
  std::shared_ptr<ByteShare> share;

  // The first header of that name, in any case; empty when there is none.
  [[nodiscard]] std::string_view Header(std::string_view name) const noexcept;
};

struct HttpReply {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";  // empty: none
  std::string body;
  // In place of `body`, where several answers have the same; counted in a budget by whoever made it.
  std::shared_ptr<const std::string> shared_body;
  // Sent as given, also twice, but for those the server sets itself (Connection, Content-Length and
  // Transfer-Encoding) and those with control characters, which are left out. A Content-Type here replaces
  // `content_type`.
  std::vector<std::pair<std::string, std::string>> headers;

  [[nodiscard]] const std::string& text() const noexcept {
    return shared_body != nullptr ? *shared_body : body;
  }
};

class HttpServer {
 public:
  // Answers a request: to be called once, on the loop's thread, at any time; later calls, and calls after the
  // connection has ended, do nothing. Dropped without a call, by the last of its copies, it answers 500.
  using Responder = std::function<void(HttpReply)>;
  // The request and its views are valid until the handler returns.
  using Handler = std::function<void(HttpServerRequest&, Responder)>;
  struct Options {
    // Waiting for the next request on a kept connection; for its first one a client has `head_timeout`.
    Duration idle_timeout = std::chrono::seconds(5);
    Duration head_timeout = std::chrono::seconds(5);  // from its first byte to the end of its head
    Duration timeout = std::chrono::seconds(10);      // of its body, and of taking the answer
    size_t connections_max = 64;
    size_t header_bytes_max = 8 * 1024;
    size_t body_bytes_max = 64 * 1024;
    // Of all connections together: requests that come, and answers that go out. Null: 32 MiB.
    std::shared_ptr<ByteBudget> budget;
    // Null: plain HTTP. Outlives the server. What TLS itself takes is not counted in the budget; a handshake has
    // `head_timeout`.
    TlsServerContext* tls = nullptr;
  };

  HttpServer(IoLoop* loop, Handler handler) : HttpServer(loop, std::move(handler), Options()) {}
  HttpServer(IoLoop* loop, Handler handler, Options options);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // "host:port", "[v6]:port" or ":port" (all addresses); port 0 takes a free one. kShared: beside the process that has
  // the port, if there is one; from then on connections come here, and to that one again if this one ends.
  absl::Status Listen(std::string_view address, PortUse use = PortUse::kAlone);
  // The port listened on. REQUIRES: Listen returned OK.
  [[nodiscard]] uint16_t port() const;
  // Whether only this machine can reach it. REQUIRES: Listen returned OK.
  [[nodiscard]] bool is_loopback() const;
  // What came is answered, and its connections end with that. Safe twice.
  void StopListening();
  // Stops listening and ends every connection. Safe twice.
  void Close();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace mobula
