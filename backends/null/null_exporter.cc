// Tested by tests/unit/backends/null/null_exporter_test.cc and tests/contract.
#include "backends/null/null_exporter.h"

namespace mobula {
namespace {

class NullExporter final : public Exporter {
 public:
  absl::Status Start(IoLoop* /*loop*/) override { return absl::OkStatus(); }
  void Export(const ExportCall& /*call*/, ExportDone done) override { done(ExportResult{}); }
  absl::Status Shutdown() override { return absl::OkStatus(); }
};

}  // namespace

std::unique_ptr<Exporter> MakeNullExporter() { return std::make_unique<NullExporter>(); }

}  // namespace mobula
