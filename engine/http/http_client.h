// An HTTP/1.1 client for many small calls to one service over kept connections.
//
// Room:      warm: a call on a kept connection costs two system calls and no timer.
// Threads:   the loop's thread.
// Ownership: a request's body must stay valid until its callback. The client outlives no callback
//            of its own: it must not be destroyed inside one.
// Errors:    a call that got no answer ends with HttpResponse::transport: DeadlineExceeded
//            (time-out), Unavailable (no connection, reset, TLS handshake), NotFound (DNS),
//            Unauthenticated (the certificate was not accepted), DataLoss (no HTTP, or over a
//            limit), ResourceExhausted (over the budget), Cancelled (Close). Redirects are answers like any other. A forward proxy that
//            refuses the tunnel, or wants to know who asks (407), is Unavailable.
// Limits:    16 KiB of answer headers, of a proxy's answer, of one chunk's head and of the trailer, `body_bytes_max` of
//            answer body, one connection per call in flight.
//
// Addresses are resolved again after `resolve_ttl` and after a failed connect; while that fails, the
// old ones stay in use.
//
// A call on a kept connection that turns out to be closed before the first byte of the answer is
// sent once more on a new connection. The far side may have acted on the first one, so a call can
// arrive twice.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/time.h"
#include "engine/http/byte_budget.h"
#include "engine/http/http_url.h"
#include "engine/http/io_loop.h"

namespace mobula {

struct HttpRequest {
  std::string_view method = "POST";
  std::string target;  // the whole path, with the URL's base
  // Everything but Host and Content-Length, which the client adds.
  std::vector<std::pair<std::string, std::string>> headers;
  std::string_view body;
  Time deadline = kTimeNever;
};

struct HttpResponse {
  absl::Status transport;
  // A short stable name of what `transport` is about: "timeout", "refused", "unreachable", "reset",
  // "dns", "tls_verify", "tls_handshake", "garbled", "busy" (over the budget), "canceled", "invalid_request",
  // "proxy_refused".
  // Empty with an answer.
  std::string_view fault;

  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::shared_ptr<ByteShare> share;  // counts this; null where the client has no budget

  // The first header of that name, in any case; empty when there is none.
  [[nodiscard]] std::string_view Header(std::string_view name) const noexcept;
};

using HttpDone = std::function<void(HttpResponse)>;

// A forward proxy: https is tunnelled through CONNECT, http is asked for with the whole URL. The proxy's name is
// the one that is resolved here; the target's is the proxy's business.
struct HttpForwardProxy {
  HttpUrl url;                // http only: TLS to the proxy itself is not supported
  std::string authorization;  // of Proxy-Authorization; empty: none. A secret.
  std::string variable;       // that named it; empty: the configuration did
};

class HttpClient {
 public:
  struct Options {
    HttpUrl url;
    std::optional<HttpForwardProxy> proxy;
    std::string ca_file;  // PEM; empty: the system's
    bool verify = true;
    size_t body_bytes_max = 1 << 20;
    std::shared_ptr<ByteBudget> budget;  // of answers, also after they were handed over; null: none
    size_t idle_connections_max = 64;
    Duration idle_timeout = std::chrono::seconds(50);
    Duration connect_timeout = std::chrono::seconds(3);  // per address, while there is another one
    Duration resolve_ttl = std::chrono::seconds(60);
  };

  // Fails on a certificate file that cannot be read and on a proxy that cannot be used; does not connect.
  static absl::StatusOr<std::unique_ptr<HttpClient>> Create(IoLoop* loop, Options options);
  // Drops the callbacks of calls in flight.
  ~HttpClient();

  // Calls `done` exactly once, from the loop, never from inside Send.
  void Send(HttpRequest request, HttpDone done);

  // Ends every connection and every call in flight: their callbacks are called, with Cancelled, before Close
  // returns.
  void Close();

  [[nodiscard]] const HttpUrl& url() const noexcept;

 private:
  class Impl;
  explicit HttpClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mobula
