// A secret that clients show as `Authorization: Bearer ...` (RFC 6750).
//
// Room:   cold.
// Errors: none; the token is in no message, and is not kept: only its SHA-256 is.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace mobula {

class BearerToken {
 public:
  explicit BearerToken(std::string_view token);

  // kNone: no bearer token was shown. The time it takes tells nothing of the token.
  enum class Verdict : uint8_t { kNone, kWrong, kRight };
  [[nodiscard]] Verdict Judge(std::string_view authorization) const;

 private:
  std::array<unsigned char, 32> digest_;
};

}  // namespace mobula
