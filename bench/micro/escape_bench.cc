// What it costs to put a document into a request body: its escaped size, then the escaping.
// Each case is compared with the byte loop before it is timed; "_scalar" is that loop.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backends/xray/json_escape.h"
#include "backends/xray/request_body.h"
#include "engine/base/check.h"
#include "engine/batch/batch_builder.h"

namespace mobula {
namespace {

// A compact segment of about `size` bytes: every sixth byte or so is a quote, as in real ones.
std::string Document(size_t size) {
  std::string document =
      R"({"id":"fa35b830a6eae8e6","name":"payments.example.com","start_time":1795370396.9424415,)"
      R"("trace_id":"1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f","end_time":1795370396.945643,)"
      R"("http":{"request":{"method":"GET","url":"http://127.0.0.1:8102/api/orders/1001"}})";
  for (int i = 0; document.size() + 40 < size; ++i) {
    document += R"(,"key)" + std::to_string(i) + R"(":{"value":"some text"})";
  }
  document.resize(size - 1, ' ');
  return document + "}";
}

using Escape = char* (*)(std::string_view, char*) noexcept;
using Size = size_t (*)(std::string_view) noexcept;

void BM_Escape(benchmark::State& state, Escape escape) {
  const std::string document = Document(static_cast<size_t>(state.range(0)));
  const size_t room = JsonEscapedSizeScalar(document) + kJsonEscapeSlack;
  const std::unique_ptr<char[]> out(new char[room]);
  const std::unique_ptr<char[]> reference(new char[room]);
  const std::string_view expected(
      reference.get(),
      static_cast<size_t>(JsonEscapeScalar(document, reference.get()) - reference.get()));
  CHECK(std::string_view(out.get(), static_cast<size_t>(escape(document, out.get()) - out.get())) ==
        expected);
  for (auto _ : state) {
    benchmark::DoNotOptimize(escape(document, out.get()));
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void BM_EscapedSize(benchmark::State& state, Size size) {
  const std::string document = Document(static_cast<size_t>(state.range(0)));
  CHECK(size(document) == JsonEscapedSizeScalar(document));
  for (auto _ : state) benchmark::DoNotOptimize(size(document));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

// Fifty documents: size pass, block of the pool, escaping.
void BM_RequestBody(benchmark::State& state) {
  const std::string document = Document(static_cast<size_t>(state.range(0)));
  const std::unique_ptr<BlockPool> pool = *BlockPool::Create(2 << 20);
  BatchBuilder builder(pool.get(), {});
  while (!builder.full() &&
         builder.Add(document, DocumentKind::kJson, RejectReason::kNone, Time())) {
  }
  const BatchRef batch = builder.Close();
  int64_t taken = 0;  // fewer than fifty when they are large
  for (auto _ : state) {
    const RequestBody body = BuildRequestBody(*batch, batch->all(), pool.get());
    CHECK(body.outcome == RequestBody::Outcome::kBuilt);
    taken += Count(body.taken);
    pool->Release(body.block);
  }
  state.SetItemsProcessed(taken);
}

BENCHMARK_CAPTURE(BM_Escape, simd, JsonEscape)->Arg(393)->Arg(732)->Arg(1984)->Arg(4397);
BENCHMARK_CAPTURE(BM_Escape, scalar, JsonEscapeScalar)->Arg(393)->Arg(732)->Arg(1984)->Arg(4397);
BENCHMARK_CAPTURE(BM_EscapedSize, simd, JsonEscapedSize)->Arg(732)->Arg(4397);
BENCHMARK_CAPTURE(BM_EscapedSize, scalar, JsonEscapedSizeScalar)->Arg(732)->Arg(4397);
BENCHMARK(BM_RequestBody)->Arg(732)->Arg(4397);

}  // namespace
}  // namespace mobula

BENCHMARK_MAIN();
