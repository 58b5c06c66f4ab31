// The server: Asio says when a socket is ready, Beast's parser reads the requests. Tested by
// tests/unit/engine/http/http_server_test.cc.
#include "engine/http/http_server.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/status.hpp>
#include <cerrno>
#include <iterator>
#include <optional>
#include <set>

#include "absl/strings/match.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/http/http_url.h"

namespace mobula {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Tcp = asio::ip::tcp;

namespace {

constexpr size_t kHeadersMax = 128;

absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }

bool SameName(std::string_view a, std::string_view b) {
  return absl::EqualsIgnoreCase(ToAbsl(a), ToAbsl(b));
}

// The status to answer an unusable request with.
int StatusOf(const error_code& error) {
  if (error == http::error::body_limit) return 413;
  if (error == http::error::header_limit) return 431;
  if (error == boost::system::errc::not_enough_memory) return 503;
  return 400;
}

// One holder's part of a sum with a limit. The sum is shared, because an answer may come when the server is gone.
class Share {
 public:
  explicit Share(std::shared_ptr<size_t> sum) : sum_(std::move(sum)) {}
  ~Share() { *sum_ -= bytes_; }
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;

  // Makes this part `bytes` large; false, and as before, when the sum would be over `max`.
  bool Resize(size_t bytes, size_t max) {
    if (bytes > bytes_ && (*sum_ > max || bytes - bytes_ > max - *sum_)) return false;
    *sum_ = *sum_ - bytes_ + bytes;
    bytes_ = bytes;
    return true;
  }

 private:
  const std::shared_ptr<size_t> sum_;
  size_t bytes_ = 0;
};

// A request from its first byte until it is answered. Shared by its connection and its responder, so that what
// the handler was shown outlives a client that goes away.
struct Exchange {
  explicit Exchange(std::shared_ptr<size_t> bodies) : share(std::move(bodies)) {}

  // What the handler sees; nothing else changes from here on.
  void Show() {
    shown.method = method == "HEAD" ? std::string_view("GET") : method;
    shown.target = target;
    shown.body = body;
    shown.headers.assign(headers.begin(), headers.end());
  }

  std::string method;
  std::string target;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  Share share;  // of the body
  HttpServerRequest shown;
};

// Collects a request into an Exchange.
class RequestParser final : public http::basic_parser<true> {
 public:
  RequestParser(Exchange* exchange, const HttpServer::Options& options)
      : exchange_(exchange), options_(options) {
    eager(true);
    header_limit(static_cast<uint32_t>(options.header_bytes_max));
    body_limit(options.body_bytes_max);
  }

  [[nodiscard]] bool http11() const { return http11_; }

 private:
  using error_code = boost::beast::error_code;
  using text = boost::beast::string_view;

  // The base class bounds what it has not yet taken, not the sum of what came bit by bit.
  void Count(size_t bytes, error_code& error) {
    head_bytes_ += bytes;
    if (head_bytes_ > options_.header_bytes_max) error = http::error::header_limit;
  }

  void on_request_impl(http::verb, text method, text target, int version,
                       error_code& error) override {
    http11_ = version >= 11;
    exchange_->method = std::string(method);
    exchange_->target = std::string(target);
    Count(method.size() + target.size(), error);
  }
  void on_response_impl(int, text, int, error_code&) override {}
  void on_field_impl(http::field, text name, text value, error_code& error) override {
    Count(name.size() + value.size(), error);
    if (in_body_) return;  // a trailer
    exchange_->headers.emplace_back(std::string(name), std::string(value));
    if (exchange_->headers.size() > kHeadersMax) error = http::error::header_limit;
  }
  void on_header_impl(error_code&) override { in_body_ = true; }
  // Reserves nothing: how much comes is only known when it came.
  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}
  size_t on_body_impl(text data, error_code& error) override {
    std::string& body = exchange_->body;
    body.append(data.data(), data.size());
    if (!exchange_->share.Resize(body.capacity(), options_.bodies_bytes_max)) {
      error = make_error_code(boost::system::errc::not_enough_memory);
    }
    return data.size();
  }
  void on_chunk_header_impl(uint64_t, text, error_code&) override {}
  size_t on_chunk_body_impl(uint64_t, text data, error_code& error) override {
    return on_body_impl(data, error);
  }
  void on_finish_impl(error_code&) override {}

  Exchange* const exchange_;
  const HttpServer::Options& options_;
  size_t head_bytes_ = 0;
  bool http11_ = false;
  bool in_body_ = false;
};

bool IsClean(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](unsigned char c) { return (c < ' ' && c != '\t') || c == '\x7f'; });
}

bool IsSendable(const std::pair<std::string, std::string>& header) {
  const auto& [name, value] = header;
  return !name.empty() && name.find_first_of(": \t") == std::string::npos && IsClean(name) &&
         IsClean(value) && !SameName(name, "connection") && !SameName(name, "content-length") &&
         !SameName(name, "transfer-encoding");
}

bool HasBody(int status) { return status != 204 && status != 304; }

std::string BuildHead(const HttpReply& reply, bool http11, bool keep_alive) {
  fmt::memory_buffer head;
  const auto out = std::back_inserter(head);
  const http::status known = http::int_to_status(static_cast<unsigned>(reply.status));
  const auto reason = http::obsolete_reason(known);
  fmt::format_to(out, "HTTP/1.{} {} {}\r\n", http11 ? 1 : 0, reply.status,
                 known == http::status::unknown ? std::string_view("Unknown")
                                                : std::string_view(reason.data(), reason.size()));
  const bool typed = std::any_of(reply.headers.begin(), reply.headers.end(),
                                 [](const auto& h) { return SameName(h.first, "content-type"); });
  if (!typed && !reply.content_type.empty()) {
    fmt::format_to(out, "Content-Type: {}\r\n", reply.content_type);
  }
  for (const auto& header : reply.headers) {
    if (IsSendable(header)) fmt::format_to(out, "{}: {}\r\n", header.first, header.second);
  }
  if (HasBody(reply.status)) fmt::format_to(out, "Content-Length: {}\r\n", reply.body.size());
  if (keep_alive != http11) {
    fmt::format_to(out, "Connection: {}\r\n", keep_alive ? "keep-alive" : "close");
  }
  fmt::format_to(out, "\r\n");
  return fmt::to_string(head);
}

}  // namespace

std::string_view HttpServerRequest::Header(std::string_view name) const noexcept {
  for (const auto& [key, value] : headers) {
    if (SameName(key, name)) return value;
  }
  return {};
}

class HttpServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(IoLoop* loop, Handler handler, Options options)
      : loop_(loop),
        context_(loop->context()),
        acceptor_(context_),
        handler_(std::move(handler)),
        options_(options) {
    CHECK(options_.connections_max > 0);
  }

  absl::Status Listen(std::string_view address);
  void Close();

  [[nodiscard]] uint16_t port() const { return acceptor_.local_endpoint().port(); }

 private:
  class Connection;
  class Answerer;

  absl::Status Bind(const Tcp::endpoint& endpoint, bool both_families, std::string_view address);
  void Accept();
  // So that nobody is locked out by connections that say nothing.
  void CloseTheQuietest();

  IoLoop* const loop_;
  asio::io_context& context_;
  Tcp::acceptor acceptor_;
  const Handler handler_;
  const Options options_;
  std::set<std::shared_ptr<Connection>> connections_;
  const std::shared_ptr<size_t> bodies_ = std::make_shared<size_t>(0);  // bytes held, of all
  std::array<char, 16 * 1024> scratch_;  // for one read, within one call
  bool closed_ = false;
};

// --- Connection
// ----------------------------------------------------------------------------------------

class HttpServer::Impl::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Impl> server, Tcp::socket socket)
      : server_(std::move(server)),
        socket_(std::move(socket)),
        timer_(server_->loop_),
        reply_share_(server_->bodies_) {}

  void Start() {
    error_code ignored;
    socket_.set_option(Tcp::no_delay(true), ignored);
    Next(server_->options_.head_timeout);
  }

  // Does nothing unless `exchange` is what the handler is at.
  void Answer(const Exchange* exchange, HttpReply reply) {
    if (state_ == State::kPending && exchange_.get() == exchange) Reply(std::move(reply));
  }

  void Close() {
    if (state_ == State::kClosed) return;
    state_ = State::kClosed;
    timer_.Cancel();
    error_code ignored;
    socket_.close(ignored);
    exchange_.reset();
    server_->connections_.erase(shared_from_this());
    server_.reset();
  }

  // The least of them goes when there are too many. A client is quiet since it was last waited for or answered:
  // what trickles in meanwhile does not count.
  [[nodiscard]] std::pair<bool, Time> Worth() const {
    return {!peer_done_ && state_ != State::kEnding, quiet_since_};
  }

 private:
  enum class State : uint8_t {
    kReading,   // a request, or waiting for one
    kPending,   // the handler has it
    kReplying,  // writing the answer
    kEnding,    // answered for the last time; what still comes is thrown away
    kClosed
  };

  void Next(Duration patience) {
    state_ = State::kReading;
    exchange_ = std::make_shared<Exchange>(server_->bodies_);
    parser_.emplace(exchange_.get(), server_->options_);
    begun_ = head_done_ = false;
    if (received_.empty()) received_.shrink_to_fit();
    quiet_since_ = std::chrono::steady_clock::now();
    SetTimer(patience);
    Parse();
  }

  // Takes what was received into the request; ends in reading on, in the handler or in a refusal.
  void Parse() {
    if (!begun_) {
      // Empty lines before a request are a habit of old clients (RFC 9112, section 2.2).
      received_.erase(0, std::min(received_.find_first_not_of("\r\n"), received_.size()));
      if (!received_.empty()) {
        begun_ = true;
        SetTimer(server_->options_.head_timeout);
      }
    }
    while (!received_.empty()) {
      // The parser asserts that the end of a chunked body is there as a whole, five bytes.
      if (head_done_ && parser_->chunked() && received_.size() < 5) break;
      error_code error;
      const size_t used = parser_->put(asio::buffer(received_), error);
      received_.erase(0, used);
      if (error && error != http::error::need_more) {
        Refuse(StatusOf(error), error.message());
        return;
      }
      if (!head_done_ && parser_->is_header_done() && !OnHead()) return;
      if (parser_->is_done()) {
        OnRequest();
        return;
      }
      if (error || used == 0) break;
    }
    // The parser bounds the head and the body, but no chunk's head and no trailer.
    if (received_.size() > server_->options_.header_bytes_max) {
      Refuse(400, "a line without end");
    } else if (peer_done_) {
      Close();
    } else {
      WaitReadable();
    }
  }

  // False when the request is refused.
  bool OnHead() {
    head_done_ = true;
    SetTimer(server_->options_.timeout);
    exchange_->Show();
    const HttpServerRequest& request = exchange_->shown;
    // The parser would take any other coding for no body at all.
    if (!request.Header("transfer-encoding").empty() && !parser_->chunked()) {
      Refuse(501, "a transfer coding other than chunked");
      return false;
    }
    const std::string_view expected = request.Header("expect");
    if (expected.empty() || !parser_->http11()) return true;
    if (!SameName(expected, "100-continue")) {
      Refuse(417, "an expectation other than 100-continue");
      return false;
    }
    if (parser_->is_done() || !received_.empty() || !exchange_->body.empty()) return true;
    // There is room for it: all earlier answers have been handed over. Half of it would spoil the answer.
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    const ssize_t sent = ::send(socket_.native_handle(), kContinue.data(), kContinue.size(),
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == static_cast<ssize_t>(kContinue.size())) return true;
    Close();
    return false;
  }

  void OnRequest();

  void Refuse(int status, std::string_view reason) {
    HttpReply reply;
    reply.status = status;
    reply.body = fmt::format("{}\n", reason);
    keep_alive_ = false;
    http11_ = true;
    head_only_ = false;
    parser_.reset();
    Reply(std::move(reply));
  }

  void Reply(HttpReply reply) {
    state_ = State::kReplying;
    if (exchange_ != nullptr) static_cast<void>(exchange_->share.Resize(0, 0));
    exchange_.reset();
    if (reply.status < 200 || reply.status > 999) reply.status = 500;
    if (!HasBody(reply.status)) reply.body.clear();
    if (!reply_share_.Resize(reply.body.capacity(), server_->options_.bodies_bytes_max)) {
      reply = HttpReply();
      reply.status = 503;
      reply.body = "too many answers are under way\n";
    }
    reply_head_ = BuildHead(reply, http11_, keep_alive_);
    reply_body_ = head_only_ ? std::string() : std::move(reply.body);
    quiet_since_ = std::chrono::steady_clock::now();
    SetTimer(server_->options_.timeout);
    const std::array<asio::const_buffer, 2> parts = {asio::buffer(reply_head_),
                                                     asio::buffer(reply_body_)};
    asio::async_write(socket_, parts, [self = shared_from_this()](const error_code& error, size_t) {
      if (self->state_ == State::kReplying) self->OnReplied(error);
    });
  }

  void OnReplied(const error_code& error) {
    std::string().swap(reply_body_);
    static_cast<void>(reply_share_.Resize(0, 0));
    if (error) {
      Close();
    } else if (keep_alive_) {
      Next(server_->options_.idle_timeout);
    } else {
      End();
    }
  }

  // Closing with unread bytes would reset the connection and could destroy the answer on its way.
  void End() {
    state_ = State::kEnding;
    if (peer_done_) {
      Close();
      return;
    }
    error_code ignored;
    socket_.shutdown(Tcp::socket::shutdown_send, ignored);
    std::string().swap(received_);
    SetTimer(server_->options_.timeout);
    WaitReadable();
  }

  void WaitReadable() {
    if (waits_readable_) return;
    waits_readable_ = true;
    socket_.async_wait(Tcp::socket::wait_read,
                       [self = shared_from_this()](const error_code& error) {
                         self->waits_readable_ = false;
                         if (!error) self->OnReadable();
                       });
  }

  void OnReadable() {
    if (state_ == State::kReplying || state_ == State::kClosed) return;
    // More of what the client sends ahead is left with the kernel until the answer is out.
    if (state_ == State::kPending && received_.size() >= server_->options_.header_bytes_max) return;
    auto& buffer = server_->scratch_;
    const ssize_t size =
        ::recv(socket_.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
        WaitReadable();
      } else {
        Close();
      }
      return;
    }
    if (size == 0) {
      peer_done_ = true;
      if (state_ != State::kPending) Close();
      return;
    }
    if (state_ != State::kEnding) received_.append(buffer.data(), static_cast<size_t>(size));
    if (state_ == State::kReading) {
      Parse();
    } else {
      WaitReadable();
    }
  }

  void SetTimer(Duration patience) {
    timer_.Set(std::chrono::steady_clock::now() + patience, [weak = weak_from_this()] {
      if (const std::shared_ptr<Connection> self = weak.lock()) self->Close();
    });
  }

  std::shared_ptr<Impl> server_;  // null once closed
  Tcp::socket socket_;
  IoLoop::Timer timer_;
  State state_ = State::kReading;
  Time quiet_since_{};
  bool waits_readable_ = false;
  bool peer_done_ = false;  // the client sends no more

  std::string received_;  // not yet parsed
  std::shared_ptr<Exchange> exchange_;
  std::optional<RequestParser> parser_;
  bool begun_ = false;      // the first byte of the request has come
  bool head_done_ = false;  // all of its head has

  // Of the request that is being answered.
  bool http11_ = true;
  bool keep_alive_ = false;
  bool head_only_ = false;

  std::string reply_head_;
  std::string reply_body_;
  Share reply_share_;
};

// Answers one request once: what a Responder is made of.
class HttpServer::Impl::Answerer {
 public:
  Answerer(std::weak_ptr<Connection> connection, std::shared_ptr<Exchange> exchange)
      : connection_(std::move(connection)), exchange_(std::move(exchange)) {}
  ~Answerer() {
    if (exchange_ == nullptr) return;
    HttpReply reply;
    reply.status = 500;
    reply.body = "the request was not answered\n";
    Answer(std::move(reply));
  }
  Answerer(const Answerer&) = delete;
  Answerer& operator=(const Answerer&) = delete;

  void Answer(HttpReply reply) {
    const std::shared_ptr<Exchange> exchange = std::move(exchange_);
    const std::shared_ptr<Connection> connection = connection_.lock();
    if (exchange != nullptr && connection != nullptr) {
      connection->Answer(exchange.get(), std::move(reply));
    }
  }

 private:
  const std::weak_ptr<Connection> connection_;
  std::shared_ptr<Exchange> exchange_;  // null once answered
};

void HttpServer::Impl::Connection::OnRequest() {
  state_ = State::kPending;
  timer_.Cancel();
  quiet_since_ = std::chrono::steady_clock::now();
  http11_ = parser_->http11();
  keep_alive_ = parser_->keep_alive();
  head_only_ = exchange_->method == "HEAD";
  parser_.reset();
  exchange_->Show();
  // The handler may close the server, and answer while it still looks at the request.
  const std::shared_ptr<Impl> server = server_;
  const std::shared_ptr<Exchange> exchange = exchange_;
  auto answerer = std::make_shared<Answerer>(weak_from_this(), exchange);
  server->handler_(exchange->shown, [answerer = std::move(answerer)](HttpReply reply) {
    answerer->Answer(std::move(reply));
  });
  if (state_ == State::kPending) WaitReadable();
}

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
      if (self->connections_.size() >= self->options_.connections_max) self->CloseTheQuietest();
      const auto connection = std::make_shared<Connection>(self, std::move(socket));
      self->connections_.insert(connection);
      connection->Start();
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
  const std::shared_ptr<Connection> quietest =
      *std::min_element(connections_.begin(), connections_.end(),
                        [](const auto& a, const auto& b) { return a->Worth() < b->Worth(); });
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
