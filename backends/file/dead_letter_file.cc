// Tested by tests/unit/backends/file/dead_letter_file_test.cc.
#include "backends/file/dead_letter_file.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/segment/json_quote.h"
#include "engine/segment/utf8.h"

namespace mobula {
namespace {

// `text` as a JSON string, what is no UTF-8 in base64.
std::string_view AppendText(std::string_view text, std::string* out) {
  if (IsValidUtf8(text)) {
    *out += JsonQuote(text);
    return "text";
  }
  *out += JsonQuote(absl::Base64Escape(absl::string_view(text.data(), text.size())));
  return "base64";
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeadLetterFile>> DeadLetterFile::Open(const DeadLetterConfig& config,
                                                                     Log* log,
                                                                     OtherWriter other_writer) {
  CHECK(!config.path.empty());
  AppendFile::Options options;
  options.path = config.path;
  options.secret = true;
  options.rotate_size = config.size;
  options.rotate_keep = 1;
  AppendFile file(std::move(options), log);
  const absl::Status opened = file.Open();
  const bool had_soon =
      absl::IsFailedPrecondition(opened) && other_writer == OtherWriter::kPredecessor;
  if (!had_soon) RETURN_IF_ERROR(opened);
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
