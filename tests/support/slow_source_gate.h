// What a SourceGate has to answer, told plainly: a bucket of its own for every source there ever was, and prefixes
// compared bit by bit. Exact for rates that divide a second into whole nanoseconds.
//
// Room: test.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "engine/base/time.h"
#include "engine/segment/reject_reason.h"

namespace mobula::testing {

using AddressBytes = std::array<uint8_t, 16>;  // IPv4 as ::ffff:a.b.c.d

class SlowSourceGate {
 public:
  struct Prefix {
    AddressBytes bytes;
    unsigned bits;  // of 128
  };

  SlowSourceGate(std::vector<Prefix> allow, uint64_t rate, uint64_t burst)
      : allow_(std::move(allow)), rate_(rate), capacity_(burst * kDocument) {}

  RejectReason Judge(const AddressBytes& source, Time now) {
    if (!allow_.empty() && !IsAllowed(source)) return RejectReason::kNotAllowed;
    if (rate_ == 0) return RejectReason::kNone;
    const auto [found, made] = buckets_.try_emplace(source, Bucket{capacity_, now});
    Bucket& bucket = found->second;
    const auto passed = static_cast<uint64_t>((now - bucket.at).count());
    bucket.level =
        passed > capacity_ / rate_ ? capacity_ : std::min(capacity_, bucket.level + passed * rate_);
    bucket.at = now;
    if (bucket.level < kDocument) return RejectReason::kRateLimited;
    bucket.level -= kDocument;
    return RejectReason::kNone;
  }

 private:
  static constexpr uint64_t kDocument = 1'000'000'000;

  struct Bucket {
    uint64_t level;  // in documents / 1e9
    Time at;
  };

  [[nodiscard]] bool IsAllowed(const AddressBytes& source) const {
    return std::any_of(allow_.begin(), allow_.end(), [&](const Prefix& prefix) {
      for (unsigned bit = 0; bit < prefix.bits; ++bit) {
        const auto of = [bit](const AddressBytes& a) { return a[bit / 8] >> (7 - bit % 8) & 1; };
        if (of(source) != of(prefix.bytes)) return false;
      }
      return IsV4(source) == IsV4(prefix.bytes);
    });
  }
  static bool IsV4(const AddressBytes& a) {
    return std::all_of(a.begin(), a.begin() + 10, [](uint8_t b) { return b == 0; }) &&
           a[10] == 0xff && a[11] == 0xff;
  }

  const std::vector<Prefix> allow_;
  const uint64_t rate_;
  const uint64_t capacity_;
  std::map<AddressBytes, Bucket> buckets_;
};

}  // namespace mobula::testing
