// Sends batches to the AWS X-Ray API: PutTraceSegments, signed.
//
// Room:    warm.
// Threads: as Exporter: the lane's.
// Errors:  what an answer means is in answer.h. Without credentials a call is held ("no_credentials"), or, while
//          they are being fetched, soon tried again ("credentials_pending"). Start may wait some seconds for
//          the region.
// Limits:  50 documents and 256 KiB a call; answers up to 64 KiB are read.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"
#include "engine/aws/sigv4.h"
#include "engine/config/config.h"
#include "engine/delivery/exporter.h"
#include "engine/http/http_client.h"

namespace mobula {

struct XrayAnswer;

class XrayExporter final : public Exporter {
 public:
  using WallClock = std::function<std::chrono::system_clock::time_point()>;

  XrayExporter(std::string_view name, XrayBackendConfig config, const ExporterContext& context,
               WallClock wall_clock);
  ~XrayExporter() override;

  absl::Status Start(IoLoop* loop) override;
  void Export(const ExportCall& call, ExportDone done) override;
  absl::Status Shutdown() override;

 private:
  struct Call;

  HttpRequest MakeRequest(const Call& call, Time deadline);
  void OnAnswer(Call* call, const HttpResponse& response);
  void OnCredentialsRefused(const Call& call, ExportResult* result);
  void OnClockError(const Call& call, std::chrono::seconds error);
  void ReadUnprocessed(const Call& call, XrayAnswer* answer);

  const std::string name_;
  const XrayBackendConfig config_;
  const ExporterContext context_;
  const WallClock wall_clock_;

  std::shared_ptr<CredentialsProvider> credentials_;
  std::unique_ptr<SigV4Signer> signer_;
  std::unique_ptr<HttpClient> client_;
  Sha256 sha256_;
  std::string host_;
  std::string path_;
  // What the far side's clock is ahead of ours, learned from an answer that refused a signature for it.
  std::chrono::seconds clock_offset_{0};
  // Refused last; refused again, waiting for better ones is all that is left.
  CredentialsPtr refused_;
};

// Checks what can be checked without I/O.
absl::StatusOr<std::unique_ptr<Exporter>> MakeXrayExporter(std::string_view name,
                                                           const XrayBackendConfig& config,
                                                           const ExporterContext& context);

}  // namespace mobula
