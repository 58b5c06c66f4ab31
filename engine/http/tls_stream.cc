// Tested by tests/unit/engine/http/http_client_tls_test.cc and tls_server_test.cc.
#include "engine/http/tls_stream.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "engine/base/check.h"

namespace mobula {
namespace {

// The socket as OpenSSL sees it. Its own kind of BIO would do but for SIGPIPE, which only send() can prevent.
int Descriptor(BIO* bio) { return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio))); }

int BioWrite(BIO* bio, const char* data, size_t size, size_t* written) {
  BIO_clear_retry_flags(bio);
  const ssize_t result = ::send(Descriptor(bio), data, size, MSG_NOSIGNAL);
  if (result >= 0) {
    *written = static_cast<size_t>(result);
    return 1;
  }
  if (BIO_sock_should_retry(-1) != 0) BIO_set_retry_write(bio);
  return 0;
}

int BioRead(BIO* bio, char* data, size_t size, size_t* read) {
  BIO_clear_retry_flags(bio);
  const ssize_t result = ::recv(Descriptor(bio), data, size, 0);
  if (result > 0) {
    *read = static_cast<size_t>(result);
    return 1;
  }
  if (result == 0) {
    BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  } else if (BIO_sock_should_retry(-1) != 0) {
    BIO_set_retry_read(bio);
  }
  return 0;
}

long BioControl(BIO* bio, int command, long, void*) {
  if (command == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

const BIO_METHOD* SocketBio() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    CHECK(made != nullptr);
    BIO_meth_set_write_ex(made, BioWrite);
    BIO_meth_set_read_ex(made, BioRead);
    BIO_meth_set_ctrl(made, BioControl);
    return made;
  }();
  return method;
}

}  // namespace

std::string TakeOpensslError() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "unknown error";
  if (ERR_SYSTEM_ERROR(code)) return std::strerror(ERR_GET_REASON(code));
  const char* const reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : fmt::format("error {:#x}", code);
}

bio_st* NewSocketBio(int fd) {
  BIO* const bio = BIO_new(SocketBio());
  if (bio == nullptr) return nullptr;
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
  BIO_set_init(bio, 1);
  return bio;
}

TlsStream::TlsStream(ssl_st* ssl) : ssl_(ssl) {}
TlsStream::~TlsStream() { SSL_free(ssl_); }

IoResult TlsStream::Handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  if (result == 1) return {IoStatus::kDone};
  const IoResult failed = Failed(result);
  if (failed.status == IoStatus::kError || failed.status == IoStatus::kEnd) {
    const long verified = SSL_get_verify_result(ssl_);
    verification_failed_ =
        verified != X509_V_OK && (SSL_get_verify_mode(ssl_) & SSL_VERIFY_PEER) != 0;
    if (verification_failed_) error_ = X509_verify_cert_error_string(verified);
  }
  return failed;
}

IoResult TlsStream::Read(char* data, size_t size) {
  ERR_clear_error();
  size_t bytes = 0;
  const int result = SSL_read_ex(ssl_, data, size, &bytes);
  return result == 1 ? IoResult{IoStatus::kDone, bytes} : Failed(result);
}

IoResult TlsStream::Write(const char* data, size_t size) {
  ERR_clear_error();
  size_t bytes = 0;
  const int result = SSL_write_ex(ssl_, data, size, &bytes);
  return result == 1 ? IoResult{IoStatus::kDone, bytes} : Failed(result);
}

void TlsStream::Close() {
  ERR_clear_error();
  if (SSL_is_init_finished(ssl_) && error_.empty()) static_cast<void>(SSL_shutdown(ssl_));
}

bool TlsStream::peer_verified() const {
  return SSL_get0_peer_certificate(ssl_) != nullptr && SSL_get_verify_result(ssl_) == X509_V_OK;
}

bool TlsStream::Pending() const { return SSL_has_pending(ssl_) == 1; }

IoResult TlsStream::Failed(int result) {
  const int system_error = errno;
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      return {IoStatus::kWantRead};
    case SSL_ERROR_WANT_WRITE:
      return {IoStatus::kWantWrite};
    case SSL_ERROR_ZERO_RETURN:
      return {IoStatus::kEnd};
    case SSL_ERROR_SYSCALL:
      error_ = system_error != 0 ? std::strerror(system_error) : "connection closed";
      return {IoStatus::kError};
    default:
      error_ = TakeOpensslError();
      return {IoStatus::kError};
  }
}

}  // namespace mobula
