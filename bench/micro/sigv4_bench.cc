// What a signature costs: SHA-256 over the body, and the rest, once per call.
#include <benchmark/benchmark.h>

#include <chrono>
#include <string>

#include "engine/aws/sigv4.h"
#include "engine/base/check.h"

namespace mobula {
namespace {

void BM_BodyHash(benchmark::State& state) {
  const std::string body(static_cast<size_t>(state.range(0)), 'x');
  Sha256 sha256;
  CHECK(ToHex(sha256.Update("abc").Finish()) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  for (auto _ : state) benchmark::DoNotOptimize(sha256.Update(body).Finish());
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

// `same_day`: the signing key is known; otherwise each call derives it.
void BM_Sign(benchmark::State& state, bool same_day) {
  const std::pair<std::string_view, std::string_view> headers[] = {
      {"content-type", "application/json"},
      {"host", "xray.eu-west-1.amazonaws.com"},
      {"x-amzn-xray-timestamp", "1800000000.000000042"}};
  const SigV4Request request{"POST", "/TraceSegments", "", headers, Sha256().Finish()};
  const Credentials credentials{"AKIDEXAMPLE", "example", "", std::nullopt};
  SigV4Signer signer("eu-west-1", "xray");
  auto now = std::chrono::system_clock::from_time_t(1800000000);
  {
    SigV4Signer other("eu-west-1", "xray");
    CHECK(signer.Sign(request, credentials, now).authorization ==
          other.Sign(request, credentials, now).authorization);
  }
  for (auto _ : state) {
    if (!same_day) now += std::chrono::hours(24);
    benchmark::DoNotOptimize(signer.Sign(request, credentials, now));
  }
}

BENCHMARK(BM_BodyHash)->Arg(64)->Arg(40 * 1024)->Arg(250 * 1024);
BENCHMARK_CAPTURE(BM_Sign, known_key, true);
BENCHMARK_CAPTURE(BM_Sign, new_key, false);

}  // namespace
}  // namespace mobula

BENCHMARK_MAIN();
