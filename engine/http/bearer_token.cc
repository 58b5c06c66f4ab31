// Tested by tests/unit/engine/http/bearer_token_test.cc.
#include "engine/http/bearer_token.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>

#include "absl/strings/match.h"

namespace mobula {
namespace {

// Texts of any length become alike long, so that comparing them tells not even that.
std::array<unsigned char, 32> Digest(std::string_view text) {
  std::array<unsigned char, 32> digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

}  // namespace

BearerToken::BearerToken(std::string_view token) : digest_(Digest(token)) {}

BearerToken::Verdict BearerToken::Judge(std::string_view authorization) const {
  constexpr std::string_view kScheme = "bearer ";
  if (!absl::StartsWithIgnoreCase({authorization.data(), authorization.size()},
                                  {kScheme.data(), kScheme.size()})) {
    return Verdict::kNone;
  }
  authorization.remove_prefix(
      std::min(authorization.find_first_not_of(' ', kScheme.size() - 1), authorization.size()));
  const std::array<unsigned char, 32> shown = Digest(authorization);
  const bool right = CRYPTO_memcmp(shown.data(), digest_.data(), shown.size()) == 0;
  return right ? Verdict::kRight : Verdict::kWrong;
}

}  // namespace mobula
