// OpenSSL for incoming connections. Tested by tests/unit/engine/http/tls_server_test.cc.
#include "engine/http/tls_server.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <array>
#include <ctime>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/check.h"
#include "engine/base/small_file.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;

template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using ContextPtr = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;
using CertificatePtr = std::unique_ptr<X509, Freer<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, Freer<BIO_free>>;

// Else OpenSSL would ask for a passphrase on the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

absl::Status Unusable(const std::string& path, std::string_view what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(fmt::format("{}: {}", path, what));
}

// All certificates of a file, at least one.
absl::StatusOr<std::vector<CertificatePtr>> ReadCertificates(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kFileBytesMax));
  const BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  std::vector<CertificatePtr> certificates;
  ERR_clear_error();
  while (X509* one = PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr)) {
    certificates.emplace_back(one);
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (!at_end) {
    return absl::InvalidArgumentError(
        fmt::format("{}: a broken certificate: {}", path, TakeOpensslError()));
  }
  ERR_clear_error();
  if (certificates.empty()) return Unusable(path, "no certificate in PEM form");
  return certificates;
}

absl::StatusOr<KeyPtr> ReadKey(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadSmallFile(path, kFileBytesMax));
  const BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  ERR_clear_error();
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  OPENSSL_cleanse(text.data(), text.size());
  if (key == nullptr) return Unusable(path, "no private key in PEM form without a passphrase");
  ERR_clear_error();
  return key;
}

// HTTP/2 would not be understood.
int ChooseProtocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                   const unsigned char* offered, unsigned offered_size, void*) {
  static constexpr unsigned char kHttp11[] = "\x08http/1.1";  // `chosen` will point there
  const int result = SSL_select_next_proto(const_cast<unsigned char**>(chosen), chosen_size,
                                           kHttp11, sizeof kHttp11 - 1, offered, offered_size);
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

absl::Status UseOwn(const TlsServerContext::Files& files, SSL_CTX* context) {
  ASSIGN_OR_RETURN(std::vector<CertificatePtr> chain, ReadCertificates(files.certificate));
  ASSIGN_OR_RETURN(const KeyPtr key, ReadKey(files.key));
  if (SSL_CTX_use_certificate(context, chain.front().get()) != 1) {
    return absl::InvalidArgumentError(
        fmt::format("{}: cannot be used: {}", files.certificate, TakeOpensslError()));
  }
  for (size_t i = 1; i < chain.size(); ++i) {
    CHECK(SSL_CTX_add1_chain_cert(context, chain[i].get()) == 1);
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    return Unusable(files.key,
                    fmt::format("not the key of the certificate in {}", files.certificate));
  }
  return absl::OkStatus();
}

absl::Status AskForTheirs(const std::string& path, SSL_CTX* context) {
  ASSIGN_OR_RETURN(const std::vector<CertificatePtr> authorities, ReadCertificates(path));
  for (const CertificatePtr& authority : authorities) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority.get()) != 1 ||
        SSL_CTX_add_client_CA(context, authority.get()) != 1) {
      return absl::InvalidArgumentError(
          fmt::format("{}: cannot be used: {}", path, TakeOpensslError()));
    }
  }
  // Who shows none is served all the same: a kubelet has none.
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  return absl::OkStatus();
}

absl::StatusOr<ContextPtr> Load(const TlsServerContext::Files& files) {
  ContextPtr context(SSL_CTX_new(TLS_server_method()));
  CHECK(context != nullptr);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(),
                      SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_num_tickets(context.get(), 0);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  // As in tls_client.cc.
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(context.get(), ChooseProtocol, nullptr);
  RETURN_IF_ERROR(UseOwn(files, context.get()));
  if (!files.client_ca.empty()) RETURN_IF_ERROR(AskForTheirs(files.client_ca, context.get()));
  return context;
}

}  // namespace

class TlsServerContext::Impl {
 public:
  explicit Impl(Files files) : files_(std::move(files)) {}

  absl::StatusOr<bool> Refresh() {
    // Before they are read: what changes meanwhile is seen the next time.
    const Stamps stamps = {StampOf(files_.certificate), StampOf(files_.key),
                           StampOf(files_.client_ca)};
    if (context_ != nullptr && stamps == stamps_) return false;
    absl::StatusOr<ContextPtr> context = Load(files_);
    if (!context.ok()) {
      // Tried again without a change too: the cause need not lie in the files.
      const bool told = stamps == told_stamps_ && context.status() == told_;
      told_stamps_ = stamps;
      told_ = context.status();
      if (told) return false;
      return told_;
    }
    context_ = *std::move(context);
    stamps_ = stamps;
    told_ = absl::OkStatus();
    return true;
  }

  [[nodiscard]] SSL_CTX* context() const { return context_.get(); }

 private:
  using Stamps = std::array<FileStamp, 3>;

  const Files files_;
  Stamps stamps_{};     // of what is in use
  ContextPtr context_;  // streams hold on to theirs
  Stamps told_stamps_{};
  absl::Status told_;  // why those could not be used; OK: nothing is told
};

TlsServerContext::TlsServerContext(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TlsServerContext::~TlsServerContext() = default;

absl::StatusOr<std::unique_ptr<TlsServerContext>> TlsServerContext::Create(Files files) {
  auto impl = std::make_unique<Impl>(std::move(files));
  RETURN_IF_ERROR(impl->Refresh().status());
  return std::unique_ptr<TlsServerContext>(new TlsServerContext(std::move(impl)));
}

absl::StatusOr<bool> TlsServerContext::Refresh() { return impl_->Refresh(); }

std::string TlsServerContext::expires() const {
  std::tm when{};
  const X509* const certificate = SSL_CTX_get0_certificate(impl_->context());
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &when) != 1) return "unknown";
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &when)};
}

std::unique_ptr<TlsStream> TlsServerContext::NewStream(int fd) {
  SSL* const ssl = SSL_new(impl_->context());
  BIO* const bio = ssl != nullptr ? NewSocketBio(fd) : nullptr;
  if (bio == nullptr) {
    SSL_free(ssl);
    return nullptr;
  }
  SSL_set_bio(ssl, bio, bio);
  SSL_set_accept_state(ssl);
  return std::make_unique<TlsStream>(ssl);
}

}  // namespace mobula
