// The pool of connections, the addresses of the host and the one timer over all deadlines. Tested
// by tests/unit/engine/http/http_client_test.cc and http_client_tls_test.cc.
#include "engine/http/http_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <iterator>
#include <list>
#include <utility>

#include "absl/strings/match.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/http/http_connection.h"

namespace mobula {

namespace asio = boost::asio;
using boost::system::error_code;
using Tcp = asio::ip::tcp;

namespace {

bool IsClean(std::string_view text) {
  return text.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos;
}

bool IsValid(const HttpRequest& request) {
  return request.target.starts_with('/') && IsClean(request.target) &&
         request.target.find(' ') == std::string::npos &&
         std::all_of(request.headers.begin(), request.headers.end(), [](const auto& header) {
           return IsClean(header.first) && IsClean(header.second);
         });
}

std::string ProxyAuthorization(const HttpForwardProxy& proxy) {
  if (proxy.authorization.empty()) return {};
  return fmt::format("Proxy-Authorization: {}\r\n", proxy.authorization);
}

std::string BuildHead(const HttpRequest& request, const std::string& target_prefix,
                      const std::string& first_headers) {
  fmt::memory_buffer head;
  const auto out = std::back_inserter(head);
  fmt::format_to(out, "{} {}{} HTTP/1.1\r\n{}", request.method, target_prefix, request.target,
                 first_headers);
  for (const auto& [name, value] : request.headers) {
    fmt::format_to(out, "{}: {}\r\n", name, value);
  }
  fmt::format_to(out, "Content-Length: {}\r\n\r\n", request.body.size());
  return fmt::to_string(head);
}

}  // namespace

std::string_view HttpResponse::Header(std::string_view name) const noexcept {
  for (const auto& [key, value] : headers) {
    if (absl::EqualsIgnoreCase(key, absl::string_view(name.data(), name.size()))) return value;
  }
  return {};
}

class HttpClient::Impl final : public HttpConnectionOwner {
 public:
  Impl(IoLoop* loop, Options options, std::unique_ptr<TlsClientContext> tls)
      : context_(loop->context()),
        options_(std::move(options)),
        peer_(options_.proxy.has_value() ? options_.proxy->url : options_.url),
        first_headers_(fmt::format("Host: {}\r\n", options_.url.Authority())),
        tls_(std::move(tls)),
        resolver_(context_),
        timer_(loop) {
    if (options_.proxy.has_value() && options_.url.tls) {
      const std::string target = options_.url.AuthorityWithPort();
      tunnel_request_ = fmt::format("CONNECT {} HTTP/1.1\r\nHost: {}\r\n{}\r\n", target, target,
                                    ProxyAuthorization(*options_.proxy));
    } else if (options_.proxy.has_value()) {
      target_prefix_ = "http://" + options_.url.Authority();
      first_headers_ += ProxyAuthorization(*options_.proxy);
    }
    error_code no_literal;
    const asio::ip::address address = asio::ip::make_address(peer_.host, no_literal);
    if (no_literal) return;
    endpoints_ = {Tcp::endpoint(address, peer_.port)};
    endpoints_until_ = kTimeNever;
    literal_ = true;
  }

  ~Impl() { Drop(); }

  void Send(HttpRequest request, HttpDone done) {
    if (!IsValid(request)) {
      Post(std::move(done), absl::InvalidArgumentError("the request has control characters"),
           "invalid_request");
      return;
    }
    auto call = std::make_unique<HttpCall>();
    call->head = BuildHead(request, target_prefix_, first_headers_);
    call->body = request.body;
    call->deadline = request.deadline;
    call->head_only = request.method == "HEAD";
    call->done = std::move(done);
    if (idle_.empty()) {
      Open(std::move(call));
      return;
    }
    // The one used last: the others grow old and are closed.
    HttpConnection* const connection = idle_.back();
    idle_.pop_back();
    connection->Start(std::move(call));
  }

  void Close() {
    const std::vector<HttpCallPtr> calls = Drop();
    for (const HttpCallPtr& call : calls) {
      HttpResponse response;
      response.transport = absl::CancelledError("the client is closed");
      response.fault = "canceled";
      call->done(std::move(response));
    }
  }

  [[nodiscard]] const HttpUrl& url() const noexcept { return options_.url; }

  // --- HttpConnectionOwner ---
  const Options& options() const override { return options_; }
  TlsClientContext* tls() override { return tls_.get(); }
  const std::string& tunnel_request() const override { return tunnel_request_; }
  Scratch& scratch() override { return scratch_; }

  void WatchUntil(Time at) override {
    if (at >= sweep_at_) return;
    sweep_at_ = at;
    timer_.Set(at, [this] { Sweep(); });
  }

  // The address that answered is tried first by the next connection.
  void OnConnected(const Tcp::endpoint& endpoint) override {
    const auto found = std::find(endpoints_.begin(), endpoints_.end(), endpoint);
    if (found != endpoints_.end()) std::rotate(endpoints_.begin(), found, found + 1);
  }

  void OnConnectFailed() override {
    if (!literal_) endpoints_until_ = Time::min();
  }

  void OnIdle(HttpConnection* connection) override {
    if (idle_.size() >= options_.idle_connections_max) {
      connection->Close();
      return;
    }
    idle_.push_back(connection);
    WatchUntil(connection->due());
  }

  void OnClosed(HttpConnection* connection) override {
    std::erase(idle_, connection);
    connections_.erase(connection->position);
  }

  void Resend(HttpCallPtr call) override { Open(std::move(call)); }

 private:
  void Open(HttpCallPtr call) {
    if (std::chrono::steady_clock::now() < endpoints_until_) {
      Connect(std::move(call));
      return;
    }
    WatchUntil(call->deadline);
    waiting_.push_back(std::move(call));
    if (std::exchange(resolving_, true)) return;
    resolver_.async_resolve(peer_.host, std::to_string(peer_.port), Tcp::resolver::numeric_service,
                            [this, alive = std::weak_ptr<bool>(alive_)](
                                const error_code& error, const Tcp::resolver::results_type& found) {
                              if (!alive.expired()) OnResolved(error, found);
                            });
  }

  void OnResolved(const error_code& error, const Tcp::resolver::results_type& found) {
    resolving_ = false;
    std::vector<HttpCallPtr> calls = std::exchange(waiting_, {});
    const bool failed = error || found.empty();
    // Old addresses are better than none: a resolver that is down does not stop a service that is up.
    if (failed && endpoints_.empty()) {
      const std::string message = fmt::format("cannot resolve {}: {}", PeerName(), error.message());
      for (const HttpCallPtr& call : calls) {
        Post(std::move(call->done), absl::NotFoundError(message), "dns");
      }
      return;
    }
    if (!failed) endpoints_.assign(found.begin(), found.end());
    endpoints_until_ = std::chrono::steady_clock::now() + options_.resolve_ttl;
    for (HttpCallPtr& call : calls) Connect(std::move(call));
  }

  void Connect(HttpCallPtr call) {
    const auto connection = std::make_shared<HttpConnection>(this, context_);
    connections_.push_front(connection);
    connection->position = connections_.begin();
    connection->Connect(endpoints_, std::move(call));
  }

  // Ends what is due and looks when the next one is. One timer for all, because a timer per call
  // would be set and cancelled thousands of times for each time it fires.
  void Sweep() {
    sweep_at_ = kTimeNever;
    const Time now = std::chrono::steady_clock::now();
    const std::vector<HttpConnectionPtr> present(connections_.begin(), connections_.end());
    const auto late =
        std::stable_partition(waiting_.begin(), waiting_.end(),
                              [now](const HttpCallPtr& call) { return call->deadline > now; });
    std::vector<HttpCallPtr> expired(std::make_move_iterator(late),
                                     std::make_move_iterator(waiting_.end()));
    waiting_.erase(late, waiting_.end());
    for (const HttpCallPtr& call : expired) {
      Post(std::move(call->done),
           absl::DeadlineExceededError(fmt::format("resolving {} took too long", PeerName())),
           "timeout");
    }
    for (const HttpConnectionPtr& connection : present) {
      if (connection->due() <= now) connection->OnDue(now);
    }
    Time next = kTimeNever;
    for (const HttpCallPtr& call : waiting_) next = std::min(next, call->deadline);
    for (const HttpConnectionPtr& connection : connections_) {
      next = std::min(next, connection->due());
    }
    if (next != kTimeNever) WatchUntil(next);
  }

  void Post(HttpDone done, absl::Status transport, std::string_view fault) {
    asio::post(context_, [alive = std::weak_ptr<bool>(alive_), done = std::move(done),
                          transport = std::move(transport), fault] {
      if (alive.expired()) return;
      HttpResponse response;
      response.transport = transport;
      response.fault = fault;
      done(std::move(response));
    });
  }

  // Closes everything; answers the calls that were in flight.
  std::vector<HttpCallPtr> Drop() {
    std::vector<HttpCallPtr> calls = std::exchange(waiting_, {});
    while (!connections_.empty()) {
      const HttpConnectionPtr connection = connections_.front();
      if (HttpCallPtr call = connection->TakeCall()) calls.push_back(std::move(call));
      connection->Close();
    }
    timer_.Cancel();
    sweep_at_ = kTimeNever;
    return calls;
  }

  [[nodiscard]] std::string PeerName() const {
    return options_.proxy.has_value() ? fmt::format("the proxy {}", peer_.host) : peer_.host;
  }

  asio::io_context& context_;
  const Options options_;
  const HttpUrl peer_;  // whom to connect to: the target or its proxy
  std::string target_prefix_;
  std::string first_headers_;
  std::string tunnel_request_;
  const std::unique_ptr<TlsClientContext> tls_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  Tcp::resolver resolver_;
  bool literal_ = false;
  bool resolving_ = false;
  std::vector<Tcp::endpoint> endpoints_;
  Time endpoints_until_ = Time::min();
  std::vector<HttpCallPtr> waiting_;  // for an address

  std::list<HttpConnectionPtr> connections_;
  std::vector<HttpConnection*> idle_;  // the one used last is at the end
  IoLoop::Timer timer_;
  Time sweep_at_ = kTimeNever;
  Scratch scratch_;
};

HttpClient::HttpClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpClient::~HttpClient() = default;

absl::StatusOr<std::unique_ptr<HttpClient>> HttpClient::Create(IoLoop* loop, Options options) {
  if (options.proxy.has_value() && options.proxy->url.tls) {
    return absl::InvalidArgumentError(fmt::format(
        "the forward proxy https://{}: TLS to a proxy is not supported, use an http:// address",
        options.proxy->url.Authority()));
  }
  if (options.proxy.has_value() && !IsClean(options.proxy->authorization)) {
    return absl::InvalidArgumentError("the forward proxy's authorization has control characters");
  }
  std::unique_ptr<TlsClientContext> tls;
  if (options.url.tls) {
    ASSIGN_OR_RETURN(tls,
                     TlsClientContext::Create(options.url.host, options.ca_file, options.verify));
  }
  return std::unique_ptr<HttpClient>(
      new HttpClient(std::make_unique<Impl>(loop, std::move(options), std::move(tls))));
}

void HttpClient::Send(HttpRequest request, HttpDone done) {
  impl_->Send(std::move(request), std::move(done));
}
void HttpClient::Close() { impl_->Close(); }
const HttpUrl& HttpClient::url() const noexcept { return impl_->url(); }

}  // namespace mobula
