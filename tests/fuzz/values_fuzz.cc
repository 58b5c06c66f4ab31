// The small texts that come from files, variables, headers and the kernel: sizes, times, addresses, URLs, lists of
// proxies' exceptions, limits of a cgroup. The first line is tried as each of them; the second is a list of exceptions,
// the third a proxy, the rest what the kernel says of a cgroup.
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include "engine/app/accept.h"
#include "engine/app/memory_plan.h"
#include "engine/aws/iso_time.h"
#include "engine/base/ip_address.h"
#include "engine/config/values.h"
#include "engine/http/forward_proxy.h"
#include "engine/http/http_date.h"
#include "engine/http/http_url.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"

namespace {

using mobula::HttpUrl;

std::string Formatted(std::chrono::system_clock::time_point time, const char* format) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  std::array<char, 64> text{};
  const size_t size = std::strftime(text.data(), text.size(), format, &utc);
  return {text.data(), size};
}

void TryCounts(const std::string& text) {
  if (const auto bytes = mobula::ParseSize(text)) {
    EXPECT(mobula::ParseSize(mobula::FormatSize(*bytes)) == bytes);
  }
  if (const auto span = mobula::ParseDuration(text)) {
    EXPECT(span->count() >= 0);
    EXPECT(mobula::ParseDuration(mobula::FormatDuration(*span)) == span);
  }
  if (const auto number = mobula::ParseNumber(text)) {
    const size_t zeros = std::min(text.find_first_not_of('0'), text.size() - 1);
    EXPECT(std::to_string(*number) == text.substr(zeros));
  }
  if (const auto mode = mobula::ParseMode(text)) EXPECT(*mode >= 0 && *mode <= 0777);
}

void TryTimes(const std::string& text) {
  if (const auto date = mobula::ParseHttpDate(text)) {
    // All but the day of the week, which nobody needs, and a leap second.
    if (text.substr(23, 2) != "60") {
      EXPECT(Formatted(*date, "%d %b %Y %H:%M:%S GMT") == text.substr(5));
    }
  }
  if (const auto time = mobula::ParseIsoTime(text)) {
    EXPECT(text.size() >= 20);
    // In UTC, without a leap second, it is what stands there.
    const char last = text.back();
    if ((last == 'Z' || last == 'z' || last == 'C') && text.substr(17, 2) != "60") {
      std::string plain = text.substr(0, 19);
      plain[10] = 'T';
      EXPECT(Formatted(*time, "%Y-%m-%dT%H:%M:%S") == plain);
    }
  }
}

std::string Rebuilt(const HttpUrl& url) {
  return (url.tls ? "https://" : "http://") + url.Authority() + url.path;
}

void TryAddresses(const std::string& text) {
  const auto url = mobula::ParseHttpUrl(text);
  // What a check of the configuration takes, the client must take too.
  if (mobula::IsHttpUrl(text)) EXPECT(url.ok());
  if (url.ok()) {
    EXPECT(url->port != 0 && !url->host.empty());
    EXPECT(url->path.empty() || (url->path.front() == '/' && url->path.back() != '/'));
    const auto again = mobula::ParseHttpUrl(Rebuilt(*url));
    EXPECT(again.ok() && again->host == url->host && again->port == url->port &&
           again->path == url->path && again->tls == url->tls);
  } else if (text.find('@') != std::string::npos) {
    // Always the same words, whatever stands there.
    EXPECT(url.status() == mobula::ParseHttpUrl("@").status());
  }
  const auto address = mobula::ParseHostPort(text);
  if (mobula::IsListenAddress(text)) EXPECT(address.ok());
  if (address.ok()) {
    const bool v6 = address->host.find(':') != std::string::npos;
    const auto again = mobula::ParseHostPort((v6 ? "[" : "") + address->host + (v6 ? "]:" : ":") +
                                             std::to_string(address->port));
    EXPECT(again.ok() && again->host == address->host && again->port == address->port);
  }
  if (mobula::IsSocketPath(text)) EXPECT(!text.empty() && text.size() < 108);
}

// Networks against a walk over their bits.
void TryNetworks(const std::string& network_text, const std::string& address_text) {
  bool cleared = false;
  const auto network = mobula::ParseIpNetwork(network_text, &cleared);
  if (!network) return;
  const auto bit = [](const mobula::IpAddress& address, unsigned i) {
    return ((i < 64 ? address.high : address.low) >> (63 - i % 64) & 1) != 0;
  };
  const auto own = *mobula::ParseIpAddress(network_text.substr(0, network_text.find('/')));
  unsigned bits =
      static_cast<unsigned>(std::stoul(network_text.substr(network_text.find('/') + 1)));
  if (network_text.find(':') == network_text.npos) bits += 96;
  bool any = false;
  for (unsigned i = 0; i < 128; ++i) {
    EXPECT(bit(network->mask, i) == (i < bits));
    EXPECT(bit(network->address, i) == (i < bits && bit(own, i)));
    any |= i >= bits && bit(own, i);
  }
  EXPECT(cleared == any);
  EXPECT(network->Contains(own));
  const auto address = mobula::ParseIpAddress(address_text);
  if (!address) return;
  bool same = address->is_v4() == own.is_v4();
  for (unsigned i = 0; i < bits; ++i) same &= bit(*address, i) == bit(own, i);
  EXPECT(network->Contains(*address) == same);
}

// The user's password in the text of a URL, when there is one.
std::string PasswordIn(const std::string& url) {
  const size_t begin = url.find("://");
  if (begin == std::string::npos) return "";
  const std::string authority =
      url.substr(begin + 3, url.find_first_of("/?#", begin + 3) - begin - 3);
  const size_t at = authority.rfind('@');
  const size_t colon = authority.find(':');
  if (at == std::string::npos || colon > at) return "";
  return authority.substr(colon + 1, at - colon - 1);
}

using Proxy = absl::StatusOr<std::optional<mobula::HttpForwardProxy>>;

Proxy FindProxy(const HttpUrl& target, const std::string& configured, const std::string& variable,
                const std::string& exceptions) {
  return mobula::FindForwardProxy(configured, target,
                                  [&](std::string_view name) -> std::optional<std::string> {
                                    if (name == "HTTPS_PROXY") return variable;
                                    if (name == "NO_PROXY") return exceptions;
                                    return std::nullopt;
                                  });
}

bool IsExcepted(const HttpUrl& target, const std::string& exceptions) {
  const Proxy proxy = FindProxy(target, "", "http://proxy:3128", exceptions);
  EXPECT(proxy.ok());
  return !proxy->has_value();
}

void TryProxies(const std::string& target_text, const std::string& exceptions,
                const std::string& proxy_text) {
  const std::string password = PasswordIn(proxy_text);
  // One that stands nowhere else; the mark tells it from our own words.
  const bool secret = password.size() > 1 && password.find('!') != password.npos &&
                      proxy_text.find("${") == proxy_text.npos &&
                      proxy_text.find(password) == proxy_text.rfind(password);
  const HttpUrl any{true, "xray.example", 443, ""};
  if (mobula::IsProxyUrl(proxy_text)) {
    const Proxy found = FindProxy(any, proxy_text, "", "");
    EXPECT(found.ok() && found->has_value());
    if (secret) EXPECT(mobula::HidePassword(proxy_text).find(password) == std::string::npos);
  }
  if (const Proxy found = FindProxy(any, "", proxy_text, ""); !found.ok() && secret) {
    EXPECT(found.status().message().find(password) == std::string::npos);
  }

  const auto target = mobula::ParseHttpUrl(target_text);
  if (!target.ok()) return;
  // A list excepts what one of its entries excepts.
  bool one = false;
  for (size_t begin = 0; begin <= exceptions.size();) {
    const size_t end = std::min(exceptions.find_first_of(", \t", begin), exceptions.size());
    one |= IsExcepted(*target, exceptions.substr(begin, end - begin));
    begin = end + 1;
  }
  EXPECT(IsExcepted(*target, exceptions) == one);
  EXPECT(IsExcepted(*target, exceptions + ",*"));
  EXPECT(IsExcepted(*target, exceptions + " " + target->host));
}

void TryAccept(const std::string& text) {
  const bool wants = mobula::WantsOpenMetrics(text);
  if (wants) EXPECT(text.find("application/openmetrics-text") != std::string::npos);
  EXPECT(mobula::WantsOpenMetrics("application/openmetrics-text," + text));
}

// The kernel's files below a folder of this process.
class Cgroup {
 public:
  Cgroup() {
    std::string name = (std::filesystem::temp_directory_path() / "mobula-fuzz-XXXXXX").string();
    EXPECT(::mkdtemp(name.data()) != nullptr);
    root_ = name;
    for (const char* folder : {"/proc/self", "/sys/fs/cgroup/a/b", "/sys/fs/cgroup/memory/a/b"}) {
      std::filesystem::create_directories(root_ + folder);
    }
  }
  ~Cgroup() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  void Write(const char* path, std::string_view text) const {
    std::ofstream(root_ + path, std::ios::binary | std::ios::trunc) << text;
  }
  [[nodiscard]] const std::string& root() const { return root_; }

 private:
  std::string root_;
};

void TryCgroup(Input* input) {
  static const Cgroup kCgroup;
  const std::string groups = std::string(input->Line()) + "\n" + std::string(input->Line()) + "\n";
  const std::string root(input->Line());
  const std::string leaf(input->Line());
  kCgroup.Write("/proc/self/cgroup", groups);
  kCgroup.Write("/sys/fs/cgroup/a/memory.max", root);
  kCgroup.Write("/sys/fs/cgroup/a/b/memory.max", leaf);
  kCgroup.Write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", leaf);
  const auto limit = mobula::CgroupMemoryLimit(kCgroup.root());
  if (limit) EXPECT(*limit > 0);
  const uint64_t buffer = mobula::DefaultBuffer(limit);
  EXPECT(buffer >= 3U << 20 && buffer <= 256U << 20);
  if (groups.starts_with("0::/a/b\n") && leaf.find_first_not_of("0123456789") == leaf.npos &&
      leaf.size() <= 15 && std::strtoull(leaf.c_str(), nullptr, 10) > 0) {
    EXPECT(limit && *limit <= std::strtoull(leaf.c_str(), nullptr, 10));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const std::string text(input.Line());
  const std::string exceptions(input.Line());
  const std::string proxy(input.Line());
  TryCounts(text);
  TryTimes(text);
  TryAddresses(text);
  TryAccept(text);
  TryNetworks(text, exceptions);
  TryProxies(text, exceptions, proxy);
  if (!input.empty()) TryCgroup(&input);
  return 0;
}
