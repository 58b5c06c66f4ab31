// OpenSSL for outgoing connections. Tested by tests/unit/engine/http/http_client_tls_test.cc.
#include "engine/http/tls_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "engine/base/check.h"

namespace mobula {
namespace {

// The reason of the oldest error in OpenSSL's queue, which is the one that says why.
std::string TakeOpensslError() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "unknown error";
  if (ERR_SYSTEM_ERROR(code)) return std::strerror(ERR_GET_REASON(code));
  const char* const reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : fmt::format("error {:#x}", code);
}

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

// --- TlsStream
// -----------------------------------------------------------------------------------------

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

// --- TlsClientContext
// ----------------------------------------------------------------------------------

class TlsClientContext::Impl {
 public:
  explicit Impl(std::string_view host) : host_(host), context_(SSL_CTX_new(TLS_client_method())) {
    CHECK(context_ != nullptr);
  }
  ~Impl() {
    for (SSL_SESSION* session : sessions_) SSL_SESSION_free(session);
    SSL_CTX_free(context_);
  }

  absl::Status Init(const std::string& ca_file, bool verify) {
    SSL_CTX_set_min_proto_version(context_, TLS1_2_VERSION);
    // A buffer that moved between two tries is fine: the bytes are the same. Idle connections give
    // their 32 KiB of buffers back.
    SSL_CTX_set_mode(context_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                   SSL_MODE_RELEASE_BUFFERS);
    constexpr unsigned char kProtocols[] = "\x08http/1.1";
    SSL_CTX_set_alpn_protos(context_, kProtocols, sizeof kProtocols - 1);
    SSL_CTX_set_app_data(context_, this);
    SSL_CTX_set_session_cache_mode(context_,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(context_, &Impl::OnNewSession);

    ERR_clear_error();
    SSL_CTX_set_verify(context_, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
    if (!ca_file.empty()) {
      if (SSL_CTX_load_verify_file(context_, ca_file.c_str()) != 1) {
        return absl::InvalidArgumentError(
            fmt::format("cannot read certificates from \"{}\": {}", ca_file, TakeOpensslError()));
      }
    } else if (verify && SSL_CTX_set_default_verify_paths(context_) != 1) {
      return absl::InternalError(
          fmt::format("cannot read the system's certificates: {}", TakeOpensslError()));
    }
    return absl::OkStatus();
  }

  SSL* NewSsl(int fd) {
    SSL* const ssl = SSL_new(context_);
    if (ssl == nullptr) return nullptr;
    in6_addr address;
    const bool literal = ::inet_pton(AF_INET, host_.c_str(), &address) == 1 ||
                         ::inet_pton(AF_INET6, host_.c_str(), &address) == 1;
    const bool named =
        literal ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host_.c_str()) == 1
                : SSL_set1_host(ssl, host_.c_str()) == 1 &&
                      SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                               const_cast<char*>(host_.c_str())) == 1;
    BIO* const bio = named ? BIO_new(SocketBio()) : nullptr;
    if (bio == nullptr) {
      SSL_free(ssl);
      return nullptr;
    }
    BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    Resume(ssl);
    SSL_set_connect_state(ssl);
    return ssl;
  }

 private:
  // Enough for a burst of new connections after a quiet time.
  static constexpr size_t kSessionsMax = 8;

  static int OnNewSession(SSL* ssl, SSL_SESSION* session) {
    auto* const self = static_cast<Impl*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    if (self->sessions_.size() == kSessionsMax) {
      SSL_SESSION_free(self->sessions_.front());
      self->sessions_.erase(self->sessions_.begin());
    }
    self->sessions_.push_back(session);
    return 1;  // the reference is ours now
  }

  void Resume(SSL* ssl) {
    if (sessions_.empty()) return;
    SSL_SESSION* const session = sessions_.back();
    SSL_set_session(ssl, session);  // takes a reference of its own
    // A TLS 1.3 ticket is for one use (RFC 8446, appendix C.4); older sessions may be used again.
    if (SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION) return;
    sessions_.pop_back();
    SSL_SESSION_free(session);
  }

  const std::string host_;
  SSL_CTX* const context_;
  std::vector<SSL_SESSION*> sessions_;
};

TlsClientContext::TlsClientContext(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TlsClientContext::~TlsClientContext() = default;

absl::StatusOr<std::unique_ptr<TlsClientContext>> TlsClientContext::Create(
    std::string_view host, const std::string& ca_file, bool verify) {
  auto impl = std::make_unique<Impl>(host);
  if (absl::Status status = impl->Init(ca_file, verify); !status.ok()) return status;
  return std::unique_ptr<TlsClientContext>(new TlsClientContext(std::move(impl)));
}

std::unique_ptr<TlsStream> TlsClientContext::NewStream(int fd) {
  SSL* const ssl = impl_->NewSsl(fd);
  return ssl == nullptr ? nullptr : std::make_unique<TlsStream>(ssl);
}

}  // namespace mobula
