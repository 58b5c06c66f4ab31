// The log: line building, escaping, rate limit and the one write(2) behind it.
// Tested by tests/unit/engine/base/log_test.cc.
#include "engine/base/log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <map>
#include <mutex>
#include <system_error>
#include <utility>

#include "engine/base/printable.h"
#include "engine/base/status_macros.h"
#include "engine/base/unique_fd.h"

namespace mobula {
namespace {

// Equals PIPE_BUF: after POLLOUT a pipe takes a whole line at once, without blocking and without
// mixing.
constexpr size_t kLineBytesMax = 4096;
constexpr Duration kRepeatWindow = std::chrono::seconds(10);
// Entries of single keys, and of events whose keys found no room any more.
constexpr size_t kKeyEntriesMax = 192;
constexpr size_t kEventEntriesMax = 64;

constexpr std::array<std::string_view, 4> kLevelNames = {"debug", "info", "warn", "error"};
constexpr std::array<std::string_view, 4> kLevelTexts = {"DEBUG", "INFO ", "WARN ", "ERROR"};
constexpr std::array<std::string_view, 4> kDaemonLevels = {"Debug", "Info", "Warn", "Error"};
constexpr std::array<std::string_view, 4> kLevelColours = {"\x1b[2m", "\x1b[32m", "\x1b[33m",
                                                           "\x1b[31m"};

enum class Quoting : uint8_t { kBare, kQuoted, kJson };

std::string EscapedCharacter(std::string_view bytes, bool valid, uint32_t code, Quoting quoting) {
  std::string out;
  std::array<char, 8> hex{};
  if (valid && !IsControl(code)) {
    if (quoting != Quoting::kBare && (code == '"' || code == '\\')) out += '\\';
    return out.append(bytes);
  }
  if (valid && quoting == Quoting::kJson) {
    std::snprintf(hex.data(), hex.size(), "\\u%04x", static_cast<unsigned>(code));
    return out.append(hex.data());
  }
  for (const char c : bytes) {
    std::snprintf(hex.data(), hex.size(), "\\x%02x", static_cast<unsigned>(c) & 0xffU);
    if (quoting == Quoting::kJson) out += '\\';
    out += hex.data();
  }
  return out;
}

// Builds one line of at most kLineBytesMax bytes; what does not fit is cut at a character and
// marked.
class LineBuilder {
 public:
  // `tail` bytes stay free for what ends the line.
  explicit LineBuilder(size_t tail) : limit_(kLineBytesMax - tail) {}

  void Raw(std::string_view text) {
    if (line_.size() + text.size() > limit_) {
      cut_ = true;
    } else if (!cut_) {
      line_.append(text);
    }
  }

  void Escaped(std::string_view text, Quoting quoting) {
    while (!text.empty() && !cut_) {
      uint32_t code = 0;
      const size_t count = CharacterBytes(text, &code);
      const std::string_view bytes = text.substr(0, std::max<size_t>(count, 1));
      Raw(EscapedCharacter(bytes, count > 0, code, quoting));
      text.remove_prefix(bytes.size());
    }
  }

  // Room for what must follow however long the text was: the closing quote of a value.
  void Close(std::string_view text) { line_.append(text); }

  [[nodiscard]] bool cut() const { return cut_; }
  [[nodiscard]] bool Fits(size_t bytes) const { return !cut_ && line_.size() + bytes <= limit_; }
  void Cut() { cut_ = true; }
  std::string Take() { return std::move(line_); }

 private:
  std::string line_;
  size_t limit_;
  bool cut_ = false;
};

std::string Timestamp(std::chrono::system_clock::time_point now) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  const std::time_t seconds = static_cast<std::time_t>(ms.count() / 1000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900,
                utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                static_cast<int>(ms.count() % 1000));
  return text.data();
}

// RFC 3339 in the machine's time zone, to the second.
std::string LocalTimestamp(std::time_t now) {
  std::tm local{};
  localtime_r(&now, &local);
  const int minutes = static_cast<int>(local.tm_gmtoff / 60);
  std::array<char, 16> zone{};
  std::snprintf(zone.data(), zone.size(), "%c%02d:%02d", minutes < 0 ? '-' : '+',
                std::abs(minutes) / 60, std::abs(minutes) % 60);
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d%s", local.tm_year + 1900,
                local.tm_mon + 1, local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec,
                minutes == 0 ? "Z" : zone.data());
  return text.data();
}

bool NeedsQuotes(std::string_view value) {
  return value.empty() || value.find_first_of(" \"=\\") != std::string_view::npos;
}

// JSON has no word for NaN or infinity.
bool IsBareJson(const LogField& field) {
  return field.json || (field.number && field.value.find_first_of("nN") == std::string::npos);
}

struct Line {
  LogLevel level;
  std::string_view event;
  std::string_view message;
  const std::initializer_list<LogField>& fields;
  uint64_t repeated;
};

std::string TextLine(const Line& line, bool colour, bool over_status_line) {
  constexpr std::string_view kCutMark = " [cut]";
  const size_t level = static_cast<size_t>(line.level);
  const std::string repeated =
      line.repeated > 0 ? " repeated=" + std::to_string(line.repeated) : std::string();
  // A closing quote, the marks and the LF.
  LineBuilder out(1 + kCutMark.size() + repeated.size() + 1);
  if (over_status_line) out.Raw("\r\x1b[K");
  out.Raw(Timestamp(std::chrono::system_clock::now()));
  out.Raw(" ");
  if (colour) out.Raw(kLevelColours[level]);
  out.Raw(kLevelTexts[level]);
  if (colour) out.Raw("\x1b[0m");
  out.Raw(" ");
  out.Escaped(line.message, Quoting::kBare);
  std::string_view blanks = "  ";
  for (const LogField& field : line.fields) {
    if (!out.Fits(blanks.size() + field.key.size() + 2)) {
      out.Cut();
      break;
    }
    out.Raw(blanks);
    blanks = " ";
    out.Escaped(field.key, Quoting::kBare);
    out.Raw("=");
    if (NeedsQuotes(field.value)) {
      out.Raw("\"");
      out.Escaped(field.value, Quoting::kQuoted);
      out.Close("\"");
    } else {
      out.Escaped(field.value, Quoting::kBare);
    }
  }
  const bool cut = out.cut();
  std::string text = out.Take();
  if (cut) text += kCutMark;
  return text + repeated + "\n";
}

std::string DaemonLine(const Line& line) {
  constexpr std::string_view kCutMark = " [cut]";
  const std::string repeated =
      line.repeated > 0 ? " (and " + std::to_string(line.repeated) + " more like it before)"
                        : std::string();
  LineBuilder out(kCutMark.size() + repeated.size() + 1);
  out.Raw(LocalTimestamp(std::time(nullptr)));
  out.Raw(" [");
  out.Raw(kDaemonLevels[static_cast<size_t>(line.level)]);
  out.Raw("] ");
  out.Escaped(line.message, Quoting::kBare);
  const bool cut = out.cut();
  std::string text = out.Take();
  if (cut) text += kCutMark;
  return text + repeated + "\n";
}

std::string JsonLine(const Line& line) {
  constexpr std::string_view kCutMark = ",\"cut\":true";
  const std::string repeated =
      line.repeated > 0 ? ",\"repeated\":" + std::to_string(line.repeated) : std::string();
  // A closing quote, the marks, the brace and the LF.
  LineBuilder out(1 + kCutMark.size() + repeated.size() + 2);
  const auto member = [&](std::string_view key, std::string_view value, bool bare) {
    if (!out.Fits(key.size() * 6 + 5 + (bare ? value.size() : 0))) {
      out.Cut();
      return;
    }
    out.Raw(",\"");
    out.Escaped(key, Quoting::kJson);
    if (bare) {
      out.Raw("\":");
      out.Raw(value);
      return;
    }
    out.Raw("\":\"");
    out.Escaped(value, Quoting::kJson);
    out.Close("\"");
  };
  out.Raw("{\"time\":\"");
  out.Raw(Timestamp(std::chrono::system_clock::now()));
  out.Raw("\"");
  member("level", kLevelNames[static_cast<size_t>(line.level)], false);
  member("event", line.event, false);
  member("message", line.message, false);
  for (const LogField& field : line.fields) member(field.key, field.value, IsBareJson(field));
  const bool cut = out.cut();
  std::string text = out.Take();
  if (cut) text += kCutMark;
  return text + repeated + "}\n";
}

// Counts repeats, so that a flood of one warning becomes one line in ten seconds. Bounded: when too
// many different keys are about, the keys of one event share one entry.
class RepeatTable {
 public:
  // Whether the line is to be written, one of `burst` in ten seconds; then `*repeated` says how many before it
  // were not.
  bool Admit(std::string_view event, std::string_view key, int burst, Time now,
             uint64_t* repeated) {
    Entry& entry = Find(event, key, now);
    if (entry.told != kTimeNever && now - entry.told < kRepeatWindow) {
      if (entry.written >= burst) {
        ++entry.repeated;
        return false;
      }
    } else {
      entry.told = now;
      entry.written = 0;
    }
    ++entry.written;
    *repeated = std::exchange(entry.repeated, 0);
    return true;
  }

 private:
  struct Entry {
    Time told = kTimeNever;  // when the present ten seconds began
    int written = 0;         // lines in them
    uint64_t repeated = 0;
  };
  using Key = std::pair<std::string, std::string>;

  Entry& Find(std::string_view event, std::string_view key, Time now) {
    if (!key.empty()) {
      Key name(event, key);
      if (const auto found = keys_.find(name); found != keys_.end()) return found->second;
      if (keys_.size() >= kKeyEntriesMax) ForgetOldKeys(now);
      if (keys_.size() < kKeyEntriesMax) return keys_[std::move(name)];
    }
    std::string name(event);
    if (events_.size() >= kEventEntriesMax && events_.find(name) == events_.end()) {
      events_.erase(std::min_element(
          events_.begin(), events_.end(),
          [](const auto& a, const auto& b) { return a.second.told < b.second.told; }));
    }
    return events_[std::move(name)];
  }

  // What was counted under a forgotten key is told with the event's next line.
  void ForgetOldKeys(Time now) {
    for (auto it = keys_.begin(); it != keys_.end();) {
      if (now - it->second.told < kRepeatWindow) {
        ++it;
        continue;
      }
      const auto event = events_.find(it->first.first);
      if (event != events_.end()) event->second.repeated += it->second.repeated;
      it = keys_.erase(it);
    }
  }

  std::map<Key, Entry> keys_;
  std::map<std::string, Entry> events_;
};

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(std::string_view text) {
  for (size_t i = 0; i < kLevelNames.size(); ++i) {
    if (text == kLevelNames[i]) return static_cast<LogLevel>(i);
  }
  return absl::InvalidArgumentError("expected debug, info, warn or error");
}

std::string_view LogLevelName(LogLevel level) noexcept {
  return kLevelNames[static_cast<size_t>(level)];
}

class Log::Impl {
 public:
  explicit Impl(Options options) : options_(std::move(options)), level_(options_.level) {}

  absl::Status Open() {
    if (options_.path.empty() || options_.path == "-") {
      fd_ = options_.path.empty() ? STDERR_FILENO : STDOUT_FILENO;
      return absl::OkStatus();
    }
    is_file_ = true;
    return OpenFile();
  }

  absl::Status Reopen() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return is_file_ ? OpenFile() : absl::OkStatus();
  }

  void KeepIn(std::string* lines, std::function<Time()> now) {
    kept_ = lines;
    if (now) now_ = std::move(now);
  }

  [[nodiscard]] bool Enabled(LogLevel level) const noexcept {
    return level >= level_.load(std::memory_order_relaxed);
  }
  void SetLevel(LogLevel level) noexcept { level_.store(level, std::memory_order_relaxed); }

  void Write(LogLevel level, std::string_view event, std::string_view message,
             const std::initializer_list<LogField>& fields) {
    std::string_view key;
    for (const LogField& field : fields) {
      if (field.key == "key") key = field.value;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    uint64_t repeated = 0;
    if (level >= LogLevel::kWarn &&
        !repeats_.Admit(event, key, options_.burst, now_(), &repeated)) {
      return;
    }
    const Line line{level, event, message, fields, repeated};
    Put(Text(line));
  }

 private:
  [[nodiscard]] std::string Text(const Line& line) const {
    switch (options_.format) {
      case LogFormat::kText:
        return TextLine(line, options_.colour, options_.over_status_line);
      case LogFormat::kJson:
        return JsonLine(line);
      case LogFormat::kDaemon:
        return DaemonLine(line);
    }
    return "";
  }

  // The descriptor in use changes only when the new file is open.
  absl::Status OpenFile() {
    const std::filesystem::path path(options_.path);
    if (std::error_code error; path.has_parent_path()) {
      std::filesystem::create_directories(path.parent_path(), error);  // open tells what is wrong
    }
    // What reads the X-Ray daemon's log runs as another user.
    const mode_t mode = options_.format == LogFormat::kDaemon ? 0644 : 0640;
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, mode));
    if (!fd.valid()) {
      return absl::ErrnoToStatus(errno, "cannot open the log file " + options_.path);
    }
    struct stat info {};
    regular_ = ::fstat(fd.get(), &info) == 0 && S_ISREG(info.st_mode);
    size_ = regular_ ? static_cast<uint64_t>(info.st_size) : 0;
    owned_ = std::move(fd);
    fd_ = owned_.get();
    return absl::OkStatus();
  }

  void Rotate() {
    const auto name = [this](int number) {
      return number == 0 ? options_.path : options_.path + "." + std::to_string(number);
    };
    for (int i = options_.rotate_keep - 1; i >= 0; --i) {
      if (::rename(name(i).c_str(), name(i + 1).c_str()) != 0 && errno != ENOENT) break;
    }
    // After an error this is the old file again, and the next try one more size away.
    if (const bool opened = OpenFile().ok(); !opened || size_ >= options_.rotate_size) size_ = 0;
  }

  void Put(const std::string& line) noexcept {
    if (kept_ != nullptr) {
      kept_->append(line);
      return;
    }
    if (options_.rotate_size > 0 && regular_ && size_ > 0 &&
        size_ + line.size() > options_.rotate_size) {
      Rotate();
    }
    size_ += line.size();
    pollfd ready{fd_, POLLOUT, 0};
    // POLLERR is a pipe nobody reads any more: writing to it would raise SIGPIPE.
    if (::poll(&ready, 1, 0) != 1 || ready.revents != POLLOUT) return;
    size_t done = 0;
    while (done < line.size()) {
      const ssize_t n = ::write(fd_, line.data() + done, line.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;
      done += static_cast<size_t>(n);
    }
  }

  const Options options_;
  std::atomic<LogLevel> level_;
  UniqueFd owned_;
  int fd_ = -1;
  bool is_file_ = false;
  bool regular_ = false;
  uint64_t size_ = 0;  // of the open file
  std::string* kept_ = nullptr;
  std::function<Time()> now_ = [] { return std::chrono::steady_clock::now(); };
  std::mutex mutex_;  // guards repeats_, the open file and the order of writes
  RepeatTable repeats_;
};

Log::Log(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Log::~Log() = default;

absl::StatusOr<std::unique_ptr<Log>> Log::Open(const Options& options) {
  auto impl = std::make_unique<Impl>(options);
  RETURN_IF_ERROR(impl->Open());
  return std::unique_ptr<Log>(new Log(std::move(impl)));
}

std::unique_ptr<Log> Log::ForTesting(std::string* lines) {
  Options options;
  options.level = LogLevel::kDebug;
  return ForTesting(lines, options, {});
}

std::unique_ptr<Log> Log::ForTesting(std::string* lines, const Options& options,
                                     std::function<Time()> now) {
  auto impl = std::make_unique<Impl>(options);
  impl->KeepIn(lines, std::move(now));
  return std::unique_ptr<Log>(new Log(std::move(impl)));
}

absl::Status Log::Reopen() { return impl_->Reopen(); }

void Log::SetLevel(LogLevel level) noexcept { impl_->SetLevel(level); }
bool Log::Enabled(LogLevel level) const noexcept { return impl_->Enabled(level); }

void Log::Write(LogLevel level, std::string_view event, std::string_view message,
                std::initializer_list<LogField> fields) {
  if (!impl_->Enabled(level)) return;
  impl_->Write(level, event, message, fields);
}

}  // namespace mobula
