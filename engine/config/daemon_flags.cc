// One row per flag; the parser knows their three types.
// Tested by tests/unit/engine/config/daemon_flags_test.cc.
#include "engine/config/daemon_flags.h"

#include <array>
#include <charconv>
#include <limits>
#include <variant>

#include "engine/base/status_macros.h"
#include "engine/config/shown.h"
#include "engine/config/values.h"
#include "fmt/format.h"

namespace mobula {
namespace {

using TextMember = std::optional<std::string> DaemonFlags::*;
using BoolMember = std::optional<bool> DaemonFlags::*;
using IntMember = std::optional<int64_t> DaemonFlags::*;

struct Flag {
  std::string_view brief;  // empty: none
  std::string_view name;
  std::string_view help;
  std::variant<std::monostate, TextMember, BoolMember, IntMember> member;
};

// In the order of the usage.
constexpr std::array<Flag, 14> kFlags = {{
    {"a", "resource-arn", "ARN of the AWS resource this runs on, told in telemetry",
     &DaemonFlags::resource_arn},
    {"o", "local-mode", "Do not ask EC2 or ECS metadata who and where this is",
     &DaemonFlags::local_mode},
    {"m", "buffer-memory", "Memory for segments on their way, in MB (at least 3)",
     &DaemonFlags::buffer_memory},
    {"n", "region", "AWS region to send segments to", &DaemonFlags::region},
    {"b", "bind", "UDP address for segments (default 127.0.0.1:2000)", &DaemonFlags::bind},
    {"t", "bind-tcp", "TCP address for sampling calls (default 127.0.0.1:2000)",
     &DaemonFlags::bind_tcp},
    {"r", "role-arn", "Role to assume, also one of another account", &DaemonFlags::role_arn},
    {"c", "config", "Configuration file", &DaemonFlags::config},
    {"f", "log-file", "Log to this file instead of standard output", &DaemonFlags::log_file},
    {"l", "log-level", "dev, debug, info, warn, error or prod (default prod)",
     &DaemonFlags::log_level},
    {"p", "proxy-address", "HTTP or HTTPS proxy on the way to AWS, as a URL",
     &DaemonFlags::proxy_address},
    {"", "takeover", "Take the port over from the agent that has it, without losing a segment",
     &DaemonFlags::takeover},
    {"v", "version", "Print the version", &DaemonFlags::version},
    {"h", "help", "Print this", std::monostate()},
}};

const Flag* Find(std::string_view name) {
  for (const Flag& flag : kFlags) {
    if (flag.brief == name || flag.name == name) return &flag;
  }
  return nullptr;
}

std::optional<bool> ParseGoBool(std::string_view text) {
  for (const std::string_view word : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == word) return true;
  }
  for (const std::string_view word : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == word) return false;
  }
  return std::nullopt;
}

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : Shown(HidePassword(text))) {
    if (c == '"') out += '\\';
    out += c;
  }
  return out + '"';
}

absl::Status SetInt(IntMember member, std::string_view name, std::string_view value,
                    DaemonFlags* flags) {
  const std::optional<int64_t> number = ParseGoInt(value);
  if (!number) {
    return absl::InvalidArgumentError(
        fmt::format("invalid value {} for flag -{}: parse error", Quoted(value), name));
  }
  flags->*member = *number;
  return absl::OkStatus();
}

absl::Status SetBool(BoolMember member, std::string_view name, std::string_view value,
                     DaemonFlags* flags) {
  const std::optional<bool> on = ParseGoBool(value);
  if (!on) {
    return absl::InvalidArgumentError(
        fmt::format("invalid boolean value {} for -{}: parse error", Quoted(value), name));
  }
  flags->*member = *on;
  return absl::OkStatus();
}

// The digits of `text` without the single _ that may stand between them, and after a prefix before the first.
std::optional<std::string> WithoutSeparators(std::string_view text, bool behind_prefix) {
  std::string digits;
  bool may_separate = behind_prefix;
  for (const char c : text) {
    if (c == '_') {
      if (!may_separate) return std::nullopt;
      may_separate = false;
    } else {
      digits += c;
      may_separate = true;
    }
  }
  if (digits.empty() || text.back() == '_') return std::nullopt;
  return digits;
}

}  // namespace

std::optional<int64_t> ParseGoInt(std::string_view text) {
  const bool negative = !text.empty() && text.front() == '-';
  if (negative || (!text.empty() && text.front() == '+')) text.remove_prefix(1);
  int base = 10;
  if (text.size() > 1 && text.front() == '0') {
    const char mark = static_cast<char>(text[1] | 0x20);
    base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
    text.remove_prefix(base == 8 && mark != 'o' ? 1 : 2);
  }
  const std::optional<std::string> digits = WithoutSeparators(text, base != 10);
  if (!digits) return std::nullopt;
  uint64_t value = 0;
  const char* const end = digits->data() + digits->size();
  const auto [rest, error] = std::from_chars(digits->data(), end, value, base);
  constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (error != std::errc() || rest != end || value > kMax + (negative ? 1 : 0)) return std::nullopt;
  return static_cast<int64_t>(negative ? 0 - value : value);
}

absl::Status ParseDaemonFlags(const std::vector<std::string>& args, DaemonFlags* flags) {
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string_view arg = args[i];
    if (arg.size() < 2 || arg.front() != '-' || arg == "--") break;
    std::string_view name = arg.substr(arg[1] == '-' ? 2 : 1);
    if (name.front() == '-' || name.front() == '=') {
      return absl::InvalidArgumentError("bad flag syntax: " + Shown(HidePassword(arg)));
    }
    std::optional<std::string_view> value;
    if (const size_t equals = name.find('='); equals != name.npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    const Flag* const flag = Find(name);
    if (flag == nullptr) {
      return absl::InvalidArgumentError("flag provided but not defined: -" + Shown(name));
    }
    if (std::holds_alternative<std::monostate>(flag->member)) {
      flags->help = true;
      break;
    }
    if (const BoolMember* const member = std::get_if<BoolMember>(&flag->member)) {
      RETURN_IF_ERROR(SetBool(*member, name, value.value_or("true"), flags));
      continue;
    }
    if (!value) {
      if (i + 1 == args.size()) {
        return absl::InvalidArgumentError(fmt::format("flag needs an argument: -{}", name));
      }
      value = args[++i];
    }
    if (const IntMember* const member = std::get_if<IntMember>(&flag->member)) {
      RETURN_IF_ERROR(SetInt(*member, name, *value, flags));
    } else {
      flags->*std::get<TextMember>(flag->member) = std::string(*value);
    }
  }
  return absl::OkStatus();
}

std::string DaemonUsage() {
  std::string out = "Usage: X-Ray [options]\n";
  for (const Flag& flag : kFlags) {
    // The columns of longer names begin one tab stop further.
    out += fmt::format("\t{}{}\t--{}\t{}{}\n", flag.brief.empty() ? "" : "-", flag.brief, flag.name,
                       flag.name.size() <= 4 ? "\t" : "", flag.help);
  }
  return out;
}

}  // namespace mobula
