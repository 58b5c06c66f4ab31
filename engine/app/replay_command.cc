// Tested by tests/unit/engine/app/replay_command_test.cc.
#include "engine/app/replay_command.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "backends/file/record_format.h"
#include "backends/registry.h"
#include "engine/app/agent.h"
#include "engine/app/cold_room.h"
#include "engine/app/document_reader.h"
#include "engine/app/open_log.h"
#include "engine/app/progress_bar.h"
#include "engine/app/signals.h"
#include "engine/base/log.h"
#include "engine/base/printable.h"
#include "engine/base/status_macros.h"
#include "engine/batch/batch_builder.h"
#include "engine/segment/framing.h"
#include "engine/segment/segment_scanner.h"

namespace mobula {
namespace {

Time Now() { return std::chrono::steady_clock::now(); }

absl::StatusOr<BackendConfig> Choose(const Config& config, const std::string& name) {
  if (name.empty() && config.backends.size() == 1) return config.backends.front();
  std::string names;
  for (const BackendConfig& backend : config.backends) {
    if (backend.name == name) return backend;
    names += (names.empty() ? "" : ", ") + backend.name;
  }
  return absl::InvalidArgumentError(name.empty()
                                        ? fmt::format("say which backend with --backend: {}", names)
                                        : fmt::format("there is no backend {}: {}", name, names));
}

std::optional<struct stat> StatOf(const std::string& path, int standard_stream) {
  struct stat info {};
  const int e = path == "-" ? fstat(standard_stream, &info) : stat(path.c_str(), &info);
  return e == 0 ? std::optional(info) : std::nullopt;
}

// A file that grows by what is read from it has no end.
absl::Status RefuseWhatIsWritten(const std::vector<std::string>& inputs, const Config& config,
                                 const BackendConfig& backend) {
  std::vector<std::pair<std::string, std::string>> written;  // path, who writes it
  if (const auto* file = std::get_if<FileBackendConfig>(&backend.settings)) {
    written.emplace_back(FileWritten(*file), fmt::format("backend {}", backend.name));
  }
  if (!config.dead_letter.path.empty())
    written.emplace_back(config.dead_letter.path, "dead_letter");
  if (!config.log.path.empty()) written.emplace_back(config.log.path, "log");
  for (const auto& [path, writer] : written) {
    const std::optional<struct stat> out = StatOf(path, STDOUT_FILENO);
    // A terminal may well be both.
    if (!out.has_value() || !S_ISREG(out->st_mode)) continue;
    for (const std::string& input : inputs) {
      const std::optional<struct stat> in = StatOf(input, STDIN_FILENO);
      if (!in.has_value() || in->st_dev != out->st_dev || in->st_ino != out->st_ino) continue;
      return absl::InvalidArgumentError(fmt::format("{} is what {} writes to; move it first",
                                                    input == "-" ? "standard input" : input,
                                                    writer));
    }
  }
  return absl::OkStatus();
}

// Judges each document as the agent would and hands it to the lane.
class Feeder {
 public:
  Feeder(Validate validate, BatchBuilder::Limits limits, BlockPool* pool, Lane* lane)
      : scanner_(validate, BatchBuilder::kDocumentBytesMax),
        builder_(pool, limits),
        lane_(lane),
        producer_(lane->inbox().MakeProducer()) {}

  void Add(const InputDocument& document) {
    padded_.assign(document.bytes);
    padded_.append(kScanPadding, '\0');
    std::string_view body(padded_.data(), document.bytes.size());
    if (document.has_header) {
      const Frame frame = framing_.Split(body);
      if (frame.reject != RejectReason::kNone) {
        ++rejected_;
        return;
      }
      body = frame.body;
    }
    if (body.empty()) {
      ++rejected_;
      return;
    }
    const ScanResult scan = scanner_.Scan(body);
    // What repaired UTF-8, or a file that is not ours, makes larger than a batch.
    if (scan.reject != RejectReason::kNone ||
        scan.document.size() > BatchBuilder::kDocumentBytesMax) {
      ++rejected_;
      return;
    }
    if (!builder_.Add(scan.document, scan.kind, RejectReason::kNone, Now())) {
      Close();
      CHECK(builder_.Add(scan.document, scan.kind, RejectReason::kNone, Now()));
    }
    if (builder_.full()) Close();
  }

  void Close() {
    if (builder_.empty()) return;
    const size_t documents = builder_.size();
    if (BatchRef batch = builder_.Close()) {
      lane_->inbox().Push(&producer_, std::move(batch));
      lane_->inbox().Notify();
    } else {
      lane_->inbox().Lose(documents);
    }
  }

  [[nodiscard]] uint64_t rejected() const { return rejected_; }

 private:
  Framing framing_;
  SegmentScanner scanner_;
  BatchBuilder builder_;
  Lane* const lane_;
  LaneInbox::Producer producer_;
  std::string padded_;
  uint64_t rejected_ = 0;
};

absl::StatusOr<bool> Replay(const ReplayOptions& options) {
  ASSIGN_OR_RETURN(const Config config, LoadConfig(options.config));
  // Only now: a configuration that is typed in can still be interrupted.
  const Signals signals;
  ASSIGN_OR_RETURN(const BackendConfig backend, Choose(config, options.backend));
  ASSIGN_OR_RETURN(const std::unique_ptr<Log> log, OpenLog(config.log));
  bool stopped = false;
  const auto stop = [&] { return stopped |= signals.Next(Duration::zero()) != 0; };
  ASSIGN_OR_RETURN(const std::unique_ptr<DocumentReader> reader,
                   DocumentReader::Open(options.inputs, stop));
  RETURN_IF_ERROR(RefuseWhatIsWritten(reader->files(), config, backend));
  const uint64_t buffer =
      config.buffer.memory != 0 ? config.buffer.memory : DefaultBuffer(CgroupMemoryLimit());
  ASSIGN_OR_RETURN(const std::unique_ptr<BlockPool> pool, BlockPool::Create(buffer));
  std::unique_ptr<DeadLetterFile> dead_letters;
  if (!config.dead_letter.path.empty()) {
    ASSIGN_OR_RETURN(dead_letters, DeadLetterFile::Open(config.dead_letter, log.get()));
  }
  ColdRoom cold_room(config, log.get());
  cold_room.Run();
  ASSIGN_OR_RETURN(std::unique_ptr<Exporter> exporter,
                   MakeExporter(backend, {pool.get(), log.get(), cold_room.aws()}));
  Lane::Options lane_options;
  lane_options.name = backend.name;
  lane_options.quota = buffer * 3 / 4;
  lane_options.batches_max = buffer / BlockPool::kPageBytes;
  lane_options.delivery = DeliveryOptions(backend, lane_options.quota, 1);
  lane_options.log = log.get();
  lane_options.dead_letter = [&](std::string_view lane, std::string_view reason,
                                 std::string_view code, std::string_view document) {
    if (dead_letters != nullptr) dead_letters->Write(reason, lane, code, document);
  };
  const size_t held_max = lane_options.delivery.quota / 2;
  Lane lane(std::move(lane_options), std::move(exporter));
  RETURN_IF_ERROR(lane.Start());
  lane.Run();
  Feeder feeder(config.udp.validate,
                {static_cast<size_t>(config.batch.documents), config.batch.age}, pool.get(), &lane);
  ProgressBar progress(STDERR_FILENO);
  uint64_t read = 0;
  absl::Status read_status;
  while (!stopped) {
    absl::StatusOr<std::optional<InputDocument>> document = reader->Next();
    if (!document.ok()) {
      if (!absl::IsCancelled(document.status())) read_status = document.status();
      break;
    }
    if (!document->has_value()) break;
    feeder.Add(**document);
    ++read;
    // A slow backend slows the reading; nothing is dropped for lack of room.
    while (lane.account().held_bytes.value() > held_max && !stopped) {
      stopped = signals.Next(std::chrono::milliseconds(20)) != 0;
      progress.Update(lane.account().delivered.value(), 0, Now());
    }
    if (read % 1024 == 0) stop();
  }
  feeder.Close();
  // All was read: wait as long as the backend needs, unless somebody stops us.
  while (!stopped && lane.account().held.value() > 0) {
    stopped = signals.Next(std::chrono::milliseconds(50)) != 0;
    progress.Update(lane.account().delivered.value(), read, Now());
  }
  const Time deadline = Now() + config.shutdown.grace;
  lane.Drain(deadline);
  (void)lane.Join(deadline + std::chrono::seconds(1));
  const Ledger::Lane ledger = LedgerOf(ReportOf(lane));
  if (isatty(STDOUT_FILENO) == 1) {
    std::fprintf(stderr, "read %s documents, %s not valid%s\n%s", Grouped(read).c_str(),
                 Grouped(feeder.rejected()).c_str(), stopped ? ", then stopped" : "",
                 ledger.text().c_str());
  } else {
    std::printf("{\"read\":%lu,\"rejected\":%lu,\"stopped\":%s,\"backend\":\"%s\",\"ledger\":%s}\n",
                static_cast<unsigned long>(read), static_cast<unsigned long>(feeder.rejected()),
                stopped ? "true" : "false", ledger.name.c_str(), ledger.json().c_str());
  }
  RETURN_IF_ERROR(read_status);
  return !stopped && feeder.rejected() == 0 && ledger.delivered == read;
}

}  // namespace

int ReplayCommand(const ReplayOptions& options) {
  const absl::StatusOr<bool> complete = Replay(options);
  if (!complete.ok()) {
    std::fprintf(stderr, "%s\n", PrintableLines(std::string(complete.status().message())).c_str());
    return 1;
  }
  return *complete ? 0 : 1;
}

}  // namespace mobula
