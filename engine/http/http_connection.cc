// One connection: Asio says when the socket is ready, the bytes go straight between it, or OpenSSL,
// and the call's own buffers. Tested by tests/unit/engine/http/http_client_test.cc and
// http_client_tls_test.cc.
#include "engine/http/http_connection.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/beast/http/error.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/base/check.h"
#include "engine/http/close_on_exec.h"

namespace mobula {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

constexpr uint32_t kHeaderBytesMax = 16 * 1024;

IoResult FromErrno(IoStatus would_block) {
  if (errno == EAGAIN || errno == EWOULDBLOCK) return {would_block};
  return {IoStatus::kError};
}

}  // namespace

// --- HttpResponseParser
// --------------------------------------------------------------------------------

HttpResponseParser::HttpResponseParser(HttpResponse* response, size_t body_bytes_max,
                                       bool head_only)
    : response_(response) {
  eager(true);
  header_limit(kHeaderBytesMax);
  body_limit(body_bytes_max);
  skip(head_only);
}

void HttpResponseParser::on_response_impl(int status, text, int, error_code& error) {
  response_->status = status;
  // RFC 9110, section 15: 100 to 599. What is above 599 has a class of its own, and is an error to everybody.
  if (status < 100) error = http::error::bad_status;
}

void HttpResponseParser::on_field_impl(http::field, text name, text value, error_code& error) {
  // The base class bounds what it has not yet taken, not the sum of what came bit by bit.
  head_bytes_ += name.size() + value.size();
  if (head_bytes_ > kHeaderBytesMax) error = http::error::header_limit;
  if (response_->share != nullptr &&
      !response_->share->Resize(HeadBytes() + response_->body.capacity())) {
    error = make_error_code(boost::system::errc::not_enough_memory);
  }
  response_->headers.emplace_back(std::string(name), std::string(value));
}

size_t HttpResponseParser::on_body_impl(text data, error_code& error) {
  if (response_->share == nullptr) {
    response_->body.append(data.data(), data.size());
  } else if (!response_->share->Append({data.data(), data.size()}, HeadBytes(), &response_->body)) {
    error = make_error_code(boost::system::errc::not_enough_memory);
  }
  return data.size();
}

size_t HttpResponseParser::on_chunk_body_impl(uint64_t, text data, error_code& error) {
  return on_body_impl(data, error);
}

// --- Connecting
// ----------------------------------------------------------------------------------------

HttpConnection::HttpConnection(HttpConnectionOwner* owner, asio::io_context& context)
    : owner_(owner), socket_(context) {}

void HttpConnection::Connect(std::vector<Tcp::endpoint> endpoints, HttpCallPtr call) {
  call_ = std::move(call);
  endpoints_ = std::move(endpoints);
  connect_error_ = absl::UnavailableError("no address to connect to");
  connect_fault_ = "unreachable";
  TryNextEndpoint();
}

void HttpConnection::TryNextEndpoint() {
  error_code error;
  while (endpoint_next_ < endpoints_.size()) {
    const Tcp::endpoint& endpoint = endpoints_[endpoint_next_++];
    socket_.close(error);
    socket_.open(endpoint.protocol(), error);
    if (!error) SetCloseOnExec(socket_.native_handle());
    if (!error) socket_.non_blocking(true, error);
    if (!error) socket_.set_option(Tcp::no_delay(true), error);
    if (error) {
      connect_error_ =
          absl::UnavailableError(fmt::format("cannot open a socket: {}", error.message()));
      continue;
    }
    attempt_due_ = call_->deadline;
    if (endpoint_next_ < endpoints_.size()) {
      const Time soon = std::chrono::steady_clock::now() + owner_->options().connect_timeout;
      attempt_due_ = std::min(attempt_due_, soon);
    }
    owner_->WatchUntil(attempt_due_);
    socket_.async_connect(
        endpoint, [self = shared_from_this(), attempt = ++attempt_](const error_code& result) {
          if (self->state_ == State::kConnecting && self->attempt_ == attempt)
            self->OnConnect(result);
        });
    return;
  }
  owner_->OnConnectFailed();
  // Posted, so that no callback runs inside Send.
  asio::post(socket_.get_executor(), [self = shared_from_this(), attempt = ++attempt_] {
    if (self->state_ == State::kConnecting && self->attempt_ == attempt) {
      self->Fail(self->connect_error_, self->connect_fault_);
    }
  });
}

void HttpConnection::OnConnect(const error_code& error) {
  const Tcp::endpoint endpoint = endpoints_[endpoint_next_ - 1];
  if (error) {
    connect_error_ = absl::UnavailableError(
        fmt::format("cannot connect to {}{} port {}: {}",
                    owner_->options().proxy.has_value() ? PeerName() + " at " : std::string(),
                    endpoint.address().to_string(), endpoint.port(), error.message()));
    connect_fault_ = error == asio::error::connection_refused ? "refused" : "unreachable";
    TryNextEndpoint();
    return;
  }
  owner_->OnConnected(endpoint);
  owner_->WatchUntil(call_->deadline);
  if (!owner_->tunnel_request().empty()) {
    state_ = State::kTunnel;
    parser_.emplace(&response_, 0, /*head_only=*/true);
    WriteTunnelRequest();
  } else if (owner_->tls() != nullptr) {
    BeginTls();
  } else {
    Begin();
  }
}

// --- The tunnel
// ----------------------------------------------------------------------------------------

void HttpConnection::WriteTunnelRequest() {
  const std::string& request = owner_->tunnel_request();
  while (written_ < request.size()) {
    const ssize_t sent = ::send(socket_.native_handle(), request.data() + written_,
                                request.size() - written_, MSG_NOSIGNAL);
    if (sent < 0 && FromErrno(IoStatus::kWantWrite).status == IoStatus::kWantWrite) {
      WaitWritable();
      return;
    }
    if (sent < 0) break;  // reading says why
    written_ += static_cast<size_t>(sent);
  }
  WaitReadable();
}

void HttpConnection::ReadTunnelAnswer() {
  HttpConnectionOwner::Scratch& buffer = owner_->scratch();
  const IoResult result = ReadSome(buffer.data(), buffer.size());
  switch (result.status) {
    case IoStatus::kDone:
      break;
    case IoStatus::kWantRead:
    case IoStatus::kWantWrite:
      WaitReadable();
      return;
    case IoStatus::kEnd:
      Lost("closed before an answer");
      return;
    case IoStatus::kError:
      Lost(std::strerror(errno));
      return;
  }
  tunnel_bytes_ += result.bytes;
  partial_.append(buffer.data(), result.bytes);
  while (!partial_.empty()) {
    error_code error;
    const size_t used = parser_->put(asio::buffer(partial_), error);
    partial_.erase(0, used);
    if (error && error != http::error::need_more) {
      Fail(absl::DataLossError(
               fmt::format("the answer of {} is not usable HTTP: {}", PeerName(), error.message())),
           "garbled");
      return;
    }
    if (parser_->is_done() && response_.status / 100 != 1) {
      OnTunnelAnswer();
      return;
    }
    if (parser_->is_done()) {
      response_ = HttpResponse();
      parser_.emplace(&response_, 0, /*head_only=*/true);
    } else if (error || used == 0) {
      break;
    }
  }
  if (tunnel_bytes_ > kHeaderBytesMax) {
    Fail(absl::DataLossError(fmt::format("the answer of {} has no end", PeerName())), "garbled");
    return;
  }
  WaitReadable();
}

void HttpConnection::OnTunnelAnswer() {
  if (response_.status / 100 != 2) {
    Fail(ProxyRefused(), "proxy_refused");
  } else if (!partial_.empty() || written_ != owner_->tunnel_request().size()) {
    // In TLS the client speaks first.
    Fail(absl::DataLossError(fmt::format("{} sent more than its answer", PeerName())), "garbled");
  } else {
    BeginTls();
  }
}

void HttpConnection::BeginTls() {
  tls_ = owner_->tls()->NewStream(socket_.native_handle());
  if (tls_ == nullptr) {
    Fail(absl::UnavailableError("cannot begin TLS"), "tls_handshake");
    return;
  }
  state_ = State::kHandshake;
  Handshake();
}

void HttpConnection::Handshake() {
  switch (tls_->Handshake().status) {
    case IoStatus::kDone:
      Begin();
      return;
    case IoStatus::kWantRead:
      WaitReadable();
      return;
    case IoStatus::kWantWrite:
      WaitWritable();
      return;
    case IoStatus::kEnd:
    case IoStatus::kError:
      break;
  }
  const std::string& host = owner_->options().url.host;
  if (tls_->verification_failed()) {
    Fail(absl::UnauthenticatedError(
             fmt::format("the certificate of {} is not accepted: {}", host, tls_->error())),
         "tls_verify");
  } else {
    Fail(absl::UnavailableError(
             fmt::format("TLS handshake with {} failed: {}", host, tls_->error())),
         "tls_handshake");
  }
}

// --- A call
// --------------------------------------------------------------------------------------------

void HttpConnection::Start(HttpCallPtr call) {
  DCHECK(state_ == State::kIdle);
  call_ = std::move(call);
  reused_ = true;
  Begin();
  owner_->WatchUntil(call_->deadline);
}

void HttpConnection::Begin() {
  state_ = State::kBusy;
  written_ = 0;
  answered_ = write_broken_ = write_wants_read_ = read_wants_write_ = false;
  partial_.clear();
  ExpectAnswer();
  Write();
  WaitReadable();
}

void HttpConnection::ExpectAnswer() {
  const HttpClient::Options& options = owner_->options();
  response_ = HttpResponse();
  if (options.budget != nullptr) response_.share = std::make_shared<ByteShare>(options.budget);
  parser_.emplace(&response_, options.body_bytes_max, call_->head_only);
}

void HttpConnection::Write() {
  if (write_broken_) return;
  while (written_ < call_->size()) {
    const IoResult result = WriteSome();
    switch (result.status) {
      case IoStatus::kDone:
        written_ += result.bytes;
        break;
      case IoStatus::kWantWrite:
        WaitWritable();
        return;
      case IoStatus::kWantRead:
        write_wants_read_ = true;
        WaitReadable();
        return;
      case IoStatus::kEnd:
      case IoStatus::kError:
        // The answer may have come before the far side closed; if not, reading fails and says why.
        write_broken_ = true;
        return;
    }
  }
}

IoResult HttpConnection::WriteSome() {
  const std::string_view head =
      std::string_view(call_->head).substr(std::min(written_, call_->head.size()));
  const std::string_view body =
      call_->body.substr(written_ > call_->head.size() ? written_ - call_->head.size() : 0);
  if (tls_ == nullptr) {
    iovec parts[2] = {{const_cast<char*>(head.data()), head.size()},
                      {const_cast<char*>(body.data()), body.size()}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    const ssize_t sent = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL);
    if (sent < 0) return FromErrno(IoStatus::kWantWrite);
    return {IoStatus::kDone, static_cast<size_t>(sent)};
  }
  if (head.empty()) return tls_->Write(body.data(), body.size());
  // Head and body share the first record; rebuilt alike when the write has to be tried again.
  HttpConnectionOwner::Scratch& record = owner_->scratch();
  const size_t head_bytes = std::min(head.size(), record.size());
  const size_t body_bytes = std::min(body.size(), record.size() - head_bytes);
  std::memcpy(record.data(), head.data(), head_bytes);
  if (body_bytes != 0) std::memcpy(record.data() + head_bytes, body.data(), body_bytes);
  return tls_->Write(record.data(), head_bytes + body_bytes);
}

IoResult HttpConnection::ReadSome(char* data, size_t size) {
  if (tls_ != nullptr) return tls_->Read(data, size);
  const ssize_t received = ::recv(socket_.native_handle(), data, size, 0);
  if (received < 0) return FromErrno(IoStatus::kWantRead);
  if (received == 0) return {IoStatus::kEnd};
  return {IoStatus::kDone, static_cast<size_t>(received)};
}

void HttpConnection::Read() {
  HttpConnectionOwner::Scratch& buffer = owner_->scratch();
  do {
    const IoResult result = ReadSome(buffer.data(), buffer.size());
    switch (result.status) {
      case IoStatus::kDone:
        break;
      case IoStatus::kWantRead:
        WaitReadable();
        return;
      case IoStatus::kWantWrite:
        read_wants_write_ = true;
        WaitWritable();
        return;
      case IoStatus::kEnd:
        OnEnd();
        return;
      case IoStatus::kError:
        Lost(tls_ != nullptr ? std::string_view(tls_->error()) : std::strerror(errno));
        return;
    }
    if (state_ == State::kIdle) {  // nobody asked for anything
      Close();
      return;
    }
    answered_ = true;
    if (!Feed(buffer.data(), result.bytes)) return;
  } while (tls_ != nullptr && tls_->Pending());
  WaitReadable();
}

bool HttpConnection::Feed(const char* data, size_t size) {
  const bool joined = !partial_.empty();
  if (joined) {
    partial_.append(data, size);
    data = partial_.data();
    size = partial_.size();
  }
  while (size > 0) {
    // The parser asserts that the end of a chunked body is there as a whole, five bytes.
    if (parser_->is_header_done() && parser_->chunked() && size < 5) break;
    error_code error;
    const size_t used = parser_->put(asio::buffer(data, size), error);
    data += used;
    size -= used;
    if (error == boost::system::errc::not_enough_memory) {
      Fail(absl::ResourceExhaustedError("too many bytes of answers are under way"), "busy");
      return false;
    }
    if (error && error != http::error::need_more) {
      Fail(absl::DataLossError(fmt::format("the answer is not usable HTTP: {}", error.message())),
           "garbled");
      return false;
    }
    if (parser_->is_done()) {
      if (response_.status / 100 != 1) {
        Finish(/*reusable=*/size == 0 && parser_->keep_alive());
        return false;
      }
      ExpectAnswer();
      continue;
    }
    if (error || used == 0) break;
  }
  // The parser bounds the headers and the body, but no chunk's head and no trailer.
  if (size > kHeaderBytesMax) {
    Fail(absl::DataLossError("the answer is not usable HTTP: a line without end"), "garbled");
    return false;
  }
  if (joined) {
    partial_.erase(0, partial_.size() - size);
  } else {
    partial_.assign(data, size);
  }
  return true;
}

void HttpConnection::OnEnd() {
  if (state_ == State::kBusy && answered_ && parser_->need_eof() && partial_.empty()) {
    error_code error;
    parser_->put_eof(error);
    if (!error && parser_->is_done()) {
      Finish(/*reusable=*/false);
      return;
    }
  }
  Lost(answered_ ? "closed within the answer" : "closed before an answer");
}

void HttpConnection::Finish(bool reusable) {
  if (response_.status == 407 && tls_ == nullptr && owner_->options().proxy.has_value()) {
    // Only a proxy asks for this.
    Fail(ProxyRefused(), "proxy_refused");
    return;
  }
  const HttpCallPtr call = std::move(call_);
  HttpResponse response = std::move(response_);
  // An answer that overtook its request leaves half a request on the connection.
  if (reusable && written_ == call->size() && (tls_ == nullptr || !tls_->Pending())) {
    state_ = State::kIdle;
    idle_due_ = std::chrono::steady_clock::now() + owner_->options().idle_timeout;
    WaitReadable();
    owner_->OnIdle(this);
  } else {
    Close();
  }
  call->done(std::move(response));
}

void HttpConnection::Lost(std::string_view reason) {
  if (state_ == State::kIdle) {
    Close();
  } else if (reused_ && !answered_ && !call_->retried) {
    HttpCallPtr call = std::move(call_);
    call->retried = true;
    Close();
    owner_->Resend(std::move(call));
  } else {
    Fail(absl::UnavailableError(fmt::format("connection to {} lost: {}", PeerName(), reason)),
         "reset");
  }
}

std::string HttpConnection::PeerName() const {
  const HttpClient::Options& options = owner_->options();
  // Through a tunnel it is the target that talks.
  const bool proxy = options.proxy.has_value() && tls_ == nullptr;
  return proxy ? fmt::format("the proxy {}", options.proxy->url.Authority()) : options.url.host;
}

absl::Status HttpConnection::ProxyRefused() const {
  return absl::UnavailableError(fmt::format(
      "{} refuses to pass calls on to {}: HTTP {}{}", PeerName(), owner_->options().url.Authority(),
      response_.status, response_.status == 407 ? ", it wants a user name and password" : ""));
}

void HttpConnection::Fail(absl::Status transport, std::string_view fault) {
  const HttpCallPtr call = std::move(call_);
  Close();
  HttpResponse response;
  response.transport = std::move(transport);
  response.fault = fault;
  call->done(std::move(response));
}

void HttpConnection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  if (tls_ != nullptr) tls_->Close();
  tls_.reset();
  error_code ignored;
  socket_.close(ignored);
  owner_->OnClosed(this);
}

// --- Time and readiness
// --------------------------------------------------------------------------------

Time HttpConnection::due() const noexcept {
  switch (state_) {
    case State::kConnecting:
      return attempt_due_;
    case State::kTunnel:
    case State::kHandshake:
    case State::kBusy:
      return call_->deadline;
    case State::kIdle:
      return idle_due_;
    case State::kClosed:
      break;
  }
  return kTimeNever;
}

void HttpConnection::OnDue(Time now) {
  if (state_ == State::kIdle) {
    Close();
    return;
  }
  const bool connecting = state_ == State::kConnecting;
  if (now >= call_->deadline) {
    Fail(absl::DeadlineExceededError(fmt::format("no {} from {} in time",
                                                 connecting ? "connection" : "answer", PeerName())),
         "timeout");
  } else if (connecting) {
    connect_error_ = absl::UnavailableError("connecting took too long");
    connect_fault_ = "unreachable";
    TryNextEndpoint();
  }
}

void HttpConnection::WaitReadable() {
  if (waits_readable_) return;
  waits_readable_ = true;
  socket_.async_wait(Tcp::socket::wait_read, [self = shared_from_this()](const error_code& error) {
    self->waits_readable_ = false;
    if (!error) self->OnReadable();
  });
}

void HttpConnection::WaitWritable() {
  if (waits_writable_) return;
  waits_writable_ = true;
  socket_.async_wait(Tcp::socket::wait_write, [self = shared_from_this()](const error_code& error) {
    self->waits_writable_ = false;
    if (!error) self->OnWritable();
  });
}

void HttpConnection::OnReadable() {
  if (state_ == State::kTunnel) {
    ReadTunnelAnswer();
  } else if (state_ == State::kHandshake) {
    Handshake();
  } else if (state_ == State::kBusy || state_ == State::kIdle) {
    if (std::exchange(write_wants_read_, false)) Write();
    Read();
  }
}

void HttpConnection::OnWritable() {
  if (state_ == State::kTunnel) {
    WriteTunnelRequest();
  } else if (state_ == State::kHandshake) {
    Handshake();
  } else if (state_ == State::kBusy) {
    Write();
    if (std::exchange(read_wants_write_, false)) Read();
  }
}

}  // namespace mobula
