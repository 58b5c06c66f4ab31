// Tested by tests/unit/engine/receive/source_gate_test.cc; timed by bench/micro/source_gate_bench.cc.
#include "engine/receive/source_gate.h"

#include <algorithm>
#include <random>

#include "engine/base/check.h"

namespace mobula {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

__extension__ typedef unsigned __int128 Uint128;

Uint128 Wide(uint64_t high, uint64_t low) noexcept {
  return static_cast<Uint128>(high) << 64 | low;
}

}  // namespace

SourceGate::Key SourceGate::RandomKey() {
  std::random_device random;
  Key key;
  for (uint64_t& word : key) word = uint64_t{random()} << 32 | random();
  return key;
}

SourceGate::SourceGate(const Options& options, const Key& key) : allow_(options.allow), key_(key) {
  CHECK(options.workers > 0);
  if (options.rate == 0) return;
  const auto rate = static_cast<double>(options.rate) / static_cast<double>(options.workers);
  const uint64_t burst = options.burst > 0 ? options.burst : options.rate;
  const double share = static_cast<double>(burst) / static_cast<double>(options.workers) +
                       static_cast<double>(options.workers > 1 ? kChance : 0);
  interval_ = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(kSecond) / rate));
  debt_max_ = static_cast<int64_t>((std::max(share, 1.0) - 1.0) * static_cast<double>(interval_));
  sets_.resize(kSets);
}

RejectReason SourceGate::Judge(const sockaddr* source, Time now) noexcept {
  const IpAddress address = IpAddressOf(source).value_or(IpAddress());
  if (!allow_.empty() && !IsAllowed(address)) return RejectReason::kNotAllowed;
  if (!sets_.empty() && !Spend(address, now.time_since_epoch().count())) {
    return RejectReason::kRateLimited;
  }
  return RejectReason::kNone;
}

bool SourceGate::IsAllowed(const IpAddress& source) const noexcept {
  return std::any_of(allow_.begin(), allow_.end(),
                     [&](const IpNetwork& network) { return network.Contains(source); });
}

// Multilinear: for any two addresses and a random key, all pairs of values are equally likely. So two sources are
// taken for one with a chance of 2^-64, and no choice of addresses meets in a set more often than chance does.
uint64_t SourceGate::Hash(const IpAddress& source) const noexcept {
  const Uint128 sum = Wide(key_[0], key_[1]) + Wide(key_[2], key_[3]) * source.high +
                      Wide(key_[4], key_[5]) * source.low;
  return static_cast<uint64_t>(sum >> 64);
}

// Takes a document from the source's bucket; false when there is none.
bool SourceGate::Spend(const IpAddress& source, int64_t now) noexcept {
  const uint64_t hash = Hash(source);
  Set& set = sets_[hash % kSets];
  // All of them, without a branch: which one it is cannot be predicted.
  size_t way = kWays;
  for (size_t i = 0; i < kWays; ++i) way = set.who[i] == hash ? i : way;
  if (way == kWays) {
    way = static_cast<size_t>(std::min_element(set.full_at.begin(), set.full_at.end()) -
                              set.full_at.begin());
    set.who[way] = hash;
    set.full_at[way] = now;
  }
  const int64_t full_at = std::max(set.full_at[way], now);
  if (full_at - now > debt_max_) return false;
  set.full_at[way] = full_at + interval_;
  return true;
}

}  // namespace mobula
