// The rows, and the few makers of rows: one per kind of value. Defaults are read from the structs
// of config.h, so that they are written once. Tested by tests/unit/engine/config/loader_test.cc and
// tests/golden/config_reference_test.py.
#include "engine/config/options.h"

#include <algorithm>
#include <utility>

#include "engine/base/aws_region.h"
#include "engine/config/values.h"
#include "engine/filter/filter.h"
#include "fmt/format.h"

namespace mobula {
namespace {

constexpr uint64_t kKiB = 1ULL << 10;
constexpr uint64_t kMiB = 1ULL << 20;
constexpr uint64_t kGiB = 1ULL << 30;
constexpr uint64_t kTiB = 1ULL << 40;
constexpr uint64_t kMillisecond = 1'000'000;
constexpr uint64_t kSecond = 1000 * kMillisecond;
constexpr uint64_t kMinute = 60 * kSecond;

template <class T>
using Words = std::vector<std::pair<std::string_view, T>>;

struct Range {
  uint64_t min;
  uint64_t max;
};

absl::Status Unexpected() { return absl::InvalidArgumentError(""); }

template <class T>
const T* FindWord(const Words<T>& words, std::string_view text) {
  for (const auto& [word, value] : words) {
    if (word == text) return &value;
  }
  return nullptr;
}

template <class T>
std::string WordOf(const Words<T>& words, const T& wanted) {
  for (const auto& [word, value] : words) {
    if (value == wanted) return std::string(word);
  }
  return "";
}

// What `get` finds in a configuration nobody has touched.
template <class Get>
auto DefaultOf(std::string_view backend_type, Get get) {
  Config config;
  BackendConfig backend;
  if (backend_type == "file") backend.settings = FileBackendConfig();
  RouteConfig route;
  return get(OptionTarget{&config, &backend, &route});
}

Option Row(std::string_view path, std::string_view backend_type, OptionKind kind,
           std::string_view help) {
  Option row;
  row.path = path;
  row.backend_type = backend_type;
  row.kind = kind;
  row.help = help;
  return row;
}

// A value counted in units: numbers, sizes and durations differ in how it is read and shown.
template <class T, class Get, class Read, class Show>
Option Counted(Option row, Get get, const Words<T>& words, Range range, Read read, Show show) {
  for (const auto& word : words) row.words.push_back(word.first);
  row.min = range.min;
  row.max = range.max;
  const T value = DefaultOf(row.backend_type, get);
  const std::string word = WordOf(words, value);
  row.default_text = word.empty() ? show(value) : word;
  row.set = [get, words, range, read](const OptionTarget& target, const std::string& text) {
    if (const T* found = FindWord(words, text)) {
      get(target) = *found;
      return absl::OkStatus();
    }
    const auto parsed = read(text);
    if (!parsed) return Unexpected();
    const auto count = static_cast<uint64_t>(*parsed);
    if (count < range.min || count > range.max) return Unexpected();
    get(target) = static_cast<T>(*parsed);
    return absl::OkStatus();
  };
  return row;
}

template <class Get>
Option Number(std::string_view path, std::string_view type, Get get, const Words<int>& words,
              Range range, std::string_view help) {
  return Counted<int>(Row(path, type, OptionKind::kNumber, help), get, words, range, ParseNumber,
                      [](int value) { return std::to_string(value); });
}

template <class Get>
Option Size(std::string_view path, std::string_view type, Get get, const Words<uint64_t>& words,
            Range range, std::string_view help) {
  return Counted<uint64_t>(Row(path, type, OptionKind::kSize, help), get, words, range, ParseSize,
                           FormatSize);
}

// The span as a number of nanoseconds, so that spans share the code of other counts.
template <class Get>
Option Span(std::string_view path, std::string_view type, Get get, Range range,
            std::string_view help) {
  Option row = Row(path, type, OptionKind::kDuration, help);
  row.min = range.min;
  row.max = range.max;
  row.default_text = FormatDuration(DefaultOf(type, get));
  row.set = [get, range](const OptionTarget& target, const std::string& text) {
    const auto parsed = ParseDuration(text);
    if (!parsed) return Unexpected();
    const auto count = static_cast<uint64_t>(parsed->count());
    if (count < range.min || count > range.max) return Unexpected();
    get(target) = *parsed;
    return absl::OkStatus();
  };
  return row;
}

template <class T, class Get>
Option Choice(std::string_view path, std::string_view type, Get get, const Words<T>& words,
              std::string_view help) {
  Option row = Row(path, type, OptionKind::kChoice, help);
  for (const auto& word : words) row.words.push_back(word.first);
  row.default_text = WordOf<T>(words, DefaultOf(type, get));
  row.set = [get, words](const OptionTarget& target, const std::string& text) {
    const T* found = FindWord(words, text);
    if (found == nullptr) return Unexpected();
    get(target) = *found;
    return absl::OkStatus();
  };
  return row;
}

template <class Get>
Option Text(std::string_view path, std::string_view type, Get get, std::string_view help) {
  Option row = Row(path, type, OptionKind::kText, help);
  row.default_text = DefaultOf(type, get);
  row.set = [get](const OptionTarget& target, const std::string& text) {
    const bool control = std::any_of(text.begin(), text.end(), [](char c) {
      return static_cast<unsigned char>(c) < ' ' || c == '\x7f';
    });
    if (text.empty() || text.size() > 4000 || control) return Unexpected();
    get(target) = text;
    return absl::OkStatus();
  };
  return row;
}

template <class Get>
Option Checked(Option row, Get get, bool (*check)(std::string_view)) {
  row.default_text = DefaultOf(row.backend_type, get);
  row.set = [get, check, words = row.words](const OptionTarget& target, const std::string& text) {
    const bool word = std::find(words.begin(), words.end(), text) != words.end();
    if (!word && !check(text)) return Unexpected();
    get(target) = text;
    return absl::OkStatus();
  };
  return row;
}

template <class Get>
Option Address(std::string_view path, Get get, std::vector<std::string_view> words,
               std::string_view help) {
  Option row = Row(path, "", OptionKind::kAddress, help);
  row.words = std::move(words);
  return Checked(std::move(row), get, IsListenAddress);
}

template <class Get>
Option Url(std::string_view path, std::string_view type, Get get, std::string_view help) {
  return Checked(Row(path, type, OptionKind::kUrl, help), get, IsHttpUrl);
}

template <class Get>
Option Region(std::string_view path, std::string_view type, Get get, std::string_view help) {
  return Checked(Row(path, type, OptionKind::kRegion, help), get, IsAwsRegion);
}

// --- rows that are like no other
// ------------------------------------------------------------------------

Option Required(Option row) {
  row.required = true;
  return row;
}

// Chooses the alternative of BackendConfig::settings, so that the loader sets it before its
// neighbours.
Option BackendType() {
  Option row = Row("backends.*.type", "", OptionKind::kChoice, "what the backend is");
  row.words = {"xray", "file", "null"};
  row.set = [](const OptionTarget& target, const std::string& text) {
    if (text == "xray") {
      target.backend->settings = XrayBackendConfig();
    } else if (text == "file") {
      target.backend->settings = FileBackendConfig();
    } else if (text == "null") {
      target.backend->settings = NullBackendConfig();
    } else {
      return Unexpected();
    }
    return absl::OkStatus();
  };
  return Required(std::move(row));
}

constexpr Range kFsyncInterval = {10 * kMillisecond, 60 * kMinute};

// A duration means `interval` at that interval.
Option Fsync() {
  Option row = Row("backends.*.fsync", "file", OptionKind::kDuration,
                   "when written bytes are forced to disk: never, after each batch, or this often "
                   "(`interval`: every second)");
  const Words<FsyncPolicy> words = {{"never", FsyncPolicy::kNever},
                                    {"batch", FsyncPolicy::kBatch},
                                    {"interval", FsyncPolicy::kInterval}};
  for (const auto& word : words) row.words.push_back(word.first);
  row.min = kFsyncInterval.min;
  row.max = kFsyncInterval.max;
  row.default_text = WordOf(words, FileBackendConfig().fsync);
  row.set = [words](const OptionTarget& target, const std::string& text) {
    auto& file = std::get<FileBackendConfig>(target.backend->settings);
    if (const FsyncPolicy* policy = FindWord(words, text)) {
      file.fsync = *policy;
      return absl::OkStatus();
    }
    const auto interval = ParseDuration(text);
    if (!interval) return Unexpected();
    const auto count = static_cast<uint64_t>(interval->count());
    if (count < kFsyncInterval.min || count > kFsyncInterval.max) return Unexpected();
    file.fsync = FsyncPolicy::kInterval;
    file.fsync_interval = *interval;
    return absl::OkStatus();
  };
  return row;
}

Option When() {
  Option row =
      Row("routes[].when", "", OptionKind::kFilter,
          "which documents take this route (docs/wire/filter.md); without it: all that come "
          "this far");
  row.set = [](const OptionTarget& target, const std::string& text) {
    if (text.empty()) return Unexpected();
    const auto filter = Filter::ParseForDocument(text);
    if (!filter.ok()) return filter.status();
    target.route->when = text;
    return absl::OkStatus();
  };
  return row;
}

Option To() {
  Option row = Row("routes[].to", "", OptionKind::kBackendNames,
                   "where they go, each of these; `[]`: nowhere, counted as filtered");
  row.set = [](const OptionTarget& target, const std::string& text) {
    target.route->to.push_back(text);
    return absl::OkStatus();
  };
  return Required(std::move(row));
}

XrayBackendConfig& Xray(const OptionTarget& target) {
  return std::get<XrayBackendConfig>(target.backend->settings);
}

FileBackendConfig& File(const OptionTarget& target) {
  return std::get<FileBackendConfig>(target.backend->settings);
}

// The member of a row, as a function that finds it in the target.
#define IN_CONFIG(member) \
  [](const OptionTarget& t) -> auto& { return t.config->member; }
#define IN_BACKEND(member) \
  [](const OptionTarget& t) -> auto& { return t.backend->member; }
#define IN_XRAY(member) \
  [](const OptionTarget& t) -> auto& { return Xray(t).member; }
#define IN_FILE(member) \
  [](const OptionTarget& t) -> auto& { return File(t).member; }

std::vector<Option> MakeOptions() {
  const Words<bool> kTrueFalse = {{"true", true}, {"false", false}};
  // clang-format off
  return {
      Address("receivers.udp.address", IN_CONFIG(udp.address), {},
              "where datagrams are received: host:port, [v6]:port, or :port for IPv4 and IPv6; port 0 takes a free one"),
      Choice<ReceiveEngine>("receivers.udp.engine", "", IN_CONFIG(udp.engine),
              {{"auto", ReceiveEngine::kAuto}, {"io_uring", ReceiveEngine::kIoUring}, {"recvmmsg", ReceiveEngine::kRecvmmsg}},
              "how they are received; `auto`: io_uring where it works, else recvmmsg"),
      Number("receivers.udp.workers", "", IN_CONFIG(udp.workers), {{"auto", 0}, {"per-core", -1}}, {1, 64},
              "receiving threads; `auto`: one below 8 allowed cores, else one per 8, at most 8"),
      Size("receivers.udp.receive_buffer", "", IN_CONFIG(udp.receive_buffer), {}, {64 * kKiB, kGiB},
              "kernel queue of each worker; the cgroup is charged for it while it is filled"),
      Number("receivers.udp.sockets", "", IN_CONFIG(udp.sockets), {{"auto", 0}}, {1, 16},
              "sockets per worker; `auto`: several only when one may not have all of receive_buffer"),
      Choice<Validate>("receivers.udp.validate", "", IN_CONFIG(udp.validate),
              {{"json", Validate::kJson}, {"strict", Validate::kStrict}, {"off", Validate::kOff}},
              "what is looked at: `json` refuses broken JSON, `strict` all that X-Ray would refuse, `off` passes everything"),

      Size("buffer.memory", "", IN_CONFIG(buffer.memory), {{"auto", 0}}, {3 * kMiB, 64 * kGiB},
              "memory for documents on their way; `auto`: two thirds of what the cgroup limit leaves, at most 256MiB"),

      Number("batch.documents", "", IN_CONFIG(batch.documents), {}, {1, 64}, "documents after which a batch is closed"),
      Span("batch.age", "", IN_CONFIG(batch.age), {10 * kMillisecond, kMinute}, "age at which it is closed in any case"),

      BackendType(),
      Size("backends.*.quota", "", IN_BACKEND(quota), {{"auto", 0}}, {256 * kKiB, 64 * kGiB},
              "bytes of the buffer it may hold while its far side is slow or down; `auto`: an equal share"),

      Region("backends.*.region", "xray", IN_XRAY(region),
              "AWS region; without it: AWS_REGION, AWS_DEFAULT_REGION, then the profile"),
      Url("backends.*.endpoint", "xray", IN_XRAY(endpoint), "base URL of the service; without it: the region's own"),
      Text("backends.*.profile", "xray", IN_XRAY(profile),
              "profile of the shared AWS files; without it: AWS_PROFILE, then `default`"),
      Number("backends.*.concurrency", "xray", IN_XRAY(concurrency), {{"auto", 0}}, {1, 1024},
              "calls in flight at most; `auto`: as many as answer cleanly, at most 64"),
      Span("backends.*.timeout", "xray", IN_XRAY(timeout), {100 * kMillisecond, 10 * kMinute}, "time one call may take"),
      Text("backends.*.tls.ca", "xray", IN_XRAY(tls.ca), "PEM file of trusted authorities; without it: the system's"),
      Choice<bool>("backends.*.tls.verify", "xray", IN_XRAY(tls.verify), kTrueFalse,
              "check the far side's certificate; `false` only for tests"),

      Required(Text("backends.*.path", "file", IN_FILE(path), "the file's path; `-` is standard output")),
      Choice<FileFormat>("backends.*.format", "file", IN_FILE(format),
              {{"json", FileFormat::kJsonLines}, {"framed", FileFormat::kFramed}},
              "`json`: one document a line; `framed`: length before each document, byte for byte"),
      Choice<Compression>("backends.*.compression", "file", IN_FILE(compression),
              {{"none", Compression::kNone}, {"gzip", Compression::kGzip}, {"zstd", Compression::kZstd}}, "of what is written"),
      Size("backends.*.rotate.size", "file", IN_FILE(rotate_size), {{"never", 0}}, {64 * kKiB, kTiB},
              "size at which a new file is begun"),
      Number("backends.*.rotate.keep", "file", IN_FILE(rotate_keep), {}, {1, 10'000}, "older files kept beside the open one"),
      Fsync(),

      When(),
      To(),

      Text("dead_letter.path", "", IN_CONFIG(dead_letter.path),
              "JSON lines of the documents that were refused for good; without it they are only counted"),
      Size("dead_letter.size", "", IN_CONFIG(dead_letter.size), {}, {64 * kKiB, kTiB},
              "size at which that file becomes `.1`, replacing the one before"),

      Address("admin.address", IN_CONFIG(admin.address), {"off"}, "HTTP address of health, metrics and ledger; `off`: none"),

      Choice<LogLevel>("log.level", "", IN_CONFIG(log.level),
              {{"debug", LogLevel::kDebug}, {"info", LogLevel::kInfo}, {"warn", LogLevel::kWarn}, {"error", LogLevel::kError}},
              "the least important lines written"),
      Choice<std::optional<LogFormat>>("log.format", "", IN_CONFIG(log.format),
              {{"auto", std::nullopt}, {"text", LogFormat::kText}, {"json", LogFormat::kJson}},
              "`auto`: text on a terminal, else JSON"),
      Text("log.path", "", IN_CONFIG(log.path), "the log file; without it: standard error"),

      Span("shutdown.grace", "", IN_CONFIG(shutdown.grace), {0, 10 * kMinute},
              "time for delivering what is held after SIGTERM; the rest is counted as dropped"),
  };
  // clang-format on
}

#undef IN_CONFIG
#undef IN_BACKEND
#undef IN_XRAY
#undef IN_FILE

}  // namespace

const std::vector<Option>& Options() {
  static const std::vector<Option> kOptions = MakeOptions();
  return kOptions;
}

std::string JoinWords(const std::vector<std::string_view>& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? " or " : ", ";
    out += words[i];
  }
  return out;
}

std::string Expectation(const Option& option) {
  std::string kind;
  switch (option.kind) {
    case OptionKind::kText:
      kind = "text, not empty and without control characters";
      break;
    case OptionKind::kChoice:
      break;
    case OptionKind::kNumber:
      kind = fmt::format("a number from {} to {}", option.min, option.max);
      break;
    case OptionKind::kSize:
      kind = fmt::format("a size from {} to {}, such as 24MiB or 100MB", FormatSize(option.min),
                         FormatSize(option.max));
      break;
    case OptionKind::kDuration:
      kind = fmt::format("a duration from {} to {}, such as 250ms, 1s or 2m",
                         FormatDuration(Duration(static_cast<int64_t>(option.min))),
                         FormatDuration(Duration(static_cast<int64_t>(option.max))));
      break;
    case OptionKind::kAddress:
      kind = "an address such as 127.0.0.1:2000, [::1]:2000 or :2000";
      break;
    case OptionKind::kUrl:
      kind = "a URL such as https://xray.example:443";
      break;
    case OptionKind::kRegion:
      kind = "an AWS region such as eu-west-1";
      break;
    case OptionKind::kFilter:
      kind = "a filter expression such as service(\"shop\")";
      break;
    case OptionKind::kBackendNames:
      kind = "a list of backend names such as [prod, archive], or []";
      break;
  }
  std::vector<std::string_view> words = option.words;
  if (!kind.empty()) words.emplace_back(kind);
  return JoinWords(words);
}

}  // namespace mobula
