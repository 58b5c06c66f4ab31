// TLS on a connected socket: OpenSSL straight on it, without Asio's copying stream in between. Streams come
// from TlsClientContext and TlsServerContext.
//
// Room:      warm; a handshake costs about a millisecond, a kept connection nothing.
// Threads:   one loop's thread.
// Ownership: the socket stays the caller's; a TlsStream must go before it.
// Errors:    a TlsStream answers what the socket must become ready for, or kError with a text in
//            error(). Writing to a socket the peer closed raises no SIGPIPE.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

struct bio_st;
struct ssl_st;

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
  // Whether the peer showed a certificate, and it was accepted. After the handshake.
  [[nodiscard]] bool peer_verified() const;
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  IoResult Failed(int result);

  ssl_st* const ssl_;
  bool verification_failed_ = false;
  std::string error_;
};

// For the files of this folder only.

// The reason of the oldest error in OpenSSL's queue, which is the one that says why; empties the queue.
std::string TakeOpensslError();
// The socket as OpenSSL sees it; null without memory.
bio_st* NewSocketBio(int fd);

}  // namespace mobula
