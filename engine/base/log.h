// The log: one line per event, as text on a terminal or JSON for machines.
//
// Room:      warm and cold. Hot code never logs; it counts, and the control thread tells.
// Threads:   any; lines of different threads never mix.
// Limits:    a line is at most 4,096 bytes; control bytes and invalid UTF-8 of every value are escaped, so
//            nothing foreign can forge a line. Repeats of one event (same `event` and same `key` field)
//            within 10 s, beyond Options::burst, are counted and told as `repeated=N` on the next line of that event.
// Errors:    a line that cannot be written is dropped: logging never blocks or ends the program. A file that
//            cannot be rotated keeps growing.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/base/time.h"

namespace mobula {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarn, kError };
// kDaemon: `2006-01-02T15:04:05Z07:00 [Level] message`, the X-Ray daemon's, in local time and without fields.
enum class LogFormat : uint8_t { kText, kJson, kDaemon };

// "debug" | "info" | "warn" | "error".
absl::StatusOr<LogLevel> ParseLogLevel(std::string_view text);
std::string_view LogLevelName(LogLevel level) noexcept;

// One named value of a line.
struct LogField {
  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(v) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(v) {}
  LogField(std::string_view k, uint64_t v) : key(k), value(std::to_string(v)), number(true) {}
  LogField(std::string_view k, int64_t v) : key(k), value(std::to_string(v)), number(true) {}
  LogField(std::string_view k, int v) : key(k), value(std::to_string(v)), number(true) {}
  LogField(std::string_view k, double v) : key(k), value(std::to_string(v)), number(true) {}

  // A value that is JSON already; the text format shows it as it is.
  static LogField Json(std::string_view k, const std::string& json) {
    LogField field(k, json);
    field.json = true;
    return field;
  }

  std::string_view key;
  std::string value;
  bool number = false;
  bool json = false;
};

class Log {
 public:
  struct Options {
    LogLevel level = LogLevel::kInfo;
    LogFormat format = LogFormat::kText;
    std::string path;  // empty: stderr; "-": stdout; else a file, missing folders are made
    // Bytes at which the file becomes `.1`, `.1` becomes `.2`...; 0: never.
    uint64_t rotate_size = 0;
    int rotate_keep = 1;            // older files kept
    bool colour = false;            // ANSI colours of the level; only set for a terminal
    int burst = 1;                  // lines of one event and key in 10 s; what is more is counted
    bool over_status_line = false;  // each line first erases the terminal's line it is written on
  };

  static absl::StatusOr<std::unique_ptr<Log>> Open(const Options& options);
  // Keeps every line in memory: for tests.
  static std::unique_ptr<Log> ForTesting(std::string* lines);
  // The same with chosen options and, when not empty, `now` as the clock of the rate limit.
  static std::unique_ptr<Log> ForTesting(std::string* lines, const Options& options,
                                         std::function<Time()> now);
  ~Log();

  // `event` is a stable snake_case name, the one the metric and the docs use too; `message` is a sentence
  // for people. Repeats are rate-limited per event and per value of the field named "key", if there is one.
  void Write(LogLevel level, std::string_view event, std::string_view message,
             std::initializer_list<LogField> fields = {});

  void Debug(std::string_view event, std::string_view message,
             std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kDebug, event, message, fields);
  }
  void Info(std::string_view event, std::string_view message,
            std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kInfo, event, message, fields);
  }
  void Warn(std::string_view event, std::string_view message,
            std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kWarn, event, message, fields);
  }
  void Error(std::string_view event, std::string_view message,
             std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kError, event, message, fields);
  }

  // Opens the file again under its name, after somebody renamed it; what is no file stays as it is. On an
  // error the old one stays in use.
  absl::Status Reopen();

  // From the next line on.
  void SetLevel(LogLevel level) noexcept;
  [[nodiscard]] bool Enabled(LogLevel level) const noexcept;

 private:
  class Impl;
  explicit Log(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mobula
