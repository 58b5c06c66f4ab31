// What judging a datagram's sender costs. Every case is compared with the slow model before it is timed.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "engine/receive/source_gate.h"
#include "tests/fuzz/expect.h"
#include "tests/support/slow_source_gate.h"

namespace mobula {
namespace {

constexpr Time kStart{std::chrono::hours(1)};
constexpr SourceGate::Key kKey = {1, 2, 3, 0xbf58476d1ce4e5b9, 5, 0x9e3779b97f4a7c15};

sockaddr_in Source(uint32_t address) {
  sockaddr_in source{};
  source.sin_family = AF_INET;
  source.sin_addr.s_addr = htonl(address);
  return source;
}

const sockaddr* Get(const sockaddr_in& source) {
  return reinterpret_cast<const sockaddr*>(&source);
}

// Senders in random order, as they are found in a burst of many.
std::vector<sockaddr_in> Senders(size_t sources, size_t datagrams) {
  std::mt19937_64 random(1);
  std::vector<sockaddr_in> senders;
  for (size_t i = 0; i < datagrams; ++i) {
    senders.push_back(Source(0x0a000000 + static_cast<uint32_t>(random() % sources * 257)));
  }
  return senders;
}

void Compare(SourceGate* gate, testing::SlowSourceGate slow,
             const std::vector<sockaddr_in>& senders, Duration apart) {
  Time now = kStart;
  for (const sockaddr_in& sender : senders) {
    testing::AddressBytes bytes{};
    bytes[10] = bytes[11] = 0xff;
    std::memcpy(&bytes[12], &sender.sin_addr, 4);
    EXPECT(gate->Judge(Get(sender), now) == slow.Judge(bytes, now));
    now += apart;
  }
}

void Run(benchmark::State& state, SourceGate* gate, const std::vector<sockaddr_in>& senders,
         Duration apart) {
  Time now = kStart + std::chrono::hours(1);
  size_t i = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(gate);
    if (gate != nullptr) {
      RejectReason reason = gate->Judge(Get(senders[i]), now);
      benchmark::DoNotOptimize(reason);
    }
    now += apart;
    i = i + 1 == senders.size() ? 0 : i + 1;
  }
  state.SetItemsProcessed(state.iterations());
}

void BM_Off(benchmark::State& state) { Run(state, nullptr, Senders(1000, 4096), Duration(1000)); }
BENCHMARK(BM_Off);

// Arg: the only list entry, of as many, that the sender is on; 0: none.
void BM_Allow8(benchmark::State& state) {
  const auto hit = static_cast<uint8_t>(state.range(0));
  SourceGate::Options options;
  std::vector<testing::SlowSourceGate::Prefix> prefixes;
  for (uint8_t i = 1; i <= 8; ++i) {
    const uint8_t first = i == hit ? 10 : static_cast<uint8_t>(100 + i);
    options.allow.push_back(*ParseIpNetwork(std::to_string(first) + ".0.0.0/8"));
    prefixes.push_back({{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, first}, 104});
  }
  SourceGate gate(options, kKey);
  const auto senders = Senders(1000, 4096);
  Compare(&gate, {prefixes, 0, 0}, senders, Duration(1000));
  Run(state, &gate, senders, Duration(1000));
}
BENCHMARK(BM_Allow8)->Arg(1)->Arg(8)->Arg(0);

// Args: sources, and the rate of each; together they send a million a second.
void BM_Rate(benchmark::State& state) {
  const auto sources = static_cast<size_t>(state.range(0));
  const auto rate = static_cast<uint64_t>(state.range(1));
  SourceGate gate({{}, rate}, kKey);
  const auto senders = Senders(sources, 1 << 16);
  if (sources <= 1000) Compare(&gate, {{}, rate, rate}, senders, Duration(1000));
  Run(state, &gate, senders, Duration(1000));
}
BENCHMARK(BM_Rate)->Args({1000, 2000})->Args({1000, 500})->Args({10, 500})->Args({60000, 10});

}  // namespace
}  // namespace mobula

BENCHMARK_MAIN();
