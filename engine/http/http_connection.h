// One connection of an HttpClient, from connect to close, one call at a time. Private to this
// folder.
//
// Threads:   the loop's thread.
// Ownership: shared by the client and by the handlers that wait on the socket. After Close it calls
//            its owner no more.
#pragma once

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/http/http_client.h"
#include "engine/http/tls_client.h"

namespace mobula {

struct HttpCall {
  std::string head;
  std::string_view body;
  Time deadline;
  bool head_only = false;  // HEAD: the answer has no body
  bool retried = false;
  HttpDone done;

  [[nodiscard]] size_t size() const noexcept { return head.size() + body.size(); }
};
using HttpCallPtr = std::unique_ptr<HttpCall>;

// Collects an answer into an HttpResponse, counted in its share where there is one.
class HttpResponseParser final : public boost::beast::http::basic_parser<false> {
 public:
  HttpResponseParser(HttpResponse* response, size_t body_bytes_max, bool head_only);

 private:
  using error_code = boost::beast::error_code;
  using text = boost::beast::string_view;

  void on_request_impl(boost::beast::http::verb, text, text, int, error_code&) override {}
  void on_response_impl(int status, text, int, error_code&) override;
  void on_field_impl(boost::beast::http::field, text name, text value, error_code& error) override;
  void on_header_impl(error_code&) override {}
  // Reserves nothing: how much comes is only known when it came.
  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}
  size_t on_body_impl(text data, error_code&) override;
  void on_chunk_header_impl(uint64_t, text, error_code&) override {}
  size_t on_chunk_body_impl(uint64_t, text data, error_code&) override;
  void on_finish_impl(error_code&) override {}
  // Twice, because they are kept as many small strings.
  [[nodiscard]] size_t HeadBytes() const { return 2 * head_bytes_; }

  HttpResponse* const response_;
  size_t head_bytes_ = 0;
};

class HttpConnection;
using HttpConnectionPtr = std::shared_ptr<HttpConnection>;

// What a connection needs of its client.
class HttpConnectionOwner {
 public:
  // Room for one read, or for one TLS record to write; used within one call only.
  using Scratch = std::array<char, 16 * 1024>;

  virtual const HttpClient::Options& options() const = 0;
  virtual TlsClientContext* tls() = 0;  // null for http
  // What asks the proxy for a tunnel; empty: none is needed.
  virtual const std::string& tunnel_request() const = 0;
  virtual Scratch& scratch() = 0;
  // Makes sure that OnDue is called not later than `at`.
  virtual void WatchUntil(Time at) = 0;
  virtual void OnConnected(const boost::asio::ip::tcp::endpoint& endpoint) = 0;
  virtual void OnConnectFailed() = 0;
  virtual void OnIdle(HttpConnection* connection) = 0;
  virtual void OnClosed(HttpConnection* connection) = 0;
  // Sends a call again whose kept connection was gone.
  virtual void Resend(HttpCallPtr call) = 0;

 protected:
  ~HttpConnectionOwner() = default;
};

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  using Tcp = boost::asio::ip::tcp;

  HttpConnection(HttpConnectionOwner* owner, boost::asio::io_context& context);

  // Connects to the first of `endpoints` that answers and makes the call.
  void Connect(std::vector<Tcp::endpoint> endpoints, HttpCallPtr call);
  // Makes another call. REQUIRES: idle.
  void Start(HttpCallPtr call);
  // Ends the connection; a call in flight is dropped without its callback, unless taken before.
  void Close();
  HttpCallPtr TakeCall() { return std::move(call_); }

  // When OnDue is to be called.
  [[nodiscard]] Time due() const noexcept;
  void OnDue(Time now);

  // The owner's place for it.
  std::list<HttpConnectionPtr>::iterator position;

 private:
  enum class State : uint8_t { kConnecting, kTunnel, kHandshake, kBusy, kIdle, kClosed };

  void TryNextEndpoint();
  void OnConnect(const boost::system::error_code& error);
  // Asks the proxy for a tunnel.
  void WriteTunnelRequest();
  void ReadTunnelAnswer();
  void OnTunnelAnswer();
  void BeginTls();
  void Handshake();
  void Begin();
  void Write();
  IoResult WriteSome();
  void Read();
  IoResult ReadSome(char* data, size_t size);
  // Takes received bytes; false when the call is over.
  bool Feed(const char* data, size_t size);
  // Makes ready for an answer.
  void ExpectAnswer();
  void OnEnd();
  void Finish(bool reusable);
  void Lost(std::string_view reason);
  void Fail(absl::Status transport, std::string_view fault);
  // Whom this connection talks to, for messages.
  [[nodiscard]] std::string PeerName() const;
  [[nodiscard]] absl::Status ProxyRefused() const;
  void WaitReadable();
  void WaitWritable();
  void OnReadable();
  void OnWritable();

  HttpConnectionOwner* const owner_;
  Tcp::socket socket_;
  std::unique_ptr<TlsStream> tls_;
  State state_ = State::kConnecting;

  std::vector<Tcp::endpoint> endpoints_;
  size_t endpoint_next_ = 0;
  uint64_t attempt_ = 0;  // tells a late connect handler from the present one
  Time attempt_due_ = kTimeNever;
  absl::Status connect_error_;
  std::string_view connect_fault_;

  HttpCallPtr call_;
  size_t written_ = 0;       // of the call, or before it of the request for a tunnel
  size_t tunnel_bytes_ = 0;  // of the proxy's answer to that
  bool reused_ = false;
  bool answered_ = false;      // the first byte of the answer has come
  bool write_broken_ = false;  // no use in writing on; reading tells why
  bool write_wants_read_ = false;
  bool read_wants_write_ = false;
  bool waits_readable_ = false;
  bool waits_writable_ = false;
  std::optional<HttpResponseParser> parser_;
  HttpResponse response_;
  std::string partial_;  // received, not yet parsed: half a header, a chunk's head or a trailer
  Time idle_due_ = kTimeNever;
};

}  // namespace mobula
