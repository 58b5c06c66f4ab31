// Tested by tests/unit/engine/aws/sigv4_test.cc and sigv4_peers_test.py.
#include "engine/aws/sigv4.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <ctime>
#include <vector>

#include "absl/strings/ascii.h"
#include "engine/aws/uri_encode.h"
#include "engine/base/check.h"

namespace mobula {
namespace {

std::string_view AsText(const Sha256::Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

std::string Decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? HexValue(text[i + 1]) : -1;
    const int low = high >= 0 ? HexValue(text[i + 2]) : -1;
    if (low < 0) {
      out += text[i];
    } else {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return out;
}

// Without "." and "..", with single slashes, and encoded once more than it was sent.
std::string CanonicalPath(std::string_view path) {
  std::vector<std::string_view> parts;
  const bool slash_at_end = path.ends_with('/');
  while (!path.empty()) {
    const std::string_view part = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(path.size(), part.size() + 1));
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
  }
  std::string out;
  for (const std::string_view part : parts) {
    out += '/';
    AppendUriEncoded(part, &out);
  }
  if (out.empty() || slash_at_end) out += '/';
  return out;
}

std::string CanonicalQuery(std::string_view query) {
  std::vector<std::pair<std::string, std::string>> pairs;
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    if (pair.empty()) continue;
    const size_t equals = std::min(pair.find('='), pair.size());
    auto& [name, value] = pairs.emplace_back();
    AppendUriEncoded(Decoded(pair.substr(0, equals)), &name);
    AppendUriEncoded(Decoded(pair.substr(std::min(pair.size(), equals + 1))), &value);
  }
  std::sort(pairs.begin(), pairs.end());
  std::string out;
  for (const auto& [name, value] : pairs) {
    if (!out.empty()) out += '&';
    out.append(name).append(1, '=').append(value);
  }
  return out;
}

struct CanonicalHeaders {
  std::string lines;  // "name:value\n" each
  std::string names;  // joined by ";"
};

CanonicalHeaders Canonicalise(std::vector<std::pair<std::string, std::string>> headers) {
  for (auto& [name, value] : headers) {
    absl::AsciiStrToLower(&name);
    absl::RemoveExtraAsciiWhitespace(&value);
  }
  std::stable_sort(headers.begin(), headers.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  CanonicalHeaders out;
  for (size_t i = 0; i < headers.size(); ++i) {
    const auto& [name, value] = headers[i];
    if (i > 0 && name == headers[i - 1].first) {  // sent twice: one line, in the order sent
      out.lines.back() = ',';
      out.lines += value + '\n';
      continue;
    }
    out.lines.append(name).append(1, ':').append(value).append(1, '\n');
    if (!out.names.empty()) out.names += ';';
    out.names += name;
  }
  return out;
}

}  // namespace

// --- Sha256 --------------------------------------------------------------------------------------------

class Sha256::Impl {
 public:
  Impl() : algorithm_(EVP_MD_fetch(nullptr, "SHA256", nullptr)), context_(EVP_MD_CTX_new()) {
    CHECK(algorithm_ != nullptr);
    CHECK(context_ != nullptr);
    Begin();
  }
  ~Impl() {
    EVP_MD_CTX_free(context_);
    EVP_MD_free(algorithm_);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void Update(std::string_view bytes) {
    CHECK(EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1);
  }

  Digest Finish() {
    Digest digest;
    CHECK(EVP_DigestFinal_ex(context_, digest.data(), nullptr) == 1);
    Begin();
    return digest;
  }

 private:
  void Begin() { CHECK(EVP_DigestInit_ex2(context_, algorithm_, nullptr) == 1); }

  EVP_MD* const algorithm_;
  EVP_MD_CTX* const context_;
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {}
Sha256::~Sha256() = default;

Sha256& Sha256::Update(std::string_view bytes) {
  impl_->Update(bytes);
  return *this;
}

Sha256::Digest Sha256::Finish() { return impl_->Finish(); }

std::string ToHex(std::span<const uint8_t> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const uint8_t byte : bytes) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

// --- SigV4Signer ---------------------------------------------------------------------------------------

SigV4Signer::SigV4Signer(std::string region, std::string service)
    : region_(std::move(region)), service_(std::move(service)) {}

SigV4Headers SigV4Signer::Sign(const SigV4Request& request, const Credentials& credentials,
                               std::chrono::system_clock::time_point now) {
  SigV4Headers out;
  out.date =
      fmt::format("{:%Y%m%dT%H%M%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(now)));

  std::vector<std::pair<std::string, std::string>> all(request.headers.begin(),
                                                       request.headers.end());
  all.emplace_back("x-amz-date", out.date);
  if (!credentials.session_token.empty()) {
    all.emplace_back("x-amz-security-token", credentials.session_token);
  }
  const CanonicalHeaders headers = Canonicalise(std::move(all));
  const std::string canonical =
      fmt::format("{}\n{}\n{}\n{}\n{}\n{}", request.method, CanonicalPath(request.path),
                  CanonicalQuery(request.query), headers.lines, headers.names, ToHex(request.body));

  const std::string_view day = std::string_view(out.date).substr(0, 8);
  const std::string scope = fmt::format("{}/{}/{}/aws4_request", day, region_, service_);
  const std::string text = fmt::format("AWS4-HMAC-SHA256\n{}\n{}\n{}", out.date, scope,
                                       ToHex(sha256_.Update(canonical).Finish()));
  const Sha256::Digest& key = SigningKey(credentials.secret_access_key, day);
  out.authorization =
      fmt::format("AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}",
                  credentials.access_key_id, scope, headers.names, ToHex(Hmac(AsText(key), text)));
  return out;
}

// RFC 2104.
Sha256::Digest SigV4Signer::Hmac(std::string_view key, std::string_view text) {
  std::array<char, 64> block{};
  if (key.size() > block.size()) {
    const Sha256::Digest hashed = sha256_.Update(key).Finish();
    std::copy(hashed.begin(), hashed.end(), block.begin());
  } else {
    std::copy(key.begin(), key.end(), block.begin());
  }
  std::array<char, 64> inner;
  std::array<char, 64> outer;
  for (size_t i = 0; i < block.size(); ++i) {
    inner[i] = static_cast<char>(block[i] ^ 0x36);
    outer[i] = static_cast<char>(block[i] ^ 0x5c);
  }
  const Sha256::Digest first = sha256_.Update({inner.data(), inner.size()}).Update(text).Finish();
  return sha256_.Update({outer.data(), outer.size()}).Update(AsText(first)).Finish();
}

const Sha256::Digest& SigV4Signer::SigningKey(const std::string& secret, std::string_view day) {
  if (key_day_ == day && key_secret_ == secret) return key_;
  const Sha256::Digest by_day = Hmac("AWS4" + secret, day);
  const Sha256::Digest by_region = Hmac(AsText(by_day), region_);
  const Sha256::Digest by_service = Hmac(AsText(by_region), service_);
  key_ = Hmac(AsText(by_service), "aws4_request");
  key_day_ = day;
  key_secret_ = secret;
  return key_;
}

}  // namespace mobula
