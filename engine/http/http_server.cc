// The server over Boost.Beast. Tested by tests/unit/engine/http/http_server_test.cc.
#include "engine/http/http_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/beast/core/flat_static_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <set>

#include "absl/strings/match.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/http/http_url.h"

namespace mobula {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using Tcp = asio::ip::tcp;

namespace {

constexpr size_t kConnectionsMax = 64;
constexpr uint32_t kHeaderBytesMax = 8 * 1024;
constexpr uint64_t kBodyBytesMax = 64 * 1024;

std::string_view ToStd(beast::string_view text) { return {text.data(), text.size()}; }
beast::string_view ToBeast(std::string_view text) { return {text.data(), text.size()}; }

// The status to answer an unusable request with; 0: just close.
int StatusOf(const error_code& error) {
  if (error == http::error::body_limit) return 413;
  if (error == http::error::header_limit || error == http::error::buffer_overflow) return 431;
  if (error == http::error::end_of_stream || error == http::error::partial_message) return 0;
  return error.category() == http::make_error_code(http::error::bad_method).category() ? 400 : 0;
}

}  // namespace

std::string_view HttpServerRequest::Header(std::string_view name) const noexcept {
  for (const auto& [key, value] : headers) {
    if (absl::EqualsIgnoreCase(absl::string_view(key.data(), key.size()),
                               absl::string_view(name.data(), name.size()))) {
      return value;
    }
  }
  return {};
}

class HttpServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(IoLoop* loop, Handler handler, Options options)
      : context_(loop->context()),
        acceptor_(context_),
        handler_(std::move(handler)),
        options_(options) {}

  absl::Status Listen(std::string_view address);
  void Close();

  [[nodiscard]] uint16_t port() const { return acceptor_.local_endpoint().port(); }

 private:
  class Connection;

  absl::Status Bind(const Tcp::endpoint& endpoint, bool both_families, std::string_view address);
  void Accept();
  // So that nobody is locked out by connections that say nothing.
  void CloseTheQuietest();

  asio::io_context& context_;
  Tcp::acceptor acceptor_;
  const Handler handler_;
  const Options options_;
  std::set<std::shared_ptr<Connection>> connections_;
  bool closed_ = false;
};

// --- Connection
// ----------------------------------------------------------------------------------------

class HttpServer::Impl::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Impl> server, Tcp::socket socket)
      : server_(std::move(server)), stream_(std::move(socket)) {}

  void Read() {
    parser_.emplace();
    parser_->header_limit(kHeaderBytesMax);
    parser_->body_limit(kBodyBytesMax);
    quiet_since_ = std::chrono::steady_clock::now();
    stream_.expires_after(server_->options_.head_timeout);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](const error_code& error, size_t) {
                              if (error) {
                                self->OnUnusable(error);
                              } else {
                                self->ReadBody();
                              }
                            });
  }

  // When it last began to wait for a request or to answer one: what trickles in meanwhile does not count.
  [[nodiscard]] Time quiet_since() const { return quiet_since_; }

  void Close() {
    error_code ignored;
    stream_.socket().shutdown(Tcp::socket::shutdown_both, ignored);
    stream_.close();
    if (server_ == nullptr) return;
    server_->connections_.erase(shared_from_this());
    server_.reset();
  }

 private:
  using Request = http::request<http::string_body>;

  void ReadBody() {
    if (server_ == nullptr) return;
    stream_.expires_after(server_->options_.timeout);
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](const error_code& error, size_t) {
                       if (error) {
                         self->OnUnusable(error);
                       } else {
                         self->OnRequest();
                       }
                     });
  }

  void OnUnusable(const error_code& error) {
    const int status = server_ == nullptr ? 0 : StatusOf(error);
    if (status == 0) {
      Close();
      return;
    }
    HttpReply reply;
    reply.status = status;
    reply.body = fmt::format("{}\n", error.message());
    unusable_ = true;
    Write(std::move(reply), /*version=*/11, /*keep_alive=*/false, /*head=*/false);
  }

  // Reads and forgets what the client still sends: closing with unread bytes would reset the connection and
  // could destroy the answer on its way.
  void Drain() {
    error_code ignored;
    stream_.socket().shutdown(Tcp::socket::shutdown_send, ignored);
    stream_.async_read_some(asio::buffer(drained_),
                            [self = shared_from_this()](const error_code& error, size_t) {
                              if (error || self->server_ == nullptr) {
                                self->Close();
                              } else {
                                self->Drain();
                              }
                            });
  }

  void OnRequest() {
    if (server_ == nullptr) return;
    const Request& request = parser_->get();
    const bool head = request.method() == http::verb::head;
    HttpServerRequest shown;
    shown.method = head ? "GET" : ToStd(request.method_string());
    shown.target = ToStd(request.target());
    shown.body = request.body();
    for (const auto& field : request) {
      shown.headers.emplace_back(ToStd(field.name_string()), ToStd(field.value()));
    }
    Write(server_->handler_(shown), request.version(), request.keep_alive(), head);
  }

  void Write(HttpReply reply, unsigned version, bool keep_alive, bool head) {
    reply_ = {};
    reply_.version(version);
    reply_.result(static_cast<unsigned>(reply.status));
    reply_.set(http::field::content_type, reply.content_type);
    for (const auto& [name, value] : reply.headers) reply_.set(ToBeast(name), value);
    reply_.keep_alive(keep_alive);
    reply_.content_length(reply.body.size());
    if (!head) reply_.body() = std::move(reply.body);
    quiet_since_ = std::chrono::steady_clock::now();
    stream_.expires_after(server_->options_.timeout);
    serializer_.emplace(reply_);
    serializer_->split(head);
    const auto next = [self = shared_from_this()](const error_code& error, size_t) {
      if (error || self->server_ == nullptr) {
        self->Close();
      } else if (self->unusable_) {
        self->Drain();
      } else if (!self->reply_.keep_alive()) {
        self->Close();
      } else {
        self->Read();
      }
    };
    if (head) {
      http::async_write_header(stream_, *serializer_, next);
    } else {
      http::async_write(stream_, *serializer_, next);
    }
  }

  std::shared_ptr<Impl> server_;  // null once closed
  beast::tcp_stream stream_;
  beast::flat_static_buffer<kHeaderBytesMax * 2> buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> reply_;
  std::optional<http::response_serializer<http::string_body>> serializer_;
  bool unusable_ = false;
  Time quiet_since_{};
  std::array<char, 4096> drained_;
};

// --- Impl
// ----------------------------------------------------------------------------------------------

absl::Status HttpServer::Impl::Listen(std::string_view address) {
  ASSIGN_OR_RETURN(const HostPort where, ParseHostPort(address));
  if (where.host.empty()) {
    const absl::Status both = Bind({Tcp::v6(), where.port}, /*both_families=*/true, address);
    // A machine without IPv6.
    return both.ok() ? both : Bind({Tcp::v4(), where.port}, false, address);
  }
  error_code error;
  Tcp::resolver resolver(context_);
  const auto found = resolver.resolve(where.host, std::to_string(where.port),
                                      Tcp::resolver::numeric_service, error);
  if (error || found.empty()) {
    return absl::NotFoundError(fmt::format("cannot resolve {}: {}", address, error.message()));
  }
  return Bind(found.begin()->endpoint(), /*both_families=*/false, address);
}

absl::Status HttpServer::Impl::Bind(const Tcp::endpoint& endpoint, bool both_families,
                                    std::string_view address) {
  error_code error;
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  if (!error && both_families) acceptor_.set_option(asio::ip::v6_only(false), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    const std::string message = fmt::format("cannot listen on {}: {}", address, error.message());
    error_code ignored;
    acceptor_.close(ignored);
    return error == asio::error::access_denied ? absl::PermissionDeniedError(message)
                                               : absl::UnavailableError(message);
  }
  Accept();
  return absl::OkStatus();
}

void HttpServer::Impl::Accept() {
  acceptor_.async_accept([self = shared_from_this()](const error_code& error, Tcp::socket socket) {
    if (self->closed_) return;
    if (!error) {
      if (self->connections_.size() >= kConnectionsMax) self->CloseTheQuietest();
      const auto connection = std::make_shared<Connection>(self, std::move(socket));
      self->connections_.insert(connection);
      connection->Read();
    }
    // Out of descriptors or memory: the pending connection stays in the kernel's queue; looking again
    // at once would spin until there is some. Only a client that gave up meanwhile is no such error.
    if (error && error != asio::error::connection_aborted) {
      auto pause = std::make_shared<asio::steady_timer>(self->context_, std::chrono::seconds(1));
      pause->async_wait([self, pause](const error_code&) {
        if (!self->closed_) self->Accept();
      });
      return;
    }
    self->Accept();
  });
}

void HttpServer::Impl::CloseTheQuietest() {
  const std::shared_ptr<Connection> quietest = *std::min_element(
      connections_.begin(), connections_.end(),
      [](const auto& a, const auto& b) { return a->quiet_since() < b->quiet_since(); });
  quietest->Close();
}

void HttpServer::Impl::Close() {
  closed_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  while (!connections_.empty()) {
    const std::shared_ptr<Connection> connection = *connections_.begin();
    connection->Close();
  }
}

// --- HttpServer
// ----------------------------------------------------------------------------------------

HttpServer::HttpServer(IoLoop* loop, Handler handler, Options options)
    : impl_(std::make_shared<Impl>(loop, std::move(handler), options)) {}
HttpServer::~HttpServer() { Close(); }

absl::Status HttpServer::Listen(std::string_view address) { return impl_->Listen(address); }
uint16_t HttpServer::port() const { return impl_->port(); }
void HttpServer::Close() { impl_->Close(); }

}  // namespace mobula
