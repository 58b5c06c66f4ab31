// OpenSSL for outgoing connections. Tested by tests/unit/engine/http/http_client_tls_test.cc.
#include "engine/http/tls_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <vector>

#include "engine/base/check.h"

namespace mobula {

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
    BIO* const bio = named ? NewSocketBio(fd) : nullptr;
    if (bio == nullptr) {
      SSL_free(ssl);
      return nullptr;
    }
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
