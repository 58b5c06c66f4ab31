// Tested by tests/unit/backends/file/dead_letter_file_test.cc.
#include "backends/file/dead_letter_file.h"

#include <fmt/format.h>

#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

// Well-formed UTF-8 by the table of RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
bool IsUtf8(std::string_view text) noexcept {
  size_t i = 0;
  const auto in = [&](size_t at, unsigned low, unsigned high) {
    return at < text.size() && static_cast<unsigned char>(text[at]) >= low &&
           static_cast<unsigned char>(text[at]) <= high;
  };
  while (i < text.size()) {
    const unsigned first = static_cast<unsigned char>(text[i]);
    if (first < 0x80) {
      ++i;
      continue;
    }
    const unsigned second_low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const unsigned second_high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    const size_t bytes = in(i, 0xc2, 0xdf) ? 2 : in(i, 0xe0, 0xef) ? 3 : in(i, 0xf0, 0xf4) ? 4 : 0;
    if (bytes == 0 || !in(i + 1, second_low, second_high)) return false;
    for (size_t k = 2; k < bytes; ++k) {
      if (!in(i + k, 0x80, 0xbf)) return false;
    }
    i += bytes;
  }
  return true;
}

// REQUIRES: `text` is UTF-8.
void AppendJsonString(std::string_view text, std::string* out) {
  out->push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      fmt::format_to(std::back_inserter(*out), "\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out->push_back(c);
    }
  }
  out->push_back('"');
}

// `text` as a JSON string, what is no UTF-8 in base64.
std::string_view AppendText(std::string_view text, std::string* out) {
  if (IsUtf8(text)) {
    AppendJsonString(text, out);
    return "text";
  }
  AppendJsonString(absl::Base64Escape(absl::string_view(text.data(), text.size())), out);
  return "base64";
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeadLetterFile>> DeadLetterFile::Open(const DeadLetterConfig& config,
                                                                     Log* log) {
  CHECK(!config.path.empty());
  AppendFile::Options options;
  options.path = config.path;
  options.mode = 0600;
  options.rotate_size = config.size;
  options.rotate_keep = 1;
  AppendFile file(std::move(options), log);
  RETURN_IF_ERROR(file.Open());
  return std::unique_ptr<DeadLetterFile>(new DeadLetterFile(std::move(file), log));
}

void DeadLetterFile::Write(std::string_view reason, std::string_view backend, std::string_view code,
                           std::string_view document) {
  std::string quoted;
  const std::string_view encoding = AppendText(document, &quoted);
  std::string line =
      absl::FormatTime("{\"time\":\"%Y-%m-%dT%H:%M:%E3SZ\"", absl::Now(), absl::UTCTimeZone());
  for (const auto& [key, value] :
       {std::pair("reason", reason), {"backend", backend}, {"code", code}}) {
    line.append(fmt::format(",\"{}\":", key));
    AppendText(value, &line);
  }
  line.append(fmt::format(",\"encoding\":\"{}\",\"document\":", encoding))
      .append(quoted)
      .append("}\n");

  absl::Status written;
  {
    const MutexLock lock(&mutex_);
    written = file_.Append(line);
  }
  if (written.ok()) return;
  lost_.fetch_add(1, std::memory_order_relaxed);
  log_->Error(
      "dead_letter_lost", "cannot keep a refused document",
      {{"reason", reason}, {"backend", backend}, {"error", std::string(written.message())}});
}

void DeadLetterFile::Reopen() {
  absl::Status opened;
  {
    const MutexLock lock(&mutex_);
    opened = file_.Reopen();
  }
  if (opened.ok()) return;
  log_->Error("dead_letter_reopen_failed",
              "cannot open the dead-letter file again; the old one stays in use",
              {{"error", std::string(opened.message())}});
}

}  // namespace mobula
