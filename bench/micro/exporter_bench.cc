// What a segment costs on its way out: body, signature, HTTP and TLS, in CPU time of the lane's thread. The
// far side is a server on another thread of this process.
#include <benchmark/benchmark.h>

#include <chrono>
#include <optional>
#include <string>

#include "backends/xray/xray_exporter.h"
#include "engine/aws/xray_service.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/batch/batch_builder.h"
#include "tests/support/certificate.h"
#include "tests/support/running_aws.h"
#include "tests/support/scripted_server.h"

namespace mobula {
namespace {

// Batches of fifty 732-byte documents, `state.range(0)` calls in flight.
void BM_Export(benchmark::State& state, bool tls) {
  testing::Certificate certificate("IP:127.0.0.1");
  testing::ScriptedServer server(
      [](testing::Peer& peer) {
        while (peer.Read()) peer.Reply(200, R"({"UnprocessedTraceSegments":[]})");
      },
      tls ? certificate.context() : nullptr);
  XrayBackendConfig config;
  config.region = "eu-west-1";
  config.endpoint =
      (tls ? "https://127.0.0.1:" : "http://127.0.0.1:") + std::to_string(server.port());
  config.tls.ca = certificate.path();
  const Environment environment = [](std::string_view name) -> std::optional<std::string> {
    if (name == "AWS_ACCESS_KEY_ID" || name == "AWS_SECRET_ACCESS_KEY") return "example";
    return std::nullopt;
  };
  std::string lines;
  const std::unique_ptr<Log> log = Log::ForTesting(&lines);
  const std::unique_ptr<BlockPool> pool = *BlockPool::Create(16 << 20);
  testing::RunningAws aws(log.get(),
                          {environment, /*metadata=*/false, /*of_daemon=*/false, "bench/1"});
  IoLoop loop;
  XrayExporter exporter("bench", config, ExporterContext{pool.get(), log.get(), aws.get()},
                        [] { return std::chrono::system_clock::now(); });
  CHECK(exporter.Start(&loop).ok());
  CHECK(aws.Settled(IdentityOf(config, config.region)).ok());

  std::string document = R"({"id":"fa35b830a6eae8e6","name":"payments","start_time":1795370396.9})";
  while (document.size() < 700) document.insert(document.size() - 1, R"(,"key":{"value":"text"})");
  document.insert(document.size() - 1, 732 - document.size(), ' ');
  BatchBuilder builder(pool.get(), {});
  while (!builder.full())
    CHECK(builder.Add(document, DocumentKind::kJson, RejectReason::kNone, Time()));
  const BatchRef batch = builder.Close();

  const auto in_flight = static_cast<int>(state.range(0));
  for (auto _ : state) {
    int left = in_flight;
    for (int i = 0; i < in_flight; ++i) {
      exporter.Export(
          {*batch, batch->all(), std::chrono::steady_clock::now() + std::chrono::seconds(10), 1},
          [&](const ExportResult& result) {
            CHECK(result.verdict == Verdict::kDelivered);
            if (--left == 0) loop.Stop();
          });
    }
    loop.Run();
  }
  state.SetItemsProcessed(state.iterations() * in_flight * 50);
  CHECK(exporter.Shutdown().ok());
}

BENCHMARK_CAPTURE(BM_Export, http, false)->Arg(1)->Arg(8);
BENCHMARK_CAPTURE(BM_Export, https, true)->Arg(1)->Arg(8);

}  // namespace
}  // namespace mobula

BENCHMARK_MAIN();
