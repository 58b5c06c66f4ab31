// TLS for outgoing connections: OpenSSL straight on the socket, without Asio's copying stream in
// between.
//
// Room:      warm; a handshake costs about a millisecond, a kept connection nothing.
// Threads:   one loop's thread.
// Ownership: the socket stays the caller's; a TlsStream must go before it.
// Errors:    TlsStream answers what the socket must become ready for, or kError with a text in
//            error(). Writing to a socket the peer closed raises no SIGPIPE: Asio ignores it for
//            the whole process.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

struct ssl_st;
struct ssl_ctx_st;

namespace mobula {

enum class IoStatus : uint8_t { kDone, kWantRead, kWantWrite, kEnd, kError };

struct IoResult {
  IoStatus status = IoStatus::kError;
  size_t bytes = 0;  // only with kDone
};

class TlsStream {
 public:
  explicit TlsStream(ssl_st* ssl);  // takes it over
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  IoResult Handshake();
  IoResult Read(char* data, size_t size);
  // After kWantRead or kWantWrite the same bytes must be offered again.
  IoResult Write(const char* data, size_t size);
  // Tells the peer that nothing more comes; best effort.
  void Close();

  // Bytes that were received but not yet read: no readiness of the socket announces them.
  [[nodiscard]] bool Pending() const;
  // Whether the handshake failed because the peer's certificate was not accepted.
  [[nodiscard]] bool verification_failed() const { return verification_failed_; }
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  IoResult Failed(int result);

  ssl_st* const ssl_;
  bool verification_failed_ = false;
  std::string error_;
};

// What the connections to one host share: trust, and sessions to resume.
class TlsClientContext {
 public:
  // `ca_file`: PEM file of the only authorities to trust; empty: the system's. Fails when it cannot
  // be read.
  static absl::StatusOr<std::unique_ptr<TlsClientContext>> Create(std::string_view host,
                                                                  const std::string& ca_file,
                                                                  bool verify);
  ~TlsClientContext();

  // A stream on the connected socket `fd`, which must name `host` in its certificate. Null without
  // memory.
  std::unique_ptr<TlsStream> NewStream(int fd);

 private:
  class Impl;
  explicit TlsClientContext(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mobula
