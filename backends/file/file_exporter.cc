// The exporter for regular files. Tested by tests/unit/backends/file/file_exporter_test.cc and tests/contract.
#include "backends/file/file_exporter.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "backends/file/append_file.h"
#include "backends/file/compressor.h"
#include "backends/file/record_format.h"
#include "backends/file/stream_exporter.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/http/io_loop.h"

namespace mobula {
namespace {

class FileExporter final : public Exporter {
 public:
  FileExporter(std::string_view name, const FileBackendConfig& config,
               const ExporterContext& context)
      : name_(name),
        config_(config),
        log_(context.log),
        other_writer_(context.other_writer),
        encoder_(config.format, config.compression),
        file_(FileOptions(), context.log) {}

  absl::Status Start(IoLoop* loop) override {
    if (config_.fsync == FsyncPolicy::kInterval) sync_timer_.emplace(loop);
    absl::Status opened = file_.Open();
    switch (opened.code()) {
      case absl::StatusCode::kPermissionDenied:
      case absl::StatusCode::kInvalidArgument:
        return opened;
      case absl::StatusCode::kFailedPrecondition:
        if (other_writer_ == OtherWriter::kMistake) return opened;
        break;
      default:
        break;
    }
    if (!opened.ok()) {
      log_->Warn("file_not_open", "cannot open the file yet",
                 {{"backend", name_}, {"error", std::string(opened.message())}});
    }
    return absl::OkStatus();
  }

  void Export(const ExportCall& call, ExportDone done) override {
    const std::string_view bytes = encoder_.Encode(call.batch, call.documents);
    const absl::Status written =
        config_.fsync == FsyncPolicy::kBatch ? file_.AppendAndSync(bytes) : file_.Append(bytes);
    if (written.ok()) SyncLater();
    done(written.ok() ? ExportResult{} : FileFailure(written));
  }

  absl::Status Shutdown() override {
    if (sync_timer_.has_value()) sync_timer_->Cancel();
    absl::Status synced = config_.fsync == FsyncPolicy::kNever ? absl::OkStatus() : file_.Sync();
    file_.Close();
    return synced;
  }

  void Reopen() override {
    const absl::Status opened = file_.Reopen();
    if (opened.ok()) {
      log_->Info("file_reopened", "opened the file by its name again",
                 {{"backend", name_}, {"path", file_.path()}});
    } else {
      log_->Error("file_reopen_failed", "cannot open the file again; the old one stays in use",
                  {{"backend", name_}, {"error", std::string(opened.message())}});
    }
  }

 private:
  [[nodiscard]] AppendFile::Options FileOptions() {
    AppendFile::Options options;
    options.path = FileWritten(config_);
    options.suffix = CompressionSuffix(config_.compression);
    options.rotate_size = config_.rotate_size;
    options.rotate_keep = config_.rotate_keep;
    options.sync = config_.fsync != FsyncPolicy::kNever;
    options.header = encoder_.Header();
    if (config_.format == FileFormat::kFramed || config_.compression != Compression::kNone) {
      options.whole_bytes = [this, path = options.path](int fd) {
        return encoder_.WholeBytes(path, fd);
      };
    }
    return options;
  }

  void SyncLater() {
    if (!sync_timer_.has_value() || sync_pending_) return;
    sync_pending_ = true;
    sync_timer_->Set(std::chrono::steady_clock::now() + config_.fsync_interval, [this] {
      sync_pending_ = false;
      if (const absl::Status synced = file_.Sync(); !synced.ok()) {
        log_->Error("file_sync_failed", "cannot bring the file to the device",
                    {{"key", name_}, {"error", std::string(synced.message())}});
      }
    });
  }

  const std::string name_;
  const FileBackendConfig config_;
  Log* const log_;
  const OtherWriter other_writer_;
  RecordEncoder encoder_;
  AppendFile file_;
  std::optional<IoLoop::Timer> sync_timer_;  // only with fsync: interval
  bool sync_pending_ = false;
};

}  // namespace

ExportResult FileFailure(const absl::Status& status) {
  ExportResult result;
  result.message = std::string(status.message());
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      result.verdict = Verdict::kHold;
      result.code = "no_space";
      break;
    case absl::StatusCode::kPermissionDenied:
      result.verdict = Verdict::kHold;
      result.code = "permission_denied";
      break;
    case absl::StatusCode::kFailedPrecondition:
      result.verdict = Verdict::kHold;
      result.code = "locked";
      break;
    case absl::StatusCode::kAborted:
      result.verdict = Verdict::kHold;
      result.code = "broken_pipe";
      break;
    case absl::StatusCode::kDataLoss:
      result.verdict = Verdict::kRetry;
      result.code = "io_error";
      break;
    default:
      result.verdict = Verdict::kRetry;
      result.code = "write_failed";
      break;
  }
  return result;
}

std::unique_ptr<Exporter> MakeFileExporter(std::string_view name, const FileBackendConfig& config,
                                           const ExporterContext& context) {
  CHECK(context.log != nullptr);
  if (config.path != "-") return std::make_unique<FileExporter>(name, config, context);
  return MakeStreamExporter(name, UniqueFd(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)), config);
}

}  // namespace mobula
