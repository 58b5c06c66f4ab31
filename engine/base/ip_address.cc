// Tested by tests/unit/engine/base/ip_address_test.cc.
#include "engine/base/ip_address.h"

#include <arpa/inet.h>

#include <bit>
#include <charconv>
#include <string>

namespace mobula {
namespace {

constexpr unsigned kMappedBits = 96;

// The first `bits` of 64; all for more.
uint64_t Mask(unsigned bits) noexcept {
  if (bits == 0) return 0;
  return bits >= 64 ? ~uint64_t{0} : ~uint64_t{0} << (64 - bits);
}

}  // namespace

std::optional<IpAddress> ParseIpAddress(std::string_view text) {
  const std::string terminated(text);
  if (terminated.find('\0') != terminated.npos) return std::nullopt;
  in_addr v4{};
  if (inet_pton(AF_INET, terminated.c_str(), &v4) == 1) return IpAddress::Of(v4);
  in6_addr v6{};
  if (inet_pton(AF_INET6, terminated.c_str(), &v6) == 1) return IpAddress::Of(v6);
  return std::nullopt;
}

std::optional<IpNetwork> ParseIpNetwork(std::string_view text, bool* cleared) {
  const size_t slash = text.find('/');
  if (slash == text.npos) return std::nullopt;
  const std::optional<IpAddress> address = ParseIpAddress(text.substr(0, slash));
  if (!address) return std::nullopt;
  unsigned bits = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + slash + 1, end, bits);
  if (error != std::errc() || rest != end) return std::nullopt;
  const bool dotted = text.find(':') == text.npos;
  if (bits > (dotted ? 32U : 128U)) return std::nullopt;
  if (dotted) bits += kMappedBits;
  // ::ffff:0:0/90 would be neither.
  if (address->is_v4() && bits < kMappedBits) return std::nullopt;
  IpNetwork network;
  network.mask = {Mask(bits), bits > 64 ? Mask(bits - 64) : 0};
  network.address = {address->high & network.mask.high, address->low & network.mask.low};
  if (cleared != nullptr) *cleared = !(network.address == *address);
  return network;
}

std::string ToString(const IpNetwork& network) {
  const int bits = std::popcount(network.mask.high) + std::popcount(network.mask.low);
  char text[INET6_ADDRSTRLEN] = "";
  if (network.address.is_v4()) {
    const in_addr v4{htonl(static_cast<uint32_t>(network.address.low))};
    inet_ntop(AF_INET, &v4, text, sizeof text);
    return std::string(text) + "/" + std::to_string(bits - static_cast<int>(kMappedBits));
  }
  const uint64_t halves[2] = {htobe64(network.address.high), htobe64(network.address.low)};
  inet_ntop(AF_INET6, halves, text, sizeof text);
  return std::string(text) + "/" + std::to_string(bits);
}

}  // namespace mobula
