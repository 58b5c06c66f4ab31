// One row per key of the daemon's file; values are understood as its YAML reader understood them.
// Tested by tests/unit/engine/config/daemon_settings_test.cc and tests/fuzz/daemon_fuzz.cc.
#include "engine/config/daemon_settings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>
#include <variant>

#include "engine/base/status_macros.h"
#include "engine/config/loader.h"
#include "engine/config/shown.h"
#include "engine/config/values.h"
#include "engine/config/yaml_tree.h"
#include "engine/segment/utf8.h"
#include "fmt/format.h"

namespace mobula {
namespace {

constexpr int64_t kBufferMbMin = 3;
// buffer.memory and backends.*.concurrency know no more.
constexpr int64_t kBufferMbMax = 65536;
constexpr int64_t kConcurrencyMax = 1024;

using TextMember = DaemonSetting<std::string> DaemonSettings::*;
using IntMember = DaemonSetting<int64_t> DaemonSettings::*;
using BoolMember = DaemonSetting<bool> DaemonSettings::*;

enum class Special : uint8_t {
  kVersion,
  kIgnored,  // always accepted, never of any effect
};

struct Key {
  std::string_view path;
  std::variant<Special, TextMember, IntMember, BoolMember> member;
};

constexpr std::array<Key, 18> kKeys = {{
    {"Version", Special::kVersion},
    {"TotalBufferSizeMB", &DaemonSettings::buffer_mb},
    {"Concurrency", &DaemonSettings::concurrency},
    {"Endpoint", &DaemonSettings::endpoint},
    {"Region", &DaemonSettings::region},
    {"Socket.UDPAddress", &DaemonSettings::udp_address},
    {"Socket.TCPAddress", &DaemonSettings::tcp_address},
    {"Logging.LogRotation", &DaemonSettings::log_rotation},
    {"Logging.LogLevel", &DaemonSettings::log_level},
    {"Logging.LogPath", &DaemonSettings::log_path},
    {"LocalMode", &DaemonSettings::local_mode},
    {"ResourceARN", &DaemonSettings::resource_arn},
    {"RoleARN", &DaemonSettings::role_arn},
    {"NoVerifySSL", &DaemonSettings::no_verify_ssl},
    {"ProxyAddress", &DaemonSettings::proxy_address},
    {"proxyserver.idleconntimeout", Special::kIgnored},
    {"proxyserver.maxidleconnsperhost", Special::kIgnored},
    {"proxyserver.maxidleconns", Special::kIgnored},
}};

constexpr std::array<std::string_view, 3> kSections = {"Socket", "Logging", "proxyserver"};

constexpr std::array<std::string_view, 5> kKeysGone = {"Profile.CPU", "Profile.Memory",
                                                       "Socket.BufferSizeKB", "Logging.LogFormat",
                                                       "Processor.BatchProcessorQueueSize"};
constexpr std::array<std::string_view, 5> kKeysMoved = {
    "LogRotation", "Processor.Region", "Processor.Endpoint", "Processor.Routine", "MemoryLimit"};

// The daemon's levels, and ours for them.
constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kLevels = {
    {{"dev", "debug"},
     {"debug", "debug"},
     {"info", "info"},
     {"warn", "warn"},
     {"error", "error"},
     {"prod", "info"}}};
constexpr std::string_view kLevelsText = "dev, debug, info, warn, error or prod";

std::optional<std::string_view> LevelOf(std::string_view text) {
  for (const auto& [theirs, ours] : kLevels) {
    if (text == theirs) return ours;
  }
  return std::nullopt;
}

template <class Range>
bool Contains(const Range& range, std::string_view text) {
  return std::find(range.begin(), range.end(), text) != range.end();
}

const Key* FindKey(std::string_view path) {
  const auto key =
      std::find_if(kKeys.begin(), kKeys.end(), [&](const Key& k) { return k.path == path; });
  return key == kKeys.end() ? nullptr : &*key;
}

absl::Status Unreadable(std::string_view cause) {
  return absl::InvalidArgumentError(fmt::format("Error occur when using config flag: {}", cause));
}

// --- scalars as YAML 1.1 has them --------------------------------------------------------------------------

std::optional<bool> YamlBool(const YamlNode& node) {
  if (node.quoted) return std::nullopt;
  for (const std::string_view word :
       {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}) {
    if (node.text == word) return true;
  }
  for (const std::string_view word :
       {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}) {
    if (node.text == word) return false;
  }
  return std::nullopt;
}

// A decimal fraction is cut to its whole part.
std::optional<int64_t> YamlInt(const YamlNode& node) {
  if (node.quoted) return std::nullopt;
  std::string plain = node.text;
  plain.erase(std::remove(plain.begin(), plain.end(), '_'), plain.end());
  if (const auto number = ParseGoInt(plain)) return number;
  if (plain.empty() || plain.find_first_not_of("0123456789+-.eE") != plain.npos) {
    return std::nullopt;
  }
  const char* const begin = plain.data() + (plain.front() == '+' ? 1 : 0);
  const char* const end = plain.data() + plain.size();
  double value = 0;
  const auto [rest, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || rest != end || !(std::abs(value) < 9e18)) return std::nullopt;
  return static_cast<int64_t>(value);
}

// --- reading -----------------------------------------------------------------------------------------------

class FileReader {
 public:
  FileReader(std::string_view name, DaemonKeys keys) : name_(name), keys_(keys) {}

  absl::StatusOr<DaemonSettings> Read(const YamlNode& root) {
    const bool empty = root.children.empty() && root.kind != YamlNode::Kind::kScalar &&
                       root.kind != YamlNode::Kind::kList;
    if (empty) return WrongVersion(name_);
    if (root.kind == YamlNode::Kind::kScalar) {
      return Unreadable(Place(root.line, root.column) + ": expected keys and values");
    }
    if (root.Find("Version") == nullptr &&
        (root.Find("backends") != nullptr || root.Find("receivers") != nullptr)) {
      return absl::InvalidArgumentError(fmt::format(
          "Config Version is missing. {0} is a configuration of Mobula, not of the X-Ray daemon: "
          "run it with `mobula run -c {0}`.",
          name_));
    }
    if (root.kind == YamlNode::Kind::kList || root.Find("Version") == nullptr) {
      return absl::InvalidArgumentError(fmt::format(
          "Config Version is missing. Use X-Ray Daemon Config Migration Script, or say `Version: "
          "2` in {} when its keys are those of version 2.",
          name_));
    }
    if (keys_ == DaemonKeys::kStrict) RETURN_IF_ERROR(CheckKeys(root));
    for (const YamlNode& child : root.children) RETURN_IF_ERROR(ReadTop(child));
    if (version_ != 1 && version_ != 2) return WrongVersion(version_place_);
    return std::move(settings_);
  }

 private:
  std::string Place(int line, int column) const {
    return fmt::format("{}:{}:{}", name_, line, column);
  }

  static absl::Status WrongVersion(std::string_view place) {
    return absl::InvalidArgumentError(
        fmt::format("Config Version Setting is not correct. {}: expected Version 1 or 2.", place));
  }

  absl::Status CheckKeys(const YamlNode& root) const {
    for (const YamlNode& child : root.children) {
      if (child.kind != YamlNode::Kind::kMap) {
        RETURN_IF_ERROR(CheckKey(child, child.key));
        continue;
      }
      for (const YamlNode& inner : child.children) {
        RETURN_IF_ERROR(CheckKey(inner, child.key + "." + inner.key));
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckKey(const YamlNode& node, const std::string& path) const {
    const std::string place = Place(node.key_line, node.key_column);
    if (Contains(kKeysGone, path)) {
      return absl::InvalidArgumentError(
          fmt::format("{} flag is not supported any more. Remove it: {}.", path, place));
    }
    if (Contains(kKeysMoved, path)) {
      return absl::InvalidArgumentError(
          fmt::format("{} flag is not supported. Use X-Ray Daemon Config Migration Script, or the "
                      "key of version 2: {}.",
                      path, place));
    }
    if (FindKey(path) == nullptr) {
      return absl::InvalidArgumentError(
          fmt::format("{} flag is invalid. It is none of the keys, whose case matters: {}.",
                      Shown(path), place));
    }
    return absl::OkStatus();
  }

  absl::Status ReadTop(const YamlNode& node) {
    if (!Contains(kSections, node.key)) return ReadKey(node, node.key);
    if (node.kind == YamlNode::Kind::kNull) return absl::OkStatus();
    if (node.kind != YamlNode::Kind::kMap) return WrongType(node, node.key, "a section of keys");
    for (const YamlNode& inner : node.children) {
      RETURN_IF_ERROR(ReadKey(inner, node.key + "." + inner.key));
    }
    return absl::OkStatus();
  }

  // The last of several values counts; nothing, and an empty text, stands for the default.
  absl::Status ReadKey(const YamlNode& node, const std::string& path) {
    const Key* const key = FindKey(path);
    if (key == nullptr) return absl::OkStatus();
    return std::visit([&](const auto& member) { return Set(node, path, member); }, key->member);
  }

  absl::Status Set(const YamlNode& node, const std::string& path, Special special) {
    if (special == Special::kIgnored) return absl::OkStatus();
    version_place_ = Place(node.key_line, node.key_column);
    version_ = 0;
    if (node.kind == YamlNode::Kind::kNull) return absl::OkStatus();
    const auto version = node.kind == YamlNode::Kind::kScalar ? YamlInt(node) : std::nullopt;
    if (!version) return WrongType(node, path, "a number");
    version_ = *version;
    return absl::OkStatus();
  }

  absl::Status Set(const YamlNode& node, const std::string& path, TextMember member) {
    settings_.*member = DaemonSettings().*member;
    if (node.kind == YamlNode::Kind::kNull) return absl::OkStatus();
    if (node.kind != YamlNode::Kind::kScalar) return WrongType(node, path, "text");
    if (node.text.empty()) return absl::OkStatus();
    settings_.*member = {node.text, path, Place(node.line, node.column)};
    if (member == &DaemonSettings::log_level && !LevelOf(node.text)) {
      return Wrong(node, path, fmt::format("expected {}", kLevelsText));
    }
    return absl::OkStatus();
  }

  absl::Status Set(const YamlNode& node, const std::string& path, IntMember member) {
    settings_.*member = {};
    if (node.kind == YamlNode::Kind::kNull) return absl::OkStatus();
    const auto number = node.kind == YamlNode::Kind::kScalar ? YamlInt(node) : std::nullopt;
    if (!number) return WrongType(node, path, "a number");
    if (*number != 0) settings_.*member = {*number, path, Place(node.line, node.column)};
    if (member == &DaemonSettings::concurrency && *number < 0) {
      return Wrong(node, path, "nothing would ever be sent: expected 0 or more");
    }
    return absl::OkStatus();
  }

  absl::Status Set(const YamlNode& node, const std::string& path, BoolMember member) {
    settings_.*member = DaemonSettings().*member;
    if (node.kind == YamlNode::Kind::kNull) return absl::OkStatus();
    const auto on = node.kind == YamlNode::Kind::kScalar ? YamlBool(node) : std::nullopt;
    if (!on) return WrongType(node, path, "true or false");
    settings_.*member = {*on, path, Place(node.line, node.column)};
    return absl::OkStatus();
  }

  absl::Status Wrong(const YamlNode& node, std::string_view path, std::string_view what) const {
    return Unreadable(fmt::format("{}: {}: \"{}\": {}", Place(node.line, node.column), path,
                                  Shown(HidePassword(node.text)), what));
  }

  absl::Status WrongType(const YamlNode& node, std::string_view path,
                         std::string_view expected) const {
    if (node.kind == YamlNode::Kind::kScalar) {
      return Wrong(node, path,
                   fmt::format("expected {}{}", expected, node.quoted ? ", without quotes" : ""));
    }
    return Unreadable(
        fmt::format("{}: {}: expected {}", Place(node.line, node.column), path, expected));
  }

  const std::string name_;
  const DaemonKeys keys_;
  DaemonSettings settings_;
  int64_t version_ = 0;
  std::string version_place_;
};

// --- writing -----------------------------------------------------------------------------------------------

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < ' ' || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out + '"';
}

// One configuration, line by line; the first setting that cannot be said in it ends it.
class Writer {
 public:
  explicit Writer(std::vector<std::string> warnings) { out_.warnings = std::move(warnings); }

  // A comment.
  void Remark(std::string_view text) { out_.text += fmt::format("# {}\n", text); }

  // A map; what is written with a greater indent stands in it.
  void Map(size_t indent, std::string_view key) {
    Path(indent, key);
    Line(indent, fmt::format("{}:", key));
  }

  // A value of our own making, and why.
  void Value(size_t indent, std::string_view key, std::string_view value, std::string_view remark) {
    Line(indent, fmt::format("{}: {}{}{}", key, value, remark.empty() ? "" : "  # ", remark));
  }

  // `value` stands for the setting; `remark` goes behind the name of its source.
  template <class T>
  void Setting(size_t indent, std::string_view key, std::string_view value,
               const DaemonSetting<T>& setting, std::string_view remark = "") {
    Take(indent, key, value, setting);
    Value(indent, key, value,
          fmt::format("{}{}", setting.source.empty() ? "the daemon's default" : setting.source,
                      remark));
  }

  // The setting's text; its default is only written where ours differs, with `always`.
  void Text(size_t indent, std::string_view key, const DaemonSetting<std::string>& setting,
            bool always = false) {
    if (setting.value.empty() || (setting.source.empty() && !always)) return;
    if (setting.value.find("${") != std::string::npos) {
      Fail(fmt::format("{}: a value with ${{ cannot be taken over: here it begins a reference",
                       Told(setting)));
    }
    if (!IsValidUtf8(setting.value)) Fail(Told(setting) + ": not UTF-8");
    Take(indent, key, setting.value, setting);
    const std::string_view from =
        setting.source.empty() ? std::string_view("the daemon's default") : setting.source;
    Value(indent, key, Quoted(setting.value), from);
  }

  // A positive number with its unit, at most `max`.
  void Number(size_t indent, std::string_view key, const DaemonSetting<int64_t>& setting,
              int64_t max, std::string_view unit) {
    const int64_t most = std::min(setting.value, max);
    if (most < setting.value) {
      out_.warnings.push_back(fmt::format("{}: {}: taken as {}, the most there is", Told(setting),
                                          setting.value, most));
    }
    Setting(indent, key, fmt::format("{}{}", most, unit), setting,
            most < setting.value ? fmt::format(": {}", setting.value) : "");
  }

  void Fail(std::string_view message) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(std::string(message));
  }

  absl::StatusOr<MigratedSettings> Finish() {
    RETURN_IF_ERROR(status_);
    return std::move(out_);
  }

 private:
  void Line(size_t indent, std::string_view text) {
    out_.text += fmt::format("{:{}}{}\n", "", indent * 2, text);
  }

  // What messages call the setting.
  template <class T>
  static std::string Told(const DaemonSetting<T>& setting) {
    return setting.place.empty() ? setting.source
                                 : fmt::format("{}: {}", setting.place, setting.source);
  }

  // The option's whole name.
  std::string Path(size_t indent, std::string_view key) {
    maps_.resize(indent);
    maps_.emplace_back(key);
    std::string path;
    for (const std::string& word : maps_) path += (path.empty() ? "" : ".") + word;
    return path;
  }

  template <class T>
  void Take(size_t indent, std::string_view key, std::string_view value,
            const DaemonSetting<T>& setting) {
    if (setting.source.empty()) return;
    const std::string path = Path(indent, key);
    out_.names[path] = Told(setting);
    if (setting.source.front() == '-') out_.sets.push_back(fmt::format("{}={}", path, value));
  }

  MigratedSettings out_;
  std::vector<std::string> maps_;  // those around what is written, by indent
  absl::Status status_;
};

void WriteBackend(const DaemonSettings& s, Writer* out) {
  out->Map(0, "backends");
  out->Map(1, "xray");
  out->Value(2, "type", "xray", "");
  out->Text(2, "region", s.region);
  out->Text(2, "endpoint", s.endpoint);
  out->Text(2, "role_arn", s.role_arn);
  out->Text(2, "resource_arn", s.resource_arn);
  out->Text(2, "http_proxy", s.proxy_address);
  if (s.concurrency.value > 0) out->Number(2, "concurrency", s.concurrency, kConcurrencyMax, "");
  if (s.no_verify_ssl.value) {
    out->Map(2, "tls");
    out->Setting(3, "verify", "false", s.no_verify_ssl);
  }
}

void WriteLog(const DaemonSettings& s, Writer* out) {
  out->Map(0, "log");
  out->Value(1, "format", "daemon", "the daemon's lines");
  const std::string level(LevelOf(s.log_level.value).value_or("info"));
  out->Setting(1, "level", level, s.log_level,
               level == s.log_level.value ? "" : ": " + s.log_level.value);
  if (s.log_path.value.empty()) {
    out->Value(1, "path", "\"-\"", "the daemon's default: standard output");
    return;
  }
  DaemonSetting<std::string> path = s.log_path;
  // "-" alone is a file's name to the daemon.
  if (path.value == "-") path.value = "./-";
  out->Text(1, "path", path);
  out->Map(1, "rotate");
  out->Setting(2, "size", s.log_rotation.value ? "50MiB" : "never", s.log_rotation);
  if (s.log_rotation.value) out->Value(2, "keep", "1", "as the daemon does");
}

}  // namespace

absl::StatusOr<DaemonSettings> ParseDaemonFile(std::string_view text, std::string_view name,
                                               DaemonKeys keys) {
  if (text.size() > kConfigFileBytesMax) {
    return Unreadable(fmt::format("{}: larger than 1MiB", name));
  }
  const absl::StatusOr<YamlNode> root = ParseYamlTree(text);
  if (!root.ok()) {
    return Unreadable(fmt::format("{}:{}", name, Shown(std::string(root.status().message()), 500)));
  }
  return FileReader(name, keys).Read(*root);
}

absl::StatusOr<DaemonSettings> LoadDaemonFile(const std::string& path, DaemonKeys keys) {
  FileExposure exposure;
  const absl::StatusOr<std::string> text = ReadConfigFile(path, &exposure);
  if (!text.ok()) return Unreadable(std::string(text.status().message()));
  absl::StatusOr<DaemonSettings> settings = ParseDaemonFile(*text, path, keys);
  if (!settings.ok()) return settings;
  // The daemon would have started with it.
  for (std::string why : {AnybodyMayChange(path, exposure), AStrangerMayChange(path, exposure)}) {
    if (!why.empty()) settings->warnings.push_back(std::move(why));
  }
  return settings;
}

void ApplyDaemonFlags(const DaemonFlags& flags, DaemonSettings* settings) {
  const auto apply = [](const auto& flag, std::string_view name, auto* setting) {
    if (flag) *setting = {*flag, std::string(name), ""};
  };
  const DaemonSettings defaults;
  apply(flags.resource_arn, "-a", &settings->resource_arn);
  apply(flags.local_mode, "-o", &settings->local_mode);
  apply(flags.buffer_memory, "-m", &settings->buffer_mb);
  apply(flags.region, "-n", &settings->region);
  apply(flags.bind, "-b", &settings->udp_address);
  if (settings->udp_address.value.empty()) settings->udp_address = defaults.udp_address;
  apply(flags.bind_tcp, "-t", &settings->tcp_address);
  if (settings->tcp_address.value.empty()) settings->tcp_address = defaults.tcp_address;
  apply(flags.role_arn, "-r", &settings->role_arn);
  apply(flags.log_file, "-f", &settings->log_path);
  apply(flags.proxy_address, "-p", &settings->proxy_address);
  apply(flags.takeover, "--takeover", &settings->takeover);
  if (flags.log_level && LevelOf(*flags.log_level)) {
    settings->log_level = {*flags.log_level, "-l", ""};
  } else if (flags.log_level) {
    settings->warnings.push_back(fmt::format("-l {}: ignored, for it is no level: expected {}",
                                             Shown(*flags.log_level), kLevelsText));
  }
}

absl::StatusOr<MigratedSettings> MigrateDaemonSettings(const DaemonSettings& s,
                                                       std::string_view origin) {
  Writer out(s.warnings);
  out.Remark(fmt::format("The X-Ray daemon's settings from {}, as a configuration of Mobula.",
                         Shown(origin, 200)));
  out.Remark("Behind each value: the daemon's key or flag that it came from.");
  out.Map(0, "receivers");
  out.Map(1, "udp");
  out.Text(2, "address", s.udp_address, true);
  out.Map(1, "proxy");
  out.Text(2, "address", s.tcp_address, true);
  out.Map(0, "buffer");
  out.Value(1, "fit", "shrink", "the daemon starts in containers of any size");
  if (s.buffer_mb.value > 0) {
    if (s.buffer_mb.value < kBufferMbMin) {
      out.Fail("Not enough Buffers Memory Allocated. Min Buffers Memory required: 3 MB.");
    }
    out.Number(1, "memory", s.buffer_mb, kBufferMbMax, "MiB");
  }
  WriteBackend(s, &out);
  if (!s.local_mode.source.empty()) {
    out.Map(0, "aws");
    out.Setting(1, "metadata", s.local_mode.value ? "off" : "on", s.local_mode);
  }
  WriteLog(s, &out);
  if (!s.takeover.source.empty()) {
    out.Setting(0, "takeover", s.takeover.value ? "true" : "false", s.takeover);
  }
  return out.Finish();
}

}  // namespace mobula
