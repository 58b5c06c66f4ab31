// The far sides: nothing, files of every format, a pipe that stands for standard output, an X-Ray endpoint.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "backends/backends_config.h"
#include "backends/file/input_stream.h"
#include "backends/registry.h"
#include "engine/base/unique_fd.h"
#include "gtest/gtest.h"
#include "tests/contract/far_side.h"
#include "tests/unit/backends/file/file_test_support.h"
#if HAVE_BACKEND_FILE
#include "backends/file/stream_exporter.h"
#endif
#if HAVE_BACKEND_XRAY
#include <simdjson.h>
#include <atomic>
#include <mutex>

#include "engine/aws/xray_service.h"
#include "tests/support/running_aws.h"
#include "tests/support/scripted_server.h"
#endif

namespace mobula::testing {
namespace {

std::unique_ptr<Exporter> Registered(BackendConfig config, const ExporterContext& context) {
  auto exporter = MakeExporter(config, context);
  EXPECT_TRUE(exporter.ok()) << exporter.status();
  return *std::move(exporter);
}

#if HAVE_BACKEND_NULL
class Nothing final : public FarSide {
 public:
  std::unique_ptr<Exporter> Make(const ExporterContext& context) override {
    return Registered({.name = "test", .settings = NullBackendConfig()}, context);
  }
  std::vector<std::string> Arrived() override { return {}; }
  void Fail() override {}
  void Hang() override {}
  void Work() override {}
};
#endif

#if HAVE_BACKEND_FILE
std::string WithBlanks(std::string_view document) {
  std::string line(document);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\r' || c == '\n'; }, ' ');
  return line;
}

// Splits what a file or stream holds, without a look at the code that wrote it.
std::vector<std::string> Split(std::string_view bytes, FileFormat format) {
  std::vector<std::string> documents;
  if (format == FileFormat::kJsonLines) {
    while (!bytes.empty()) {
      const size_t end = bytes.find('\n');
      EXPECT_NE(end, std::string_view::npos) << "half a line";
      if (end == std::string_view::npos) break;
      documents.emplace_back(bytes.substr(0, end));
      bytes.remove_prefix(end + 1);
    }
    return documents;
  }
  if (bytes.empty()) return documents;
  EXPECT_TRUE(bytes.starts_with("mobula-framed 1\n"));
  bytes.remove_prefix(std::min<size_t>(16, bytes.size()));
  while (!bytes.empty()) {
    size_t size = 0;
    for (size_t i = 4; i-- > 0 && bytes.size() >= 4;) {
      size = size << 8 | static_cast<unsigned char>(bytes[i]);
    }
    EXPECT_TRUE(size > 0 && size + 4 <= bytes.size()) << "half a record";
    if (size == 0 || size + 4 > bytes.size()) break;
    documents.emplace_back(bytes.substr(4, size));
    bytes.remove_prefix(4 + size);
  }
  return documents;
}

class File final : public FarSide {
 public:
  File(FileFormat format, Compression compression, uint64_t rotate_size)
      : format_(format), compression_(compression), rotate_size_(rotate_size) {}

  std::unique_ptr<Exporter> Make(const ExporterContext& context) override {
    FileBackendConfig config;
    config.path = folder_ / "documents";
    config.format = format_;
    config.compression = compression_;
    config.rotate_size = rotate_size_;
    config.rotate_keep = 10'000;
    return Registered({.name = "test", .settings = config}, context);
  }
  std::vector<std::string> Arrived() override {
    std::vector<std::string> documents;
    for (const std::string& name : folder_.Names()) {
      const std::vector<std::string> inside = Split(Contents(folder_ / name), format_);
      documents.insert(documents.end(), inside.begin(), inside.end());
    }
    return documents;
  }
  std::string Expected(std::string_view document) override {
    return format_ == FileFormat::kJsonLines ? WithBlanks(document) : std::string(document);
  }
  void Fail() override {
    limit_.reset();
    uintmax_t size = 0;
    for (const std::string& name : folder_.Names()) {
      // The open file is the one without a number.
      if (name.find(".1") == std::string::npos) {
        size = std::max(size, std::filesystem::file_size(folder_ / name));
      }
    }
    // Room for a part of any call.
    limit_.emplace(rotate_size_ != 0 ? 20 : static_cast<size_t>(size) + 20);
  }
  void Hang() override {}
  void Work() override { limit_.reset(); }

 private:
  static std::string Contents(const std::string& path) {
    auto stream = InputStream::Open(path);
    EXPECT_TRUE(stream.ok()) << stream.status();
    std::string all;
    std::string buffer(65536, '\0');
    while (true) {
      const absl::StatusOr<size_t> n = (*stream)->Read(buffer.data(), buffer.size());
      EXPECT_TRUE(n.ok()) << n.status();
      if (!n.ok() || *n == 0) return all;
      all.append(buffer, 0, *n);
    }
  }

  const FileFormat format_;
  const Compression compression_;
  const uint64_t rotate_size_;
  TemporaryFolder folder_;
  std::optional<FileSizeLimit> limit_;
};

// A pipe instead of standard output, which the test needs itself.
class Stream final : public FarSide {
 public:
  explicit Stream(FileFormat format) : format_(format) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read_ = UniqueFd(ends[0]);
    write_ = UniqueFd(ends[1]);
    EXPECT_EQ(fcntl(read_.get(), F_SETFL, O_NONBLOCK), 0);
    EXPECT_EQ(fcntl(read_.get(), F_SETPIPE_SZ, 1 << 20), 1 << 20);
  }
  std::unique_ptr<Exporter> Make(const ExporterContext& /*context*/) override {
    FileBackendConfig config;
    config.path = "-";
    config.format = format_;
    return MakeStreamExporter("test", std::move(write_), config);
  }
  std::vector<std::string> Arrived() override {
    Read();
    return Split(out_, format_);
  }
  std::string Expected(std::string_view document) override {
    return format_ == FileFormat::kJsonLines ? WithBlanks(document) : std::string(document);
  }
  void Fail() override {}
  // Fills the pipe with blanks of our own, behind what is there.
  void Hang() override {
    Read();
    const UniqueFd writer(open(("/proc/self/fd/" + std::to_string(read_.get())).c_str(),
                               O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    EXPECT_TRUE(writer.valid());
    const std::string page(4096, '\0');
    ssize_t n = 0;
    while ((n = write(writer.get(), page.data(), page.size())) > 0)
      filling_ += static_cast<size_t>(n);
  }
  void Work() override { Read(); }

 private:
  void Read() {
    std::string buffer(65536, '\0');
    ssize_t n = 0;
    while ((n = read(read_.get(), buffer.data(), buffer.size())) > 0) {
      const size_t filling = std::min(filling_, static_cast<size_t>(n));
      filling_ -= filling;
      out_.append(buffer, filling, static_cast<size_t>(n) - filling);
    }
  }

  const FileFormat format_;
  UniqueFd read_;
  UniqueFd write_;
  std::string out_;
  size_t filling_ = 0;  // bytes of ours still in the pipe, before anything else
};

Backend FileBackend(const char* name, FileFormat format, Compression compression,
                    uint64_t rotate_size = 0) {
  return {.name = name,
          .far_side = [=] { return std::make_unique<File>(format, compression, rotate_size); }};
}
#endif

#if HAVE_BACKEND_XRAY
// Takes PutTraceSegments and keeps the documents; signatures are other tests' business.
class Xray final : public FarSide {
 public:
  std::unique_ptr<Exporter> Make(const ExporterContext& context) override {
    aws_ = std::make_unique<RunningAws>(
        context.log,
        AwsContext::Options{.environment = [](std::string_view name) -> std::optional<std::string> {
                              if (name == "AWS_ACCESS_KEY_ID") return "AKIDEXAMPLE";
                              if (name == "AWS_SECRET_ACCESS_KEY") return "for tests";
                              return std::nullopt;
                            },
                            .metadata = false,
                            .user_agent = "mobula"});
    ExporterContext with_aws = context;
    with_aws.aws = aws_->get();
    XrayBackendConfig config;
    config.region = "eu-west-1";
    config.endpoint = "http://127.0.0.1:" + std::to_string(server_.port());
    config.timeout = std::chrono::seconds(30);  // the deadlines of the calls decide
    EXPECT_TRUE(aws_->Settled(IdentityOf(config, config.region)).ok());
    return Registered({.name = "test", .settings = config}, with_aws);
  }
  std::vector<std::string> Arrived() override {
    const std::lock_guard lock(mutex_);
    return documents_;
  }
  void Fail() override { mode_ = Mode::kFail; }
  void Hang() override { mode_ = Mode::kHang; }
  void Work() override { mode_ = Mode::kWork; }

 private:
  enum class Mode { kWork, kFail, kHang };

  void Serve(Peer& peer) {
    while (const std::optional<PeerRequest> request = peer.Read()) {
      switch (mode_.load()) {
        case Mode::kHang:
          peer.WaitForEnd();
          return;
        case Mode::kFail:
          if (!FailOnce(peer)) return;
          continue;
        case Mode::kWork:
          break;
      }
      Keep(*request);
      peer.Reply(200, "{\"UnprocessedTraceSegments\":[]}");
    }
  }
  // In another way each time. False when the connection ends.
  bool FailOnce(Peer& peer) {
    switch (failures_++ % 5) {
      case 0:
        peer.Reply(503, "");
        return true;
      case 1:
        peer.Reply(429, "{\"message\":\"slower\"}");
        return true;
      case 2:
        peer.Reply(200, "<html>Please log in</html>");
        return true;
      case 3:
        peer.Write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");  // and no more
        return false;
      default:
        peer.Reset();
        return false;
    }
  }
  void Keep(const PeerRequest& request) {
    EXPECT_EQ(request.line, "POST /TraceSegments HTTP/1.1");
    simdjson::dom::parser parser;
    simdjson::dom::array documents;
    const auto error = parser.parse(request.body)["TraceSegmentDocuments"].get(documents);
    EXPECT_EQ(error, simdjson::SUCCESS) << request.body.substr(0, 200);
    if (error != simdjson::SUCCESS) return;
    const std::lock_guard lock(mutex_);
    for (const simdjson::dom::element document : documents) {
      std::string_view text;
      EXPECT_EQ(document.get(text), simdjson::SUCCESS);
      documents_.emplace_back(text);
    }
  }

  std::unique_ptr<RunningAws> aws_;
  std::atomic<Mode> mode_{Mode::kWork};
  std::atomic<int> failures_{0};
  std::mutex mutex_;
  std::vector<std::string> documents_;
  ScriptedServer server_{[this](Peer& peer) { Serve(peer); }};
};
#endif

}  // namespace

std::vector<Backend> AllBackends() {
  std::vector<Backend> backends;
#if HAVE_BACKEND_NULL
  backends.push_back({.name = "Null",
                      .far_side = [] { return std::make_unique<Nothing>(); },
                      .keeps = false,
                      .can_fail = false});
#endif
#if HAVE_BACKEND_FILE
  backends.push_back(FileBackend("FileLines", FileFormat::kJsonLines, Compression::kNone));
  backends.push_back(FileBackend("FileFramed", FileFormat::kFramed, Compression::kNone));
  backends.push_back(FileBackend("FileLinesGzip", FileFormat::kJsonLines, Compression::kGzip));
  backends.push_back(FileBackend("FileLinesZstd", FileFormat::kJsonLines, Compression::kZstd));
  backends.push_back(FileBackend("FileFramedGzip", FileFormat::kFramed, Compression::kGzip));
  backends.push_back(FileBackend("FileFramedZstd", FileFormat::kFramed, Compression::kZstd));
  backends.push_back(
      FileBackend("FileFramedRotated", FileFormat::kFramed, Compression::kNone, 200'000));
  backends.push_back(
      FileBackend("FileLinesGzipRotated", FileFormat::kJsonLines, Compression::kGzip, 50'000));
  backends.push_back({.name = "StreamLines",
                      .far_side = [] { return std::make_unique<Stream>(FileFormat::kJsonLines); },
                      .can_fail = false,
                      .can_hang = true});
  backends.push_back({.name = "StreamFramed",
                      .far_side = [] { return std::make_unique<Stream>(FileFormat::kFramed); },
                      .can_fail = false,
                      .can_hang = true});
#endif
#if HAVE_BACKEND_XRAY
  backends.push_back(
      {.name = "Xray", .far_side = [] { return std::make_unique<Xray>(); }, .can_hang = true});
#endif
  return backends;
}

}  // namespace mobula::testing
