// Carries what workers refused into the dead-letter file.
//
// Room:    warm; the lane's thread of the dead letters.
#pragma once

#include "backends/file/dead_letter_file.h"
#include "engine/delivery/exporter.h"

namespace mobula {

class DeadLetterExporter final : public Exporter {
 public:
  // `file` outlives it.
  explicit DeadLetterExporter(DeadLetterFile* file) : file_(file) {}

  absl::Status Start(IoLoop*) override { return absl::OkStatus(); }
  void Export(const ExportCall& call, ExportDone done) override {
    ForEach(call.documents, [&](size_t i) {
      const std::string_view reason = RejectReasonName(call.batch.entry(i).reason);
      file_->Write(reason, "", "", call.batch.document(i));
    });
    done({});
  }
  absl::Status Shutdown() override { return absl::OkStatus(); }

 private:
  DeadLetterFile* const file_;
};

}  // namespace mobula
