// IP addresses and networks as numbers, for comparing. IPv4 is kept as IPv4-mapped IPv6 (::ffff:a.b.c.d), so that one
// sender is one address whichever kind of socket it came through.
//
// Room: any; nothing here allocates but the parsing.
#pragma once

#include <endian.h>
#include <netinet/in.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace mobula {

struct IpAddress {
  uint64_t high = 0;  // the first eight bytes
  uint64_t low = 0;

  [[nodiscard]] bool is_v4() const noexcept { return high == 0 && low >> 32 == 0xffff; }
  [[nodiscard]] bool is_loopback() const noexcept {
    return is_v4() ? (low >> 24 & 0xff) == 127 : high == 0 && low == 1;
  }
  friend bool operator==(const IpAddress&, const IpAddress&) = default;

  static IpAddress Of(const in_addr& v4) noexcept {
    return {0, uint64_t{0xffff} << 32 | ntohl(v4.s_addr)};
  }
  static IpAddress Of(const in6_addr& v6) noexcept {
    uint64_t halves[2];
    std::memcpy(halves, &v6, sizeof halves);
    return {be64toh(halves[0]), be64toh(halves[1])};
  }
};

// "10.1.2.3", "fd00::1", "::ffff:10.1.2.3"; without brackets and zone.
std::optional<IpAddress> ParseIpAddress(std::string_view text);
// Nothing when `address` is null or of another family.
inline std::optional<IpAddress> IpAddressOf(const sockaddr* address) noexcept {
  if (address == nullptr) return std::nullopt;
  if (address->sa_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, address, sizeof v4);
    return IpAddress::Of(v4.sin_addr);
  }
  if (address->sa_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, address, sizeof v6);
    return IpAddress::Of(v6.sin6_addr);
  }
  return std::nullopt;
}

struct IpNetwork {
  IpAddress address;  // bits behind the mask are zero
  IpAddress mask;

  // No IPv6 network holds an IPv4 address, not even ::/0.
  [[nodiscard]] bool Contains(const IpAddress& one) const noexcept {
    return ((one.high ^ address.high) & mask.high) == 0 &&
           ((one.low ^ address.low) & mask.low) == 0 && one.is_v4() == address.is_v4();
  }
  friend bool operator==(const IpNetwork&, const IpNetwork&) = default;
};

// "10.0.0.0/8", "fd00::/8". Bits behind the prefix are cleared; whether there were any is told in `cleared`, which may
// be null.
std::optional<IpNetwork> ParseIpNetwork(std::string_view text, bool* cleared = nullptr);
// The same as text: "10.0.0.0/8".
std::string ToString(const IpNetwork& network);

}  // namespace mobula
