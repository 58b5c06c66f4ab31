// A certificate for a server of a test, made when it is needed.
//
// Room: test.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdio>
#include <string>

namespace mobula::testing {

// A self-signed certificate for `names` ("DNS:localhost,IP:127.0.0.1"), its key, and both in a context, for a server or
// a client.
class Certificate {
 public:
  explicit Certificate(const char* names, int days = 1) {
    char curve[] = "P-256";  // the macro casts const away
    key_ = EVP_EC_gen(curve);
    certificate_ = X509_new();
    X509_set_version(certificate_, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate_), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate_), -86400 * 2);
    X509_gmtime_adj(X509_getm_notAfter(certificate_), 86400L * days);
    X509_set_pubkey(certificate_, key_);
    X509_NAME* const name = X509_get_subject_name(certificate_);
    const unsigned char text[] = "Mobula test";
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, text, -1, -1, 0);
    X509_set_issuer_name(certificate_, name);
    X509_EXTENSION* const extension =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, names);
    X509_add_ext(certificate_, extension, -1);
    X509_EXTENSION_free(extension);
    X509_sign(certificate_, key_, EVP_sha256());

    char path[] = "/tmp/mobula-ca-XXXXXX";
    ::close(::mkstemp(path));
    path_ = path;
    key_path_ = path_ + ".key";
    WriteTo(path_, key_path_);

    context_ = SSL_CTX_new(TLS_method());
    SSL_CTX_use_certificate(context_, certificate_);
    SSL_CTX_use_PrivateKey(context_, key_);
  }
  ~Certificate() {
    SSL_CTX_free(context_);
    X509_free(certificate_);
    EVP_PKEY_free(key_);
    ::unlink(path_.c_str());
    ::unlink(key_path_.c_str());
  }
  Certificate(const Certificate&) = delete;
  Certificate& operator=(const Certificate&) = delete;

  SSL_CTX* context() { return context_; }
  const std::string& path() { return path_; }
  const std::string& key_path() { return key_path_; }

  // The same as PEM files elsewhere. With a passphrase the key is encrypted.
  void WriteTo(const std::string& path, const std::string& key_path,
               const char* passphrase = nullptr) {
    FILE* file = std::fopen(path.c_str(), "w");
    PEM_write_X509(file, certificate_);
    std::fclose(file);
    file = std::fopen(key_path.c_str(), "w");
    PEM_write_PrivateKey(file, key_, passphrase != nullptr ? EVP_aes_256_cbc() : nullptr, nullptr,
                         0, nullptr, const_cast<char*>(passphrase));
    std::fclose(file);
  }

 private:
  EVP_PKEY* key_;
  X509* certificate_;
  SSL_CTX* context_;
  std::string path_;
  std::string key_path_;
};

}  // namespace mobula::testing
