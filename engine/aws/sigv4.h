// AWS Signature Version 4 over OpenSSL's SHA-256.
//
// Room:    warm: once per call, over its whole body.
// Threads: one thread owns one signer and one Sha256.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "engine/aws/credentials.h"

namespace mobula {

// SHA-256 of bytes that may come in pieces.
class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;

  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  Sha256& Update(std::string_view bytes);
  // The digest of everything since the last Finish.
  Digest Finish();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Lower-case hexadecimal digits.
std::string ToHex(std::span<const uint8_t> bytes);

struct SigV4Request {
  std::string_view method;
  std::string_view path;   // as sent
  std::string_view query;  // as sent, without "?"
  // The headers to sign, in any order and case: host among them, x-amz-date and x-amz-security-token not.
  std::span<const std::pair<std::string_view, std::string_view>> headers;
  Sha256::Digest body;
};

struct SigV4Headers {
  std::string date;           // X-Amz-Date
  std::string authorization;  // Authorization
};

class SigV4Signer {
 public:
  SigV4Signer(std::string region, std::string service);

  // The headers to send besides those in `request`; with a session token also X-Amz-Security-Token, which is
  // signed. The clock is the caller's, who may know better than this machine's.
  SigV4Headers Sign(const SigV4Request& request, const Credentials& credentials,
                    std::chrono::system_clock::time_point now);

 private:
  Sha256::Digest Hmac(std::string_view key, std::string_view text);
  // HMAC chain over secret, day, region and service; the same for a whole day.
  const Sha256::Digest& SigningKey(const std::string& secret, std::string_view day);

  const std::string region_;
  const std::string service_;
  Sha256 sha256_;
  std::string key_secret_;
  std::string key_day_;
  Sha256::Digest key_{};
};

}  // namespace mobula
