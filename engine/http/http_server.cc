// The server: Asio says when a socket is ready, Beast's parser reads the requests. Tested by
// tests/unit/engine/http/http_server_test.cc.
#include "engine/http/http_server.h"

#include <fmt/format.h>
#include <linux/filter.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/status.hpp>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <optional>
#include <set>

#include "absl/strings/match.h"
#include "engine/base/check.h"
#include "engine/base/ip_address.h"
#include "engine/base/status_macros.h"
#include "engine/http/close_on_exec.h"
#include "engine/http/http_url.h"

namespace mobula {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Tcp = asio::ip::tcp;

namespace {

constexpr size_t kHeadersMax = 128;
constexpr size_t kBudget = 32 << 20;
// Else the kernel would take megabytes for a connection, which a container pays for too.
constexpr int kKernelBuffer = 64 * 1024;
constexpr std::string_view kBusy = "too many requests at once, try again";

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

// A request until its handler has returned.
struct Exchange {
  explicit Exchange(std::shared_ptr<ByteBudget> budget) {
    shown.share = std::make_shared<ByteShare>(std::move(budget));
  }

  // Completes what the handler sees; nothing else changes from here on.
  void Show() {
    shown.method = method == "HEAD" ? std::string_view("GET") : method;
    shown.target = target;
    shown.headers.assign(headers.begin(), headers.end());
  }

  std::string method;
  std::string target;
  std::vector<std::pair<std::string, std::string>> headers;
  HttpServerRequest shown;
};

// Collects a request into an Exchange.
class RequestParser final : public http::basic_parser<true> {
 public:
  // `make_room` is asked for room for the head; false: there is none to be had.
  RequestParser(Exchange* exchange, const HttpServer::Options& options,
                std::function<bool()> make_room)
      : exchange_(exchange), options_(options), make_room_(std::move(make_room)) {
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
    while (!exchange_->shown.share->Resize(HeadBytes() + exchange_->shown.body.capacity())) {
      if (make_room_()) continue;
      error = make_error_code(boost::system::errc::not_enough_memory);
      return;
    }
  }
  // With the pairs of strings that a header is kept and shown in.
  [[nodiscard]] size_t HeadBytes() const { return head_bytes_ + 96 * exchange_->headers.size(); }

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
    HttpServerRequest& shown = exchange_->shown;
    if (!shown.share->Append({data.data(), data.size()}, HeadBytes(), &shown.body)) {
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
  const std::function<bool()> make_room_;
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

// A listener of the same user may stand beside this one (socket(7), SO_REUSEPORT).
void AllowSharing(int fd) {
  const int one = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
}

// All connections to the second listener on the port, to the first one while it is alone. Without it, where programs are
// refused, the kernel's hash spreads them over both. Only by the first one, as a program that is replaced may still be
// running when the kernel frees it.
void SteerToTheSecond(int fd) {
  sock_filter code = {BPF_RET | BPF_K, 0, 0, 1};
  const sock_fprog program = {1, &code};
  ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program);
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
  if (HasBody(reply.status)) fmt::format_to(out, "Content-Length: {}\r\n", reply.text().size());
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
        options_(std::move(options)),
        budget_(options_.budget != nullptr ? options_.budget
                                           : std::make_shared<ByteBudget>(kBudget)) {
    CHECK(options_.connections_max > 0);
  }

  absl::Status Listen(std::string_view address, PortUse use);
  void StopListening();
  void Close();

  [[nodiscard]] uint16_t port() const { return acceptor_.local_endpoint().port(); }
  [[nodiscard]] bool is_loopback() const {
    const Tcp::endpoint endpoint = acceptor_.local_endpoint();
    const auto address = IpAddressOf(endpoint.data());
    return address && address->is_loopback();
  }

 private:
  class Connection;
  class Answerer;

  absl::Status Bind(const Tcp::endpoint& endpoint, bool both_families, std::string_view address,
                    PortUse use);
  void Accept();
  void Serve(Tcp::socket socket);
  // So that nobody is locked out by connections that say nothing.
  void CloseTheQuietest();
  // Refuses the request that has been coming for longest, but for that of `asking`; false when there is none.
  bool RefuseTheSlowest(const Connection* asking);

  IoLoop* const loop_;
  asio::io_context& context_;
  Tcp::acceptor acceptor_;
  const Handler handler_;
  const Options options_;
  std::set<std::shared_ptr<Connection>> connections_;
  const std::shared_ptr<ByteBudget> budget_;
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
        received_share_(server_->budget_),
        reply_share_(server_->budget_) {}

  void Start() {
    error_code ignored;
    socket_.set_option(Tcp::no_delay(true), ignored);
    socket_.non_blocking(true, ignored);
    const Tcp::endpoint peer = socket_.remote_endpoint(ignored);
    peer_ = peer.address().is_v6() ? fmt::format("[{}]:{}", peer.address().to_string(), peer.port())
                                   : fmt::format("{}:{}", peer.address().to_string(), peer.port());
    if (server_->options_.tls == nullptr) {
      Next(server_->options_.head_timeout);
      return;
    }
    state_ = State::kHandshake;
    quiet_since_ = std::chrono::steady_clock::now();
    SetTimer(server_->options_.head_timeout);
    WaitReadable();
  }

  // Does nothing unless it is request number `turn` that waits for its answer.
  void Answer(uint64_t turn, HttpReply reply) {
    if (state_ == State::kPending && turn_ == turn) Reply(std::move(reply));
  }

  void RefuseBusy() { Refuse(503, kBusy); }

  void Close() {
    if (state_ == State::kClosed) return;
    state_ = State::kClosed;
    timer_.Cancel();
    error_code ignored;
    tls_.reset();
    socket_.close(ignored);
    parser_.reset();
    exchange_.reset();
    Forget();
    reply_share_.Clear();
    server_->connections_.erase(shared_from_this());
    server_.reset();
  }

  // The least of them goes when there are too many. A client is quiet since it was last waited for or answered:
  // what trickles in meanwhile does not count.
  [[nodiscard]] std::pair<bool, Time> Worth() const {
    return {!peer_done_ && state_ != State::kEnding, quiet_since_};
  }

  // Whether a part of a request has come.
  [[nodiscard]] bool is_reading() const { return state_ == State::kReading && begun_; }

 private:
  enum class State : uint8_t {
    kHandshake,
    kReading,   // a request, or waiting for one
    kPending,   // the handler has it
    kReplying,  // writing the answer
    kEnding,    // answered for the last time; what still comes is thrown away
    kClosed
  };

  void Handshake() {
    if (tls_ == nullptr && !BeginTls()) return;
    switch (tls_->Handshake().status) {
      case IoStatus::kDone:
        verified_ = tls_->peer_verified();
        Next(server_->options_.head_timeout);
        return;
      case IoStatus::kWantRead:
        WaitReadable();
        return;
      case IoStatus::kWantWrite:
        WaitWritable();
        return;
      case IoStatus::kEnd:
      case IoStatus::kError:
        Close();
        return;
    }
  }

  // False when the client does not speak TLS, or there is no memory.
  bool BeginTls() {
    constexpr char kHandshakeRecord = 0x16;
    char first = 0;
    const ssize_t got = ::recv(socket_.native_handle(), &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got == 1 && first != kHandshakeRecord) {
      Refuse(400, "this port speaks TLS: ask with https");
      return false;
    }
    tls_ = server_->options_.tls->NewStream(socket_.native_handle());
    if (tls_ == nullptr) Close();
    return tls_ != nullptr;
  }

  void Next(Duration patience) {
    state_ = State::kReading;
    exchange_ = std::make_unique<Exchange>(server_->budget_);
    parser_.emplace(exchange_.get(), server_->options_,
                    [this] { return server_->RefuseTheSlowest(this); });
    begun_ = head_done_ = false;
    quiet_since_ = std::chrono::steady_clock::now();
    SetTimer(patience);
    Parse(received_, /*kept=*/true);
  }

  // Takes what was received into the request; ends in reading on, in the handler or in a refusal. `kept`: it is
  // received_, else it follows on nothing.
  void Parse(std::string_view data, bool kept) {
    if (!begun_) {
      // Empty lines before a request are a habit of old clients (RFC 9112, section 2.2).
      data.remove_prefix(std::min(data.find_first_not_of("\r\n"), data.size()));
      if (!data.empty()) {
        begun_ = true;
        SetTimer(server_->options_.head_timeout);
      }
    }
    while (!data.empty()) {
      // The parser asserts that the end of a chunked body is there as a whole, five bytes.
      if (head_done_ && parser_->chunked() && data.size() < 5) break;
      error_code error;
      const size_t used = parser_->put(asio::buffer(data.data(), data.size()), error);
      data.remove_prefix(used);
      if (error && error != http::error::need_more) {
        const int status = StatusOf(error);
        Refuse(status, status == 503 ? std::string(kBusy) : error.message());
        return;
      }
      if (!head_done_ && parser_->is_header_done() && !OnHead(data.empty())) return;
      if (parser_->is_done()) {
        if (Keep(data, kept)) OnRequest();
        return;
      }
      if (error || used == 0) break;
    }
    if (!Keep(data, kept)) return;
    // The parser bounds the head and the body, but no chunk's head and no trailer.
    if (received_.size() > server_->options_.header_bytes_max) {
      Refuse(400, "a line without end");
    } else if (peer_done_) {
      Close();
    } else {
      WaitReadable();
    }
  }

  // Keeps what is not parsed yet, the end of received_ or of what follows on nothing; false when the request is
  // refused because there is no room.
  bool Keep(std::string_view rest, bool kept) {
    if (rest.empty()) {
      Forget();
    } else if (kept) {
      received_.erase(0, received_.size() - rest.size());
    } else {
      return Store(rest);
    }
    return true;
  }

  bool Store(std::string_view data) {
    while (!received_share_.Append(data, 0, &received_)) {
      if (server_->RefuseTheSlowest(this)) continue;
      RefuseBusy();
      return false;
    }
    return true;
  }

  void Forget() {
    std::string().swap(received_);
    received_share_.Clear();
  }

  // False when the request is refused.
  bool OnHead(bool all_taken) {
    head_done_ = true;
    SetTimer(server_->options_.timeout);
    exchange_->Show();
    exchange_->shown.peer = peer_;
    exchange_->shown.verified = verified_;
    const HttpServerRequest& request = exchange_->shown;
    // The parser would take other codings for no body at all, or for chunked.
    const auto is_coding = [](const auto& h) { return SameName(h.first, "transfer-encoding"); };
    const auto coded = std::find_if(request.headers.begin(), request.headers.end(), is_coding);
    if (coded != request.headers.end() &&
        (!SameName(coded->second, "chunked") || !parser_->chunked() ||
         std::any_of(coded + 1, request.headers.end(), is_coding))) {
      Refuse(501, "a transfer coding other than chunked");
      return false;
    }
    const std::string_view expected = request.Header("expect");
    if (expected.empty() || !parser_->http11()) return true;
    if (!SameName(expected, "100-continue")) {
      Refuse(417, "an expectation other than 100-continue");
      return false;
    }
    if (parser_->is_done() || !all_taken || !request.body.empty()) return true;
    // There is room for it: all earlier answers have been handed over. Half of it would spoil the answer.
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    const IoResult sent = Send(kContinue, {});
    if (sent.status == IoStatus::kDone && sent.bytes == kContinue.size()) return true;
    Close();
    return false;
  }

  void OnRequest();

  void Refuse(int status, std::string_view reason) {
    HttpReply reply;
    reply.status = status;
    reply.body = fmt::format("{}\n", reason);
    if (status == 503) reply.headers = {{"Retry-After", "1"}};
    keep_alive_ = false;
    http11_ = true;
    head_only_ = false;
    parser_.reset();
    exchange_.reset();
    Forget();
    Reply(std::move(reply));
  }

  void Reply(HttpReply reply) {
    state_ = State::kReplying;
    if (!server_->acceptor_.is_open()) keep_alive_ = false;
    if (reply.status < 200 || reply.status > 999) reply.status = 500;
    if (!HasBody(reply.status)) {
      reply.body.clear();
      reply.shared_body.reset();
    }
    reply_head_ = BuildHead(reply, http11_, keep_alive_);
    if (!CountReply(reply)) {
      reply = HttpReply();
      reply.status = 503;
      reply.body = fmt::format("{}\n", kBusy);
      reply.headers = {{"Retry-After", "1"}};
      reply_head_ = BuildHead(reply, http11_, keep_alive_);
    }
    if (!head_only_) {
      reply_body_ = std::move(reply.body);
      reply_shared_ = std::move(reply.shared_body);
    }
    quiet_since_ = std::chrono::steady_clock::now();
    SetTimer(server_->options_.timeout);
    written_ = 0;
    writing_ = true;
    Write();
  }

  void Write() {
    if (!writing_) return;
    const std::string& body = reply_shared_ != nullptr ? *reply_shared_ : reply_body_;
    bool ok = true;
    while (ok && written_ < reply_head_.size() + body.size()) {
      const size_t of_head = std::min(written_, reply_head_.size());
      const IoResult result = Send(std::string_view(reply_head_).substr(of_head),
                                   std::string_view(body).substr(written_ - of_head));
      switch (result.status) {
        case IoStatus::kDone:
          written_ += result.bytes;
          break;
        case IoStatus::kWantWrite:
          WaitWritable();
          return;
        case IoStatus::kWantRead:
          WaitReadable();
          return;
        case IoStatus::kEnd:
        case IoStatus::kError:
          ok = false;
          break;
      }
    }
    writing_ = false;
    // Not from here: a client that sends a hundred requests at once would have them answered inside of each other.
    asio::post(server_->context_, [self = shared_from_this(), ok] {
      if (self->state_ == State::kReplying) self->OnReplied(ok);
    });
  }

  // Sends some of `head`, and of `body` behind it.
  IoResult Send(std::string_view head, std::string_view body) {
    if (tls_ == nullptr) {
      iovec parts[2] = {{const_cast<char*>(head.data()), head.size()},
                        {const_cast<char*>(body.data()), body.size()}};
      msghdr message{};
      message.msg_iov = parts;
      message.msg_iovlen = 2;
      const ssize_t sent = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL);
      return sent >= 0 ? IoResult{IoStatus::kDone, static_cast<size_t>(sent)}
                       : IoResult{Unready(IoStatus::kWantWrite)};
    }
    if (head.empty()) return tls_->Write(body.data(), body.size());
    if (body.empty()) return tls_->Write(head.data(), head.size());
    // They share the first record; rebuilt alike when the write has to be tried again.
    std::array<char, 16 * 1024> record;
    const size_t head_bytes = std::min(head.size(), record.size());
    const size_t body_bytes = std::min(body.size(), record.size() - head_bytes);
    std::memcpy(record.data(), head.data(), head_bytes);
    std::memcpy(record.data() + head_bytes, body.data(), body_bytes);
    return tls_->Write(record.data(), head_bytes + body_bytes);
  }

  IoResult Receive(char* data, size_t size) {
    // What comes behind the end is thrown away as it is.
    if (tls_ != nullptr && state_ != State::kEnding) return tls_->Read(data, size);
    const ssize_t got = ::recv(socket_.native_handle(), data, size, 0);
    if (got == 0) return {IoStatus::kEnd};
    return got > 0 ? IoResult{IoStatus::kDone, static_cast<size_t>(got)}
                   : IoResult{Unready(IoStatus::kWantRead)};
  }

  static IoStatus Unready(IoStatus wanted) {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? wanted : IoStatus::kError;
  }

  bool CountReply(const HttpReply& reply) {
    const size_t bytes = reply_head_.size() + reply.body.capacity();
    while (!reply_share_.Resize(bytes)) {
      const bool small = bytes <= server_->options_.header_bytes_max && reply.status != 503;
      if (!small || !server_->RefuseTheSlowest(this)) return false;
    }
    return true;
  }

  void OnReplied(bool ok) {
    std::string().swap(reply_head_);
    std::string().swap(reply_body_);
    reply_shared_.reset();
    reply_share_.Clear();
    if (!ok) {
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
    if (tls_ != nullptr) tls_->Close();
    socket_.shutdown(Tcp::socket::shutdown_send, ignored);
    Forget();
    SetTimer(server_->options_.timeout);
    WaitReadable();
  }

  void WaitReadable() {
    if (waits_readable_) return;
    waits_readable_ = true;
    auto ready = [self = shared_from_this()](const error_code& error) {
      self->waits_readable_ = false;
      if (!error) self->OnReadable();
    };
    // Of what TLS has taken and we have not, no readiness of the socket tells. But what it called dry may be a part of
    // a record, of which there is more to come.
    if (tls_ != nullptr && !dry_ && tls_->Pending()) {
      asio::post(server_->context_, [ready = std::move(ready)] { ready(error_code()); });
    } else {
      socket_.async_wait(Tcp::socket::wait_read, std::move(ready));
    }
  }

  // Only for what was to be written, or for TLS, which may have to write something of its own.
  void WaitWritable() {
    if (waits_writable_) return;
    waits_writable_ = true;
    socket_.async_wait(Tcp::socket::wait_write,
                       [self = shared_from_this()](const error_code& error) {
                         self->waits_writable_ = false;
                         if (!error) self->OnReady();
                       });
  }

  void OnReady() {
    if (state_ == State::kHandshake) {
      Handshake();
    } else if (state_ == State::kReplying) {
      Write();
    } else {
      OnReadable();
    }
  }

  void OnReadable() {
    if (state_ == State::kClosed) return;
    if (state_ == State::kHandshake) return Handshake();
    // Nothing is read meanwhile; TLS may have waited for this to write on.
    if (state_ == State::kReplying) return Write();
    // More of what the client sends ahead is left with the kernel until the answer is out.
    if (state_ == State::kPending && received_.size() >= server_->options_.header_bytes_max) return;
    auto& buffer = server_->scratch_;
    const IoResult result = Receive(buffer.data(), buffer.size());
    dry_ = result.status == IoStatus::kWantRead;
    switch (result.status) {
      case IoStatus::kDone:
        break;
      case IoStatus::kWantRead:
        WaitReadable();
        return;
      case IoStatus::kWantWrite:
        WaitWritable();
        return;
      case IoStatus::kEnd:
        peer_done_ = true;
        if (state_ != State::kPending) Close();
        return;
      case IoStatus::kError:
        Close();
        return;
    }
    const std::string_view data(buffer.data(), result.bytes);
    if (state_ == State::kEnding) {
      WaitReadable();
    } else if (state_ == State::kPending) {
      if (received_share_.Append(data, 0, &received_)) {
        WaitReadable();
      } else {
        Close();
      }
    } else if (received_.empty()) {
      Parse(data, /*kept=*/false);
    } else if (Store(data)) {
      Parse(received_, /*kept=*/true);
    }
  }

  void SetTimer(Duration patience) {
    timer_.Set(std::chrono::steady_clock::now() + patience, [weak = weak_from_this()] {
      if (const std::shared_ptr<Connection> self = weak.lock()) self->Close();
    });
  }

  std::shared_ptr<Impl> server_;  // null once closed
  Tcp::socket socket_;
  std::string peer_;
  std::unique_ptr<TlsStream> tls_;
  bool verified_ = false;
  bool dry_ = false;  // TLS has taken all there was
  IoLoop::Timer timer_;
  State state_ = State::kReading;
  Time quiet_since_{};
  bool waits_readable_ = false;
  bool waits_writable_ = false;
  bool peer_done_ = false;  // the client sends no more

  std::string received_;  // not yet parsed
  ByteShare received_share_;
  std::unique_ptr<Exchange> exchange_;  // while its request is read
  uint64_t turn_ = 0;                   // of the request that the handler got last
  std::optional<RequestParser> parser_;
  bool begun_ = false;      // the first byte of the request has come
  bool head_done_ = false;  // all of its head has

  // Of the request that is being answered.
  bool http11_ = true;
  bool keep_alive_ = false;
  bool head_only_ = false;

  std::string reply_head_;
  size_t written_ = 0;  // of head and body
  bool writing_ = false;
  std::string reply_body_;
  std::shared_ptr<const std::string> reply_shared_;  // in place of it
  ByteShare reply_share_;
};

// Answers one request once: what a Responder is made of.
class HttpServer::Impl::Answerer {
 public:
  Answerer(std::weak_ptr<Connection> connection, uint64_t turn)
      : connection_(std::move(connection)), turn_(turn) {}
  ~Answerer() {
    HttpReply reply;
    reply.status = 500;
    reply.body = "the request was not answered\n";
    Answer(std::move(reply));
  }
  Answerer(const Answerer&) = delete;
  Answerer& operator=(const Answerer&) = delete;

  void Answer(HttpReply reply) {
    const std::shared_ptr<Connection> connection = connection_.lock();
    connection_.reset();
    if (connection != nullptr) connection->Answer(turn_, std::move(reply));
  }

 private:
  std::weak_ptr<Connection> connection_;  // empty once answered
  const uint64_t turn_;
};

void HttpServer::Impl::Connection::OnRequest() {
  state_ = State::kPending;
  timer_.Cancel();
  quiet_since_ = std::chrono::steady_clock::now();
  http11_ = parser_->http11();
  keep_alive_ = parser_->keep_alive();
  head_only_ = exchange_->method == "HEAD";
  parser_.reset();
  // The handler may close the server, and answer while it still looks at the request.
  const std::shared_ptr<Impl> server = server_;
  const std::unique_ptr<Exchange> exchange = std::move(exchange_);
  auto answerer = std::make_shared<Answerer>(weak_from_this(), ++turn_);
  server->handler_(exchange->shown, [answerer = std::move(answerer)](HttpReply reply) {
    answerer->Answer(std::move(reply));
  });
  if (state_ == State::kPending) WaitReadable();
}

// --- Impl
// ----------------------------------------------------------------------------------------------

absl::Status HttpServer::Impl::Listen(std::string_view address, PortUse use) {
  ASSIGN_OR_RETURN(const HostPort where, ParseHostPort(address));
  if (where.host.empty()) {
    const absl::Status both = Bind({Tcp::v6(), where.port}, /*both_families=*/true, address, use);
    // A machine without IPv6.
    return both.ok() ? both : Bind({Tcp::v4(), where.port}, false, address, use);
  }
  error_code error;
  Tcp::resolver resolver(context_);
  const auto found = resolver.resolve(where.host, std::to_string(where.port),
                                      Tcp::resolver::numeric_service, error);
  if (error || found.empty()) {
    return absl::NotFoundError(fmt::format("cannot resolve {}: {}", address, error.message()));
  }
  return Bind(found.begin()->endpoint(), /*both_families=*/false, address, use);
}

absl::Status HttpServer::Impl::Bind(const Tcp::endpoint& endpoint, bool both_families,
                                    std::string_view address, PortUse use) {
  error_code error;
  acceptor_.open(endpoint.protocol(), error);
  if (!error) SetCloseOnExec(acceptor_.native_handle());
  if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  // Connections inherit these.
  if (!error) acceptor_.set_option(asio::socket_base::send_buffer_size(kKernelBuffer), error);
  if (!error) acceptor_.set_option(asio::socket_base::receive_buffer_size(kKernelBuffer), error);
  if (!error && both_families) acceptor_.set_option(asio::ip::v6_only(false), error);
  if (!error) acceptor_.bind(endpoint, error);
  const bool beside = error == asio::error::address_in_use && use == PortUse::kShared;
  // Set after binding alone, it lets a successor listen beside this one.
  if (!error || beside) AllowSharing(acceptor_.native_handle());
  if (beside) {
    acceptor_.bind(endpoint, error);
  } else if (!error) {
    SteerToTheSecond(acceptor_.native_handle());
  }
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
    if (!error) self->Serve(std::move(socket));
    if (!self->acceptor_.is_open()) return;
    // Out of descriptors or memory: the pending connection stays in the kernel's queue; looking again
    // at once would spin until there is some. Only a client that gave up meanwhile is no such error.
    if (error && error != asio::error::connection_aborted) {
      auto pause = std::make_shared<asio::steady_timer>(self->context_, std::chrono::seconds(1));
      pause->async_wait([self, pause](const error_code&) {
        if (self->acceptor_.is_open()) self->Accept();
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

bool HttpServer::Impl::RefuseTheSlowest(const Connection* asking) {
  std::shared_ptr<Connection> slowest;
  for (const auto& connection : connections_) {
    if (connection.get() == asking || !connection->is_reading()) continue;
    if (slowest == nullptr || connection->Worth().second < slowest->Worth().second) {
      slowest = connection;
    }
  }
  if (slowest == nullptr) return false;
  slowest->RefuseBusy();
  return true;
}

void HttpServer::Impl::Serve(Tcp::socket socket) {
  SetCloseOnExec(socket.native_handle());
  if (connections_.size() >= options_.connections_max) CloseTheQuietest();
  const auto connection = std::make_shared<Connection>(shared_from_this(), std::move(socket));
  connections_.insert(connection);
  connection->Start();
}

void HttpServer::Impl::StopListening() {
  if (!acceptor_.is_open()) return;
  error_code error;
  // Closing would reset those that wait.
  acceptor_.non_blocking(true, error);
  while (!error) {
    Tcp::socket socket(context_);
    acceptor_.accept(socket, error);
    if (!error) Serve(std::move(socket));
  }
  acceptor_.close(error);
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
    : impl_(std::make_shared<Impl>(loop, std::move(handler), std::move(options))) {}
HttpServer::~HttpServer() { Close(); }

absl::Status HttpServer::Listen(std::string_view address, PortUse use) {
  return impl_->Listen(address, use);
}
uint16_t HttpServer::port() const { return impl_->port(); }
bool HttpServer::is_loopback() const { return impl_->is_loopback(); }
void HttpServer::StopListening() { impl_->StopListening(); }
void HttpServer::Close() { impl_->Close(); }

}  // namespace mobula
