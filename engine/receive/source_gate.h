// Judges a datagram by its sender alone, before anything looks into it: an allow-list of networks, and a cap on the
// documents a second of each source address, so that one mad sender leaves the others their share of the worker.
//
// Room:    hot. No allocation, no lock, no system call; some nanoseconds a datagram, and no gate at all where neither
//          is configured.
// Threads: one; each worker has its own. The kernel spreads the datagrams of every source over all workers at random,
//          so a gate applies its share: rate and burst divided by the number of workers. Chance gives a worker more
//          than its share for a while, for which each of several allows kChance documents beyond its part of the burst.
// Errors:  RejectReason. A source without an IP address, which UDP never has, is on no list, and all such are one.
// Limits:  4,096 sources in 64 KiB. A source is its whole address, IPv6 too: the pods of a cluster share their /64.
//
// The cap is a token bucket: `burst` documents at once, then `rate` a second. An entry is the time at which its bucket
// is full again, after which it is worth nothing. Eight entries are a set, found by a keyed hash of the address that
// nobody outside can aim; a new source takes the place of the entry whose bucket is full soonest. So whatever
// others send, a source within its rate is never refused. What a table full of sources in debt costs is the other
// side: whoever is driven out gets a fresh bucket when it comes again. That needs hundreds of addresses sending at
// once, the worst offenders are driven out last, and at worst the agent is as well off as without a cap.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/base/ip_address.h"
#include "engine/base/time.h"
#include "engine/segment/reject_reason.h"

namespace mobula {

class SourceGate {
 public:
  static constexpr size_t kWays = 8;
  static constexpr size_t kSets = 512;
  static constexpr size_t kTableBytes = kWays * kSets * 16;
  static constexpr uint64_t kChance = 8;

  struct Options {
    std::vector<IpNetwork> allow;  // empty: everybody
    uint64_t rate = 0;   // documents a second of one source, of all workers together; 0: no cap
    uint64_t burst = 0;  // at once; 0: as many as `rate`
    uint64_t workers = 1;

    [[nodiscard]] bool closed() const { return !allow.empty() || rate > 0; }
  };
  // Random, and unknown to senders.
  using Key = std::array<uint64_t, 6>;
  static Key RandomKey();

  SourceGate(const Options& options, const Key& key);

  // kNone, kNotAllowed or kRateLimited. `now` never goes back.
  [[nodiscard]] RejectReason Judge(const sockaddr* source, Time now) noexcept;

 private:
  // Two cache lines.
  struct alignas(64) Set {
    std::array<uint64_t, kWays> who{};
    std::array<int64_t, kWays> full_at{};  // nanoseconds of the steady clock
  };

  [[nodiscard]] bool IsAllowed(const IpAddress& source) const noexcept;
  [[nodiscard]] uint64_t Hash(const IpAddress& source) const noexcept;
  [[nodiscard]] bool Spend(const IpAddress& source, int64_t now) noexcept;

  std::vector<IpNetwork> allow_;
  const Key key_;
  int64_t interval_ = 0;   // in which the bucket gains one document
  int64_t debt_max_ = 0;   // time to fill up at which the bucket has no whole document left
  std::vector<Set> sets_;  // empty: no cap
};

}  // namespace mobula
