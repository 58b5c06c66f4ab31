// Tested by tests/unit/engine/app/spool_command_test.cc and tests/e2e/spool_command_test.py.
#include "engine/app/spool_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "engine/app/progress_bar.h"
#include "engine/app/signals.h"
#include "engine/base/printable.h"
#include "engine/base/status_macros.h"
#include "engine/config/shown.h"
#include "engine/segment/json_quote.h"
#include "engine/spool/spool_home.h"

namespace mobula {
namespace {

constexpr std::string_view kUnreadable = "unreadable";

Time Now() { return std::chrono::steady_clock::now(); }

// Names and messages may hold what others chose.
std::string Line(std::string_view text) { return Shown(text, 1000); }
std::string Line(const absl::Status& status) {
  return Line(std::string_view(status.message().data(), status.message().size()));
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "mobula spool: %s\n", PrintableLines(std::string(status.message())).c_str());
  return 1;
}

std::string_view StateOf(const SpoolFileInfo& file) {
  // What an agent would set aside.
  if (absl::IsDataLoss(file.header)) return "damaged";
  if (!file.header.ok()) return kUnreadable;
  switch (file.kind) {
    case SpoolFileInfo::Kind::kReady:
      return "ready";
    case SpoolFileInfo::Kind::kForeign:
      return "foreign";
    case SpoolFileInfo::Kind::kDamaged:
      return "damaged";
  }
  return "";
}

std::string_view ColourOf(std::string_view state) {
  if (state == "ready") return "\x1b[32m";
  return state == "foreign" ? "\x1b[33m" : "\x1b[31m";
}

std::string Count(uint64_t n, std::string_view noun) {
  return fmt::format("{} {}{}", Grouped(n), noun, n == 1 ? "" : "s");
}

// Files that are told in one line.
struct Group {
  std::string backend;  // empty: unknown
  std::string instance;
  std::string_view state;
  bool in_use = false;
  uint64_t documents = 0;
  uint64_t bytes = 0;
  SystemTime oldest = SystemTime::max();
  SystemTime newest = SystemTime::min();
  std::vector<std::string> files;

  [[nodiscard]] bool known() const { return !backend.empty(); }
};

std::vector<Group> GroupsOf(const std::vector<SpoolFileInfo>& files) {
  std::map<std::tuple<std::string, std::string, std::string_view>, Group> groups;
  for (const SpoolFileInfo& file : files) {
    Group& group = groups[{file.backend, file.instance, StateOf(file)}];
    group.backend = file.backend;
    group.instance = file.instance;
    group.state = StateOf(file);
    group.in_use = file.in_use;
    group.documents += file.remaining;
    group.bytes += file.bytes;
    group.oldest = std::min(group.oldest, file.created);
    group.newest = std::max(group.newest, file.newest);
    group.files.push_back(file.path);
  }
  std::vector<Group> list;
  list.reserve(groups.size());
  for (auto& [key, group] : groups) list.push_back(std::move(group));
  return list;
}

double SecondsSince(SystemTime then, SystemTime now) {
  return std::max(0.0, std::chrono::duration<double>(now - then).count());
}

uint64_t Sum(const std::vector<SpoolFileInfo>& files, uint64_t SpoolFileInfo::*member) {
  uint64_t sum = 0;
  for (const SpoolFileInfo& file : files) sum += file.*member;
  return sum;
}

}  // namespace

absl::StatusOr<std::string> SpoolPath(const std::string& path, const ConfigInput& config) {
  std::string found = path;
  if (found.empty()) {
    const absl::StatusOr<Config> loaded = LoadConfig(config);
    if (!loaded.ok()) {
      return absl::InvalidArgumentError(
          fmt::format("which spool? Say its PATH, or give a configuration that can be read:\n{}",
                      std::string(loaded.status().message())));
    }
    found = loaded->buffer.spool.path;
    if (found.empty()) {
      return absl::InvalidArgumentError(
          "the configuration has no buffer.spool.path: say which spool with PATH");
    }
  }
  while (found.size() > 1 && found.ends_with('/')) found.pop_back();
  return found;
}

absl::StatusOr<std::vector<SpoolFileInfo>> SpoolFilesAt(const std::string& path) {
  SpoolDisk* const disk = PosixSpoolDisk();
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    ASSIGN_OR_RETURN(const SpoolFileInfo file, InspectSpoolFile(path, SpoolCheck::kHeaders, disk));
    return std::vector<SpoolFileInfo>{file};
  }
  const size_t slash = path.rfind('/');
  const std::string name = path.substr(slash == std::string::npos ? 0 : slash + 1);
  if (!SpoolHome::IsInstanceName(name)) return ListSpool(path, SpoolCheck::kHeaders, disk);
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash);
  ASSIGN_OR_RETURN(std::vector<SpoolFileInfo> files,
                   ListSpool(parent.empty() ? "/" : parent, SpoolCheck::kHeaders, disk));
  files.erase(std::remove_if(files.begin(), files.end(),
                             [&](const SpoolFileInfo& file) { return file.instance != name; }),
              files.end());
  return files;
}

// --- ls ---

std::string SpoolTable(const std::vector<SpoolFileInfo>& files, SystemTime now, bool colour) {
  constexpr size_t kColumns = 8;
  constexpr size_t kState = 1;
  using Row = std::array<std::string, kColumns>;
  // Those that are read as numbers stand to the right.
  constexpr std::string_view kAlign = "<<>>>>><";
  std::vector<Row> rows = {
      {"BACKEND", "STATE", "DOCUMENTS", "SIZE", "FILES", "OLDEST", "NEWEST", "INSTANCE"}};
  for (const Group& group : GroupsOf(files)) {
    const auto known = [&](std::string text) { return group.known() ? std::move(text) : "?"; };
    rows.push_back({known(Line(group.backend)), std::string(group.state),
                    known(Grouped(group.documents)), BytesText(group.bytes),
                    Grouped(group.files.size()), known(SpanText(SecondsSince(group.oldest, now))),
                    known(SpanText(SecondsSince(group.newest, now))),
                    Line(group.instance) + (group.in_use ? " (in use)" : "")});
  }
  std::array<size_t, kColumns> widths{};
  for (const Row& row : rows) {
    for (size_t i = 0; i < kColumns; ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    for (size_t i = 0; i < kColumns; ++i) {
      const bool coloured = colour && i == kState && &row != rows.data();
      const std::string padding(widths[i] - row[i].size(), ' ');
      if (kAlign[i] == '>') text += padding;
      text += coloured ? fmt::format("{}{}\x1b[0m", ColourOf(row[i]), row[i]) : row[i];
      if (kAlign[i] == '<' && i + 1 < kColumns) text += padding;
      text += i + 1 < kColumns ? "  " : "\n";
    }
  }
  return text;
}

std::string SpoolListJson(const std::vector<SpoolFileInfo>& files, SystemTime now) {
  std::string groups;
  for (const Group& group : GroupsOf(files)) {
    const auto known = [&](std::string text) { return group.known() ? std::move(text) : "null"; };
    const auto age = [&](SystemTime then) {
      return known(fmt::format("{:.3f}", SecondsSince(then, now)));
    };
    std::string paths;
    for (const std::string& path : group.files) {
      paths += (paths.empty() ? "" : ",") + JsonQuote(path);
    }
    groups += fmt::format(
        "{}{{\"backend\":{},\"instance\":{},\"in_use\":{},\"state\":\"{}\",\"documents\":{},"
        "\"bytes\":{},\"oldest_s\":{},\"newest_s\":{},\"files\":[{}]}}",
        groups.empty() ? "" : ",", known(JsonQuote(group.backend)), JsonQuote(group.instance),
        group.in_use, group.state, known(std::to_string(group.documents)), group.bytes,
        age(group.oldest), age(group.newest), paths);
  }
  return fmt::format("{{\"documents\":{},\"bytes\":{},\"groups\":[{}]}}\n",
                     Sum(files, &SpoolFileInfo::remaining), Sum(files, &SpoolFileInfo::bytes),
                     groups);
}

int SpoolListCommand(const std::string& path, OutputForm form) {
  const absl::StatusOr<std::vector<SpoolFileInfo>> files = SpoolFilesAt(path);
  if (!files.ok()) return Fail(files.status());
  const SystemTime now = std::chrono::system_clock::now();
  const std::string text = IsJson(form)     ? SpoolListJson(*files, now)
                           : files->empty() ? fmt::format("nothing waits in {}\n", path)
                                            : SpoolTable(*files, now, HasColour());
  std::fputs(text.c_str(), stdout);
  return 0;
}

// --- verify ---

namespace {

// Reads all of a file; what was found replaces *file.
void Verify(SpoolFileInfo* file, const std::function<void()>& step) {
  absl::StatusOr<std::unique_ptr<SpoolScan>> scan = SpoolScan::Open(file->path, PosixSpoolDisk());
  if (!scan.ok()) {
    file->header = scan.status();
    return;
  }
  absl::Status status;
  for (bool more = true; more; step()) {
    const absl::StatusOr<std::optional<SpooledFrame>> frame = (*scan)->Next();
    status = frame.status();
    more = frame.ok() && frame->has_value();
  }
  SpoolFileInfo found = (*scan)->info();
  found.instance = file->instance;
  found.in_use = file->in_use;
  found.header = status;
  *file = std::move(found);
}

std::string WhatCanBeDone(const SpoolFileInfo& file) {
  if (absl::IsUnimplemented(file.header)) return "a newer version of mobula wrote it and reads it";
  if (absl::IsPermissionDenied(file.header))
    return "look as the user the agent runs as, or as root";
  if (absl::IsDataLoss(file.header)) {
    return "without its header nobody can tell whose documents these are; it can be removed";
  }
  if (!file.header.ok()) return "the disk may be failing";
  if (file.kind == SpoolFileInfo::Kind::kReady) {
    return "an agent sends what can be read of it and then keeps it as .spool.damaged";
  }
  return "mobula spool replay sends what can be read of it; then it can be removed";
}

std::string VerifyText(const std::vector<SpoolFileInfo>& files, bool colour) {
  std::string text;
  uint64_t damaged = 0;
  for (const SpoolFileInfo& file : files) {
    if (file.sound()) continue;
    ++damaged;
    text +=
        fmt::format("{}{}{}\n", colour ? "\x1b[31m" : "", Line(file.path), colour ? "\x1b[0m" : "");
    if (!file.header.ok()) text += fmt::format("  {}\n", Line(file.header));
    for (const SpoolDamage& damage : file.damage) {
      text += damage.documents == 0
                  ? fmt::format("  at {}: {} bytes are no frame\n", damage.offset, damage.bytes)
                  : fmt::format("  at {}: the content of a frame of {} bytes is damaged, {} lost\n",
                                damage.offset, damage.bytes, Count(damage.documents, "document"));
    }
    const uint64_t places = file.gaps + file.damaged_frames;
    if (places > file.damage.size()) {
      text += fmt::format("  and {} more places\n", places - file.damage.size());
    }
    if (file.header.ok()) {
      text += fmt::format("  {} still to be sent can be read\n", Count(file.remaining, "document"));
    }
    text += fmt::format("  -> {}\n", WhatCanBeDone(file));
  }
  return text + fmt::format("{}, {}: {} to be sent, {}\n", Count(files.size(), "file"),
                            BytesText(Sum(files, &SpoolFileInfo::bytes)),
                            Count(Sum(files, &SpoolFileInfo::remaining), "document"),
                            damaged == 0 ? "nothing damaged"
                                         : Count(damaged, "file") + " damaged or unreadable");
}

std::string VerifyJson(const std::vector<SpoolFileInfo>& files) {
  std::string damaged;
  for (const SpoolFileInfo& file : files) {
    if (file.sound()) continue;
    std::string places;
    for (const SpoolDamage& damage : file.damage) {
      places += fmt::format("{}{{\"offset\":{},\"bytes\":{},\"documents\":{}}}",
                            places.empty() ? "" : ",", damage.offset, damage.bytes,
                            damage.documents == 0 ? "null" : std::to_string(damage.documents));
    }
    damaged += fmt::format(
        "{}{{\"path\":{},\"backend\":{},\"state\":\"{}\",\"why\":{},\"readable\":{},\"places\":[{}]"
        ","
        "\"more\":{}}}",
        damaged.empty() ? "" : ",", JsonQuote(file.path),
        file.backend.empty() ? "null" : JsonQuote(file.backend), StateOf(file),
        file.header.ok() ? "null" : JsonQuote(Line(file.header)), file.remaining, places,
        file.gaps + file.damaged_frames - file.damage.size());
  }
  return fmt::format("{{\"ok\":{},\"files\":{},\"bytes\":{},\"documents\":{},\"damaged\":[{}]}}\n",
                     damaged.empty(), files.size(), Sum(files, &SpoolFileInfo::bytes),
                     Sum(files, &SpoolFileInfo::remaining), damaged);
}

}  // namespace

int SpoolVerifyCommand(const std::string& path, OutputForm form) {
  absl::StatusOr<std::vector<SpoolFileInfo>> files = SpoolFilesAt(path);
  if (!files.ok()) return Fail(files.status());
  {
    ProgressBar progress(STDERR_FILENO);
    const uint64_t total = Sum(*files, &SpoolFileInfo::frames);
    uint64_t done = 0;
    for (SpoolFileInfo& file : *files) {
      if (file.header.ok()) Verify(&file, [&] { progress.Update(++done, total, Now()); });
    }
  }
  // Sent and removed since it was listed.
  files->erase(std::remove_if(files->begin(), files->end(),
                              [](const auto& file) { return absl::IsNotFound(file.header); }),
               files->end());
  const std::string text = IsJson(form) ? VerifyJson(*files) : VerifyText(*files, HasColour());
  std::fputs(text.c_str(), stdout);
  return std::all_of(files->begin(), files->end(), [](const auto& file) { return file.sound(); })
             ? 0
             : 1;
}

// --- replay ---

namespace {

class SpoolSource final : public DatagramSource {
 public:
  SpoolSource(const std::vector<SpoolFileInfo>& files, InputStream::StopCheck stop)
      : files_(files), stop_(std::move(stop)) {}

  [[nodiscard]] uint64_t total() const override { return Sum(files_, &SpoolFileInfo::remaining); }

  absl::StatusOr<bool> Next(std::string* datagram) override {
    for (;;) {
      absl::StatusOr<std::optional<InputDocument>> document = FromOpenFile();
      if (absl::IsCancelled(document.status())) return document.status();
      if (document.ok() && document->has_value()) {
        MakeDatagram(**document, datagram);
        return true;
      }
      // The others are sent all the same.
      if (!document.ok()) failed_.push_back(Line(document.status()));
      reader_.reset();
      if (next_ == files_.size()) return false;
      absl::StatusOr<std::unique_ptr<DocumentReader>> reader =
          DocumentReader::Open({files_[next_++].path}, stop_);
      if (reader.ok()) {
        reader_ = *std::move(reader);
      } else {
        failed_.push_back(Line(reader.status()));
      }
    }
  }

  // What could not be read, and why.
  [[nodiscard]] const std::vector<std::string>& failed() const { return failed_; }

 private:
  absl::StatusOr<std::optional<InputDocument>> FromOpenFile() {
    if (reader_ == nullptr) return std::nullopt;
    return reader_->Next();
  }

  const std::vector<SpoolFileInfo>& files_;
  const InputStream::StopCheck stop_;
  size_t next_ = 0;
  std::unique_ptr<DocumentReader> reader_;
  std::vector<std::string> failed_;
};

absl::StatusOr<std::vector<SpoolFileInfo>> FilesToReplay(const SpoolReplayOptions& options) {
  std::vector<SpoolFileInfo> chosen;
  std::set<std::string> paths;
  uint64_t in_use = 0;
  for (const std::string& path : options.paths) {
    ASSIGN_OR_RETURN(const std::vector<SpoolFileInfo> files, SpoolFilesAt(path));
    for (const SpoolFileInfo& file : files) {
      const bool ready = file.kind == SpoolFileInfo::Kind::kReady;
      if (options.set_aside && ready) continue;
      if (!options.backend.empty() && file.header.ok() && file.backend != options.backend) continue;
      if (!paths.insert(file.path).second) continue;
      if (ready && file.in_use) ++in_use;
      chosen.push_back(file);
    }
  }
  if (in_use > 0 && !options.in_use) {
    return absl::FailedPreconditionError(fmt::format(
        "a running agent holds {} here and sends what is in them itself: --set-aside leaves them "
        "out, --in-use sends it too, and it arrives twice",
        Count(in_use, "file")));
  }
  return chosen;
}

}  // namespace

int SpoolReplayCommand(const SpoolReplayOptions& options, OutputForm form) {
  const absl::StatusOr<std::vector<SpoolFileInfo>> files = FilesToReplay(options);
  if (!files.ok()) return Fail(files.status());
  const Signals signals;
  const SendWait wait = [&](Time until) {
    return signals.Next(std::max(Duration::zero(), until - Now())) != 0;
  };
  SpoolSource source(*files, [&] { return wait(Now()); });
  absl::StatusOr<SendResult> result = absl::UnknownError("");
  {
    ProgressBar progress(STDERR_FILENO);
    result = RunSend(options.to, options.rate, &source, &progress, wait);
  }
  if (!result.ok()) return Fail(result.status());
  std::string text;
  if (IsJson(form)) {
    std::string failed;
    for (const std::string& why : source.failed()) {
      failed += (failed.empty() ? "" : ",") + JsonQuote(why);
    }
    text = fmt::format("{{\"files\":{},\"documents\":{},\"failed\":[{}],\"send\":{}}}",
                       files->size(), source.total(), failed, SendResultJson(*result));
  } else {
    text = fmt::format("{}: {}", Count(files->size(), "file"), SendResultText(*result, options.to));
    for (const std::string& why : source.failed()) text += "\nnot sent: " + why;
    if (result->sent > 0) {
      text +=
          "\nThe files stay as they are: datagrams have no receipt. Remove them once the agent's "
          "ledger has "
          "the documents.";
    }
  }
  std::printf("%s\n", text.c_str());
  const bool whole = result->errors.empty() && result->sent == result->offered;
  return whole && source.failed().empty() && !result->stopped ? 0 : 1;
}

}  // namespace mobula
