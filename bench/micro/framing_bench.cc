// What a datagram's header costs. Each case is compared with the slow reference before it is timed.
#include <benchmark/benchmark.h>

#include <string>
#include <string_view>

#include "engine/segment/framing.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/slow_json.h"

namespace mobula {
namespace {

constexpr std::string_view kDense = "{\"format\":\"json\",\"version\":1}";
constexpr std::string_view kBlanks = "{\"format\": \"json\", \"version\": 1}";
constexpr std::string_view kReturn = "{\"format\":\"json\",\"version\":1}\r";
constexpr std::string_view kMembers =
    "{\"sdk\":{\"name\":\"x\",\"list\":[1,2,3]},\"FORMAT\":\"JSON\",\"Version\":1}";
constexpr std::string_view kInvalid = "{\"format\":\"json\",\"version\":2}";

void BM_Split(benchmark::State& state, std::string_view header) {
  const std::string datagram = std::string(header) + "\n" + std::string(732, 'x');
  EXPECT((Framing::Split(datagram).reject == RejectReason::kNone) == slow::IsHeader(header));
  for (auto _ : state) {
    std::string_view view = datagram;
    benchmark::DoNotOptimize(view);
    Frame frame = Framing::Split(view);
    benchmark::DoNotOptimize(frame);
  }
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK_CAPTURE(BM_Split, dense, kDense);
BENCHMARK_CAPTURE(BM_Split, blanks, kBlanks);
BENCHMARK_CAPTURE(BM_Split, carriage_return, kReturn);
BENCHMARK_CAPTURE(BM_Split, more_members, kMembers);
BENCHMARK_CAPTURE(BM_Split, invalid, kInvalid);

}  // namespace
}  // namespace mobula

BENCHMARK_MAIN();
