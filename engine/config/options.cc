// The rows, and the few makers of rows: one per kind of value. Defaults are read from the structs
// of config.h, so that they are written once. Tested by tests/unit/engine/config/loader_test.cc and
// tests/golden/config_reference_test.py.
#include "engine/config/options.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "engine/base/aws_region.h"
#include "engine/base/ip_address.h"
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

// How text of a certain form is told to people, and as a regular expression to machines.
struct TextForm {
  std::string_view told;
  std::string_view pattern;
};

absl::Status Unexpected() { return absl::InvalidArgumentError(""); }

const std::string& AsItIs(const std::string& text) { return text; }

bool StartsWith(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

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
  AwsRole role;
  return get(OptionTarget{&config, &backend, &route, &role});
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

// How the value that `get` finds is written and handed on.
template <class Get, class Show>
Option Readable(Option row, Get get, Show show) {
  row.show = [get, show](const OptionTarget& target) { return std::string(show(get(target))); };
  row.copy = [get](const OptionTarget& from, const OptionTarget& to) { get(to) = get(from); };
  return row;
}

// A value counted in units: numbers, sizes and durations differ in how it is read and shown.
template <class T, class Get, class Read, class Show>
Option Counted(Option row, Get get, const Words<T>& words, Range range, Read read, Show show) {
  for (const auto& word : words) row.words.push_back(word.first);
  row.min = range.min;
  row.max = range.max;
  const auto text_of = [words, show](T value) {
    const std::string word = WordOf(words, value);
    return word.empty() ? show(value) : word;
  };
  row.default_text = text_of(DefaultOf(row.backend_type, get));
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
  return Readable(std::move(row), get, text_of);
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
  return Readable(std::move(row), get, FormatDuration);
}

template <class T, class Get>
Option Choice(std::string_view path, std::string_view type, Get get, const Words<T>& words,
              std::string_view help) {
  Option row = Row(path, type, OptionKind::kChoice, help);
  for (const auto& word : words) row.words.push_back(word.first);
  const auto text_of = [words](const T& value) { return WordOf<T>(words, value); };
  row.default_text = text_of(DefaultOf(type, get));
  row.set = [get, words](const OptionTarget& target, const std::string& text) {
    const T* found = FindWord(words, text);
    if (found == nullptr) return Unexpected();
    get(target) = *found;
    return absl::OkStatus();
  };
  return Readable(std::move(row), get, text_of);
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
  return Readable(std::move(row), get, AsItIs);
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
  return Readable(std::move(row), get, AsItIs);
}

template <class Get>
Option Form(std::string_view path, std::string_view type, Get get, bool (*check)(std::string_view),
            TextForm form, std::string_view help) {
  Option row = Row(path, type, OptionKind::kForm, help);
  row.form = form.told;
  row.pattern = form.pattern;
  return Checked(std::move(row), get, check);
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

// --- what else may be said of a row ---

Option Required(Option row) {
  row.required = true;
  return row;
}

Option Live(Option row) {
  row.live = true;
  return row;
}

Option Secret(Secrecy what, Option row) {
  row.secrecy = what;
  return row;
}

Option Needs(Option row, std::string_view neighbour) {
  row.needs = neighbour;
  return row;
}

// --- rows that are like no other ---

// Chooses the alternative of BackendConfig::settings.
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
  row.decides = true;
  return Required(std::move(row));
}

// As an address of it is written elsewhere, it may begin with "unix:".
Option UnixPath() {
  Option row = Row("receivers.unix.path", "", OptionKind::kForm,
                   "a Unix datagram socket that receives as UDP does, for pods that share a volume "
                   "and for larger documents; without it: none");
  row.form = "a path of at most 107 bytes, also as unix:PATH";
  row.pattern = "^(unix:)?[^\\x00-\\x1f\\x7f]{1,107}$";
  row.set = [](const OptionTarget& target, const std::string& text) {
    constexpr std::string_view kScheme = "unix:";
    const std::string path = StartsWith(text, kScheme) ? text.substr(kScheme.size()) : text;
    if (!IsSocketPath(path)) return Unexpected();
    target.config->unix_socket.path = path;
    return absl::OkStatus();
  };
  return Readable(
      std::move(row), [](const OptionTarget& t) -> auto& { return t.config->unix_socket.path; },
      AsItIs);
}

Option Allow() {
  Option row = Row("receivers.udp.allow[]", "", OptionKind::kForm,
                   "one network whose addresses may send; without any: everybody may");
  row.form = "a network such as 10.0.0.0/8 or fd00::/8";
  row.pattern = "^[0-9a-fA-F.:]+/[0-9]{1,3}$";
  row.set = [](const OptionTarget& target, const std::string& text) {
    bool cleared = false;
    const auto network = ParseIpNetwork(text, &cleared);
    if (!network) return Unexpected();
    if (cleared) {
      return absl::InvalidArgumentError(
          "the address has bits behind its prefix, which would not count");
    }
    target.config->udp.allow.push_back(*network);
    return absl::OkStatus();
  };
  const auto get = [](const OptionTarget& t) -> auto& { return t.config->udp.allow; };
  return Readable(std::move(row), get, [](const std::vector<IpNetwork>& networks) {
    std::string text;
    for (const IpNetwork& network : networks)
      text += (text.empty() ? "" : ", ") + ToString(network);
    return text;
  });
}

// Who may send to the socket. The leading 0 is needed: a YAML 1.1 tool writes 0660 as 432.
Option UnixMode() {
  Option row =
      Row("receivers.unix.mode", "", OptionKind::kForm, "of the socket's file: who may send");
  row.form = "an octal mode such as \"0660\"";
  row.pattern = "^0[0-7]{3}$";
  const auto text_of = [](int mode) { return fmt::format("0{:o}", mode); };
  row.default_text = text_of(Config().unix_socket.mode);
  row.set = [](const OptionTarget& target, const std::string& text) {
    const auto mode = ParseMode(text);
    if (!mode) return Unexpected();
    target.config->unix_socket.mode = *mode;
    return absl::OkStatus();
  };
  return Readable(
      std::move(row), [](const OptionTarget& t) -> auto& { return t.config->unix_socket.mode; },
      text_of);
}

Option ProxyBackend() {
  Option row = Row(
      "receivers.proxy.backend", "", OptionKind::kBackendName,
      "the backend of type xray whose region and credentials the proxy uses; without it: the first "
      "one, and where there is none the proxy answers X-Ray's default rule itself");
  row.named_type = "xray";
  row.set = [](const OptionTarget& target, const std::string& text) {
    target.config->proxy.backend = text;
    return absl::OkStatus();
  };
  return Live(std::move(row));
}

constexpr Range kFsyncInterval = {10 * kMillisecond, 60 * kMinute};

// `get` finds a struct with `fsync` and `fsync_interval`. A duration means `interval` at that interval.
template <class Get>
Option Fsync(std::string_view path, std::string_view type, Get get, std::string_view help) {
  Option row = Row(path, type, OptionKind::kDuration, help);
  const Words<FsyncPolicy> words = {{"never", FsyncPolicy::kNever},
                                    {"batch", FsyncPolicy::kBatch},
                                    {"interval", FsyncPolicy::kInterval}};
  for (const auto& word : words) row.words.push_back(word.first);
  row.min = kFsyncInterval.min;
  row.max = kFsyncInterval.max;
  row.default_text =
      DefaultOf(type, [&](const OptionTarget& t) { return WordOf(words, get(t).fsync); });
  row.set = [get, words](const OptionTarget& target, const std::string& text) {
    auto& file = get(target);
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
  row.show = [get, words](const OptionTarget& target) {
    const auto& file = get(target);
    return file.fsync == FsyncPolicy::kInterval ? FormatDuration(file.fsync_interval)
                                                : WordOf(words, file.fsync);
  };
  row.copy = [get](const OptionTarget& from, const OptionTarget& to) {
    get(to).fsync = get(from).fsync;
    get(to).fsync_interval = get(from).fsync_interval;
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

AwsRole& Role(const OptionTarget& target) {
  return target.role != nullptr ? *target.role : Xray(target).role;
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
#define IN_ROLE(member) \
  [](const OptionTarget& t) -> auto& { return Role(t).member; }
#define IN_FILE(member) \
  [](const OptionTarget& t) -> auto& { return File(t).member; }

constexpr TextForm kRoleArn = {
    "the ARN of a role such as arn:aws:iam::123456789012:role/xray-writer",
    "^arn:[a-z][a-z0-9-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]*[A-Za-z0-9_+=,.@-]$"};
constexpr TextForm kExternalId = {"2 to 1224 of A-Z, a-z, 0-9 and _+=,.@:/-",
                                  "^[A-Za-z0-9_+=,.@:/-]{2,1224}$"};
constexpr TextForm kSessionName = {"2 to 64 of A-Z, a-z, 0-9 and _+=,.@-",
                                   "^[A-Za-z0-9_+=,.@-]{2,64}$"};
constexpr TextForm kTagValue = {"at most 256 letters, digits, blanks and _.:/=+-@",
                                "^[^\\x00-\\x1f!-*,;-<>?\\[-^`{-\\x7f]{0,256}$"};
constexpr TextForm kUnixUser = {
    "a user and perhaps a group, by name or number, such as mobula or 10001:10001",
    "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?$"};
constexpr TextForm kBearerToken = {"16 to 1024 of A-Z, a-z, 0-9 and -._~+/, with = at the end",
                                   "^[A-Za-z0-9._~+/-]+=*$"};
constexpr TextForm kProxyUrl = {
    "a URL such as http://proxy.example:3128 or http://user:password@proxy.example:3128",
    "^https?://[^/]+/?$"};

Option SessionTag(std::string_view path) {
  Option row = Row(path, "xray", OptionKind::kForm, "the value of one session tag");
  row.form = kTagValue.told;
  row.pattern = kTagValue.pattern;
  row.set = [](const OptionTarget& target, const std::string& text) {
    if (!IsTagText(text, 0, 256)) return Unexpected();
    for (const auto& tag : Role(target).session_tags) {
      if (absl::EqualsIgnoreCase(tag.first,
                                 absl::string_view(target.name.data(), target.name.size()))) {
        return absl::InvalidArgumentError(
            fmt::format("for STS its name is the same as {}", tag.first));
      }
    }
    Role(target).session_tags.emplace_back(target.name, text);
    return absl::OkStatus();
  };
  return row;
}

// What can be said of a role, of a backend's own and of each that stands before it.
void AddRoleOptions(const std::string& map, bool of_item, std::vector<Option>* options) {
  const auto path = [&map](std::string_view key) { return Below(map, key); };
  const auto add = [&](Option row) {
    options->push_back(of_item ? std::move(row) : Needs(std::move(row), "role_arn"));
  };
  // clang-format off
  Option arn = Form(path("role_arn"), "xray", IN_ROLE(role_arn), IsRoleArn, kRoleArn,
              "the role that is assumed for this backend, in this or another account");
  options->push_back(of_item ? Required(std::move(arn)) : std::move(arn));
  add(Form(path("external_id"), "xray", IN_ROLE(external_id), IsExternalId, kExternalId,
              "what the role's trust policy may ask for"));
  add(Form(path("session_name"), "xray", IN_ROLE(session_name), IsSessionName, kSessionName,
              "names the session in CloudTrail and in trust policies"));
  add(Span(path("duration"), "xray", IN_ROLE(duration), {15 * kMinute, 12 * 60 * kMinute},
              "validity of one set of the role's credentials; at most 1h for a role assumed by a role"));
  options->push_back(SessionTag(path("session_tags.*")));
  add(Form(path("source_identity"), "xray", IN_ROLE(source_identity), IsSessionName, kSessionName,
              "who is behind the session, kept through chains of roles"));
  // clang-format on
}

constexpr uint64_t kSourceRateMax = 10'000'000;

std::vector<Option> MakeOptions() {
  const Words<bool> kTrueFalse = {{"true", true}, {"false", false}};
  // Tools that write YAML 1.1 make true and false of on and off.
  const Words<bool> kOnOff = {{"on", true}, {"off", false}, {"true", true}, {"false", false}};
  const Words<std::optional<bool>> kAutoTrueFalse = {
      {"auto", std::nullopt}, {"true", true}, {"false", false}};
  // clang-format off
  std::vector<Option> options = {
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
      Allow(),
      Number("receivers.udp.source_rate", "", IN_CONFIG(udp.source_rate), {{"off", 0}}, {0, kSourceRateMax},
              "documents a second that are taken of one source address; the others are counted as rate_limited"),
      Number("receivers.udp.source_burst", "", IN_CONFIG(udp.source_burst), {{"auto", 0}}, {1, kSourceRateMax},
              "of these at once; `auto`: a second's worth"),

      UnixPath(),
      UnixMode(),

      Address("receivers.proxy.address", IN_CONFIG(proxy.address), {"auto", "off"},
              "TCP address where SDKs ask for sampling rules; `auto`: that of receivers.udp; `off`: none"),
      ProxyBackend(),
      Choice<ProxyPaths>("receivers.proxy.paths", "", IN_CONFIG(proxy.paths),
              {{"sampling", ProxyPaths::kSampling}, {"all", ProxyPaths::kAll}},
              "what is forwarded: `sampling` only the calls of SDKs for sampling, `all` whatever comes, as the X-Ray daemon does"),
      Span("receivers.proxy.rules_age", "", IN_CONFIG(proxy.rules_age), {0, 60 * kMinute},
              "time for which sampling rules are answered from memory"),

      Size("buffer.memory", "", IN_CONFIG(buffer.memory), {{"auto", 0}}, {3 * kMiB, 64 * kGiB},
              "memory for documents on their way; `auto`: two thirds of what the cgroup limit leaves, at most 256MiB"),
      Choice<BufferFit>("buffer.fit", "", IN_CONFIG(buffer.fit), {{"refuse", BufferFit::kRefuse}, {"shrink", BufferFit::kShrink}},
              "when that does not fit the cgroup limit: `refuse` to start, or `shrink` it and say so"),

      Text("buffer.spool.path", "", IN_CONFIG(buffer.spool.path),
              "directory where documents wait that memory has no room for, and what is left at the end; without it: none"),
      Needs(Size("buffer.spool.size", "", IN_CONFIG(buffer.spool.size), {}, {kMiB, kTiB},
              "bytes there at most, of all backends; when it is full the oldest documents go"), "path"),
      Needs(Span("buffer.spool.age", "", IN_CONFIG(buffer.spool.age), {kSecond, 30 * 24 * 60 * kMinute},
              "documents older than this are dropped from there"), "path"),
      Needs(Size("buffer.spool.file_size", "", IN_CONFIG(buffer.spool.file_size), {}, {64 * kKiB, 256 * kMiB},
              "size of one file; less where a backend's share of the whole is below eight of them"), "path"),
      Needs(Fsync("buffer.spool.fsync", "", IN_CONFIG(buffer.spool),
              "when it is forced to disk, against power failures: never, after each batch, or this often (`interval`: every second)"), "path"),

      Number("batch.documents", "", IN_CONFIG(batch.documents), {}, {1, 64}, "documents after which a batch is closed"),
      Span("batch.age", "", IN_CONFIG(batch.age), {10 * kMillisecond, kMinute}, "age at which it is closed in any case"),

      BackendType(),
      Size("backends.*.quota", "", IN_BACKEND(quota), {{"auto", 0}}, {256 * kKiB, 64 * kGiB},
              "bytes of the buffer it may hold while its far side is slow or down; `auto`: an equal share"),

      Region("backends.*.region", "xray", IN_XRAY(region),
              "AWS region; without it: AWS_REGION, ECS or EC2 metadata, AWS_DEFAULT_REGION, then the profile"),
      Url("backends.*.endpoint", "xray", IN_XRAY(endpoint), "base URL of the service; without it: the region's own"),
      Text("backends.*.profile", "xray", IN_XRAY(profile),
              "profile of the shared AWS files; without it: AWS_PROFILE, then `default`"),
  };
  AddRoleOptions("backends.*", false, &options);
  AddRoleOptions("backends.*.via[]", true, &options);
  std::vector<Option> rest = {
      Url("backends.*.sts_endpoint", "xray", IN_XRAY(sts_endpoint),
              "base URL of STS; without it: AWS_ENDPOINT_URL_STS, then the region's own"),
      Choice<std::optional<bool>>("backends.*.fips", "xray", IN_XRAY(fips), kAutoTrueFalse,
              "use FIPS endpoints; `auto`: AWS_USE_FIPS_ENDPOINT, then the profile"),
      Choice<std::optional<bool>>("backends.*.dual_stack", "xray", IN_XRAY(dual_stack), kAutoTrueFalse,
              "use endpoints that also have IPv6; `auto`: AWS_USE_DUALSTACK_ENDPOINT, then the profile"),
      Secret(Secrecy::kPassword, Form("backends.*.http_proxy", "xray", IN_XRAY(http_proxy), IsProxyUrl, kProxyUrl,
              "the proxy through which AWS is called; without it: HTTPS_PROXY and NO_PROXY")),
      Choice<bool>("backends.*.telemetry", "xray", IN_XRAY(telemetry), kOnOff,
              "tell X-Ray once a minute how many segments came and went (PutTelemetryRecords)"),
      Text("backends.*.resource_arn", "xray", IN_XRAY(resource_arn), "what the agent runs on, for that telemetry"),
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
      Fsync("backends.*.fsync", "file", [](const OptionTarget& t) -> auto& { return File(t); },
              "when written bytes are forced to disk: never, after each batch, or this often (`interval`: every second)"),

      When(),
      To(),

      Text("dead_letter.path", "", IN_CONFIG(dead_letter.path),
              "JSON lines of the documents that were refused for good; without it they are only counted"),
      Size("dead_letter.size", "", IN_CONFIG(dead_letter.size), {}, {64 * kKiB, kTiB},
              "size at which that file becomes `.1`, replacing the one before"),

      Address("admin.address", IN_CONFIG(admin.address), {"off"},
              "HTTP address of health, metrics and ledger; `off`: none. On no loopback address, /ledger is shown only to those "
              "with a token or a client certificate"),
      Secret(Secrecy::kAll, Form("admin.token", "", IN_CONFIG(admin.token), IsBearerToken, kBearerToken,
              "the secret that opens all pages, sent as `Authorization: Bearer …`; health and metrics need none")),
      Required(Text("admin.tls.cert", "", IN_CONFIG(admin.tls.cert),
              "PEM file of the certificate, with its chain, that makes it HTTPS; read again when it changes")),
      Required(Text("admin.tls.key", "", IN_CONFIG(admin.tls.key), "PEM file of its key, without a passphrase")),
      Text("admin.tls.client_ca", "", IN_CONFIG(admin.tls.client_ca),
              "PEM file of the authorities whose client certificates open all pages; health and metrics need none"),

      Choice<bool>("aws.metadata", "", IN_CONFIG(aws.metadata), kOnOff,
              "ask EC2 and ECS metadata for region, host name and instance; an instance role's credentials do not depend on it"),

      Live(Choice<LogLevel>("log.level", "", IN_CONFIG(log.level),
              {{"debug", LogLevel::kDebug}, {"info", LogLevel::kInfo}, {"warn", LogLevel::kWarn}, {"error", LogLevel::kError}},
              "the least important lines written")),
      Choice<std::optional<LogFormat>>("log.format", "", IN_CONFIG(log.format),
              {{"auto", std::nullopt}, {"text", LogFormat::kText}, {"json", LogFormat::kJson}, {"daemon", LogFormat::kDaemon}},
              "`auto`: text on a terminal, else JSON; `daemon`: the X-Ray daemon's lines"),
      Text("log.path", "", IN_CONFIG(log.path), "the log file; `-`: standard output; without it: standard error"),
      Size("log.rotate.size", "", IN_CONFIG(log.rotate_size), {{"never", 0}}, {64 * kKiB, kTiB},
              "size at which the log file becomes `.1`"),
      Number("log.rotate.keep", "", IN_CONFIG(log.rotate_keep), {}, {1, 10'000}, "older log files kept"),

      Form("security.user", "", IN_CONFIG(security.user), IsUnixUser, kUnixUser,
              "the user to become, and the group, when started as root; without it: whoever starts it"),
      Choice<SeccompMode>("security.seccomp", "", IN_CONFIG(security.seccomp),
              {{"on", SeccompMode::kOn}, {"log", SeccompMode::kLog}, {"off", SeccompMode::kOff},
               {"true", SeccompMode::kOn}, {"false", SeccompMode::kOff}},
              "system calls that the agent has no use for: `on` refuses them, `log` lets them pass and tells the kernel's audit log"),

      Live(Span("shutdown.grace", "", IN_CONFIG(shutdown.grace), {0, 10 * kMinute},
              "time for delivering what is held after SIGTERM; the rest is counted as dropped")),

      Choice<bool>("takeover", "", IN_CONFIG(takeover), kTrueFalse,
              "take the port over, without losing a datagram, from an agent of the same user that has it; without one: start as ever"),
  };
  // clang-format on
  std::move(rest.begin(), rest.end(), std::back_inserter(options));
  return options;
}

#undef IN_CONFIG
#undef IN_BACKEND
#undef IN_XRAY
#undef IN_ROLE
#undef IN_FILE

bool IsBackendName(std::string_view name) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789_-";
  return !name.empty() && name.size() <= 63 && name.find_first_not_of(kLetters) == name.npos;
}

bool IsTagName(std::string_view name) { return IsTagText(name, 1, 128); }

Collection SessionTags(std::string path, std::string_view needs) {
  Collection tags;
  tags.path = std::move(path);
  tags.backend_type = "xray";
  tags.noun = "session tags";
  tags.expectation = "a map of session tags such as { team: payments }";
  tags.help = "session tags, by name";
  tags.max = 50;
  tags.needs = needs;
  tags.name_rule = "a session tag's name is 1 to 128 letters, digits, blanks and _.:/=+-@";
  tags.name_pattern = "^[^\\x00-\\x1f!-*,;-<>?\\[-^`{-\\x7f]{1,128}$";
  tags.is_name = IsTagName;
  tags.enter = [](OptionTarget target, std::string_view name) {
    target.name = name;
    return target;
  };
  return tags;
}

std::vector<Collection> MakeCollections() {
  Collection backends;
  backends.path = "backends.*";
  backends.noun = "backends";
  backends.expectation = "a map of backends by name";
  backends.help = "where documents go, by name";
  backends.max = 64;
  backends.name_rule = "a backend's name is 1 to 63 of a-z, 0-9, _ and -";
  backends.name_pattern = "^[a-z0-9_-]{1,63}$";
  backends.is_name = IsBackendName;
  backends.enter = [](OptionTarget target, std::string_view name) {
    target.backend = &target.config->backends.emplace_back();
    target.backend->name = name;
    return target;
  };

  Collection via;
  via.path = "backends.*.via[]";
  via.backend_type = "xray";
  via.noun = "roles";
  via.expectation =
      "a list of roles such as [{ role_arn: \"arn:aws:iam::123456789012:role/first\" }]";
  via.help = "roles that are assumed one after the other before role_arn";
  via.max = 10;
  via.needs = "role_arn";
  via.enter = [](OptionTarget target, std::string_view) {
    target.role = &Xray(target).via.emplace_back();
    return target;
  };

  Collection routes;
  routes.path = "routes[]";
  routes.noun = "routes";
  routes.expectation = "a list of routes";
  routes.help = "which documents go where; the first that matches wins";
  routes.max = 256;
  routes.enter = [](OptionTarget target, std::string_view) {
    target.route = &target.config->routes.emplace_back();
    return target;
  };

  Collection allow;
  allow.path = "receivers.udp.allow[]";
  allow.noun = "networks";
  allow.expectation = "a list of networks such as [10.0.0.0/8, \"fd00::/8\"]";
  allow.help = "networks whose addresses may send; without any: everybody may";
  allow.max = 64;
  allow.enter = [](OptionTarget target, std::string_view) { return target; };
  return {std::move(allow),
          std::move(backends),
          SessionTags("backends.*.session_tags.*", "role_arn"),
          std::move(via),
          SessionTags("backends.*.via[].session_tags.*", ""),
          std::move(routes)};
}

template <class Row>
bool Applies(const Row& row, std::string_view backend_type) {
  return row.backend_type.empty() || backend_type == kAnyType || row.backend_type == backend_type;
}

}  // namespace

const std::vector<Option>& Options() {
  static const std::vector<Option> kOptions = MakeOptions();
  return kOptions;
}

const std::vector<Collection>& Collections() {
  static const std::vector<Collection> kCollections = MakeCollections();
  return kCollections;
}

std::string Below(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

std::vector<std::string> SplitPath(std::string_view path) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    words.emplace_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

const Option* FindOption(std::string_view path, std::string_view backend_type) {
  for (const Option& option : Options()) {
    if (option.path == path && Applies(option, backend_type)) return &option;
  }
  return nullptr;
}

const Collection* FindCollection(std::string_view path, std::string_view backend_type) {
  for (const Collection& collection : Collections()) {
    const std::string_view whole = collection.path;
    const bool here = StartsWith(whole, path) &&
                      (whole.substr(path.size()) == "[]" || whole.substr(path.size()) == ".*");
    if (here && Applies(collection, backend_type)) return &collection;
  }
  return nullptr;
}

std::vector<std::string> KeysOf(std::string_view path, std::string_view backend_type) {
  const std::string start = Below(path, "");
  std::vector<std::string> keys;
  for (const Option& option : Options()) {
    if (!StartsWith(option.path, start) || !Applies(option, backend_type)) continue;
    const std::string_view rest = std::string_view(option.path).substr(start.size());
    std::string key(rest.substr(0, rest.find_first_of(".[")));
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(std::move(key));
  }
  return keys;
}

std::string PatternOf(const std::vector<std::string>& words) {
  std::string pattern;
  for (const std::string& word : words) {
    const Collection* collection = FindCollection(pattern, kAnyType);
    if (collection != nullptr && !collection->is_list()) {
      if (!collection->is_name(word)) return "";
      pattern = collection->path;
      continue;
    }
    const std::vector<std::string> keys = KeysOf(pattern, kAnyType);
    if (std::find(keys.begin(), keys.end(), word) == keys.end()) return "";
    pattern = Below(pattern, word);
  }
  return pattern;
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
    case OptionKind::kForm:
      kind = option.form;
      break;
    case OptionKind::kFilter:
      kind = "a filter expression such as service(\"shop\")";
      break;
    case OptionKind::kBackendName:
      kind = fmt::format("the name of a backend of type {}", option.named_type);
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
