// Tested by tests/unit/engine/spool/inspect_test.cc.
#include "engine/spool/inspect.h"

#include <algorithm>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/spool/crc32c.h"
#include "engine/spool/spool_home.h"

namespace mobula {
namespace {

constexpr size_t kPlacesMax = 100;

bool IsSpoolFile(const SpoolDirEntry& entry) {
  return !entry.directory && entry.name.find(".spool") != std::string::npos;
}

// What the name and the directory tell.
SpoolFileInfo Outside(const SpoolDir& dir, const SpoolDirEntry& entry) {
  SpoolFileInfo info;
  info.path = dir.path() + "/" + entry.name;
  info.bytes = entry.bytes;
  info.kind = entry.name.ends_with(".foreign")   ? SpoolFileInfo::Kind::kForeign
              : entry.name.ends_with(".damaged") ? SpoolFileInfo::Kind::kDamaged
                                                 : SpoolFileInfo::Kind::kReady;
  return info;
}

// The folder a file lies in, opened, and the file's entry there.
absl::StatusOr<std::pair<std::unique_ptr<SpoolDir>, SpoolDirEntry>> Find(const std::string& path,
                                                                         SpoolDisk* disk) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "."
                             : slash == 0               ? "/"
                                                        : path.substr(0, slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  ASSIGN_OR_RETURN(std::unique_ptr<SpoolDir> dir, disk->OpenRoot(folder, SpoolAccess::kRead));
  ASSIGN_OR_RETURN(const std::vector<SpoolDirEntry> entries, dir->List());
  for (const SpoolDirEntry& entry : entries) {
    if (entry.name == name && !entry.directory) return std::pair(std::move(dir), entry);
  }
  return absl::NotFoundError(path + ": no such file");
}

}  // namespace

SpoolScan::SpoolScan(std::unique_ptr<SpoolFile> file, const SpoolFileHeader& header,
                     SpoolFileInfo info)
    : file_(std::move(file)), info_(std::move(info)), reader_(file_.get(), header.id, info_.bytes) {
  info_.backend = header.backend;
  info_.identity = header.identity;
  info_.created = info_.newest = header.created;
}

absl::StatusOr<std::unique_ptr<SpoolScan>> SpoolScan::Open(SpoolDir* dir,
                                                           const SpoolDirEntry& entry) {
  ASSIGN_OR_RETURN(std::unique_ptr<SpoolFile> file, dir->Open(entry.name, SpoolAccess::kRead));
  char bytes[kSpoolFileHeaderBytes];
  ASSIGN_OR_RETURN(const size_t n, file->Read(0, bytes, sizeof(bytes)));
  if (IsUnwrittenHeader({bytes, n})) return absl::NotFoundError("nothing was written to it");
  ASSIGN_OR_RETURN(const SpoolFileHeader header, DecodeFileHeader({bytes, n}));
  return std::unique_ptr<SpoolScan>(new SpoolScan(std::move(file), header, Outside(*dir, entry)));
}

absl::StatusOr<std::unique_ptr<SpoolScan>> SpoolScan::Open(const std::string& path,
                                                           SpoolDisk* disk) {
  ASSIGN_OR_RETURN(const auto found, Find(path, disk));
  return Open(found.first.get(), found.second);
}

void SpoolScan::Count(const SpoolFrameHeader& header) {
  ++info_.frames;
  info_.documents += header.documents;
  info_.remaining += static_cast<uint64_t>(mobula::Count(header.remaining));
  info_.newest = std::max(info_.newest, header.appended);
}

void SpoolScan::AddDamage(const SpoolDamage& damage) {
  ++(damage.documents == 0 ? info_.gaps : info_.damaged_frames);
  if (info_.damage.size() < kPlacesMax) info_.damage.push_back(damage);
}

absl::StatusOr<std::optional<SpooledFrame>> SpoolScan::Next() {
  for (;;) {
    ASSIGN_OR_RETURN(const SpoolReader::Step step, reader_.Next());
    const uint64_t bytes = step.end - step.begin;
    if (step.found == SpoolReader::Found::kEnd || step.found == SpoolReader::Found::kTail) {
      if (bytes > kSpoolFrameBytesMax) {
        AddDamage({step.begin, bytes});
      } else {
        info_.torn_bytes += bytes;
      }
      if (suspect_.has_value()) info_.torn_bytes += std::exchange(suspect_, {})->bytes;
      return std::nullopt;
    }
    if (suspect_.has_value()) AddDamage(*std::exchange(suspect_, {}));
    if (step.found == SpoolReader::Found::kGap) {
      AddDamage({step.begin, bytes});
      continue;
    }
    const absl::Status read = ReadPayload(file_.get(), step, &stored_);
    if (!read.ok() && !absl::IsDataLoss(read)) return read;
    if (!read.ok() || Crc32c(stored_) != step.header.payload_crc) {
      suspect_ = {step.begin, bytes, step.header.documents};
      continue;
    }
    SpooledFrame frame;
    if (!decoder_.Decode(step.header, stored_, &frame)) {
      AddDamage({step.begin, bytes, step.header.documents});
      continue;
    }
    Count(step.header);
    return frame;
  }
}

absl::Status SpoolScan::SkimHeaders() {
  for (;;) {
    ASSIGN_OR_RETURN(const SpoolReader::Step step, reader_.Next());
    const uint64_t bytes = step.end - step.begin;
    switch (step.found) {
      case SpoolReader::Found::kFrame:
        Count(step.header);
        continue;
      case SpoolReader::Found::kTail:
        if (bytes <= kSpoolFrameBytesMax) {
          info_.torn_bytes = bytes;
          continue;
        }
        [[fallthrough]];
      case SpoolReader::Found::kGap:
        AddDamage({step.begin, bytes});
        continue;
      case SpoolReader::Found::kEnd:
        return absl::OkStatus();
    }
  }
}

SpoolFileInfo InspectEntry(SpoolDir* dir, const SpoolDirEntry& entry, SpoolCheck check) {
  SpoolFileInfo info = Outside(*dir, entry);
  const absl::StatusOr<std::unique_ptr<SpoolScan>> scan = SpoolScan::Open(dir, entry);
  info.header = scan.status();
  if (!scan.ok()) return info;
  absl::Status status;
  if (check == SpoolCheck::kHeaders) {
    status = (*scan)->SkimHeaders();
  } else {
    absl::StatusOr<std::optional<SpooledFrame>> frame = (*scan)->Next();
    while (frame.ok() && frame->has_value()) frame = (*scan)->Next();
    status = frame.status();
  }
  info = (*scan)->info();
  info.header = status;
  return info;
}

absl::StatusOr<std::vector<SpoolFileInfo>> ListSpool(const std::string& path, SpoolCheck check,
                                                     SpoolDisk* disk) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SpoolDir> root, disk->OpenRoot(path, SpoolAccess::kRead));
  ASSIGN_OR_RETURN(const std::vector<SpoolDirEntry> instances, root->List());
  std::vector<SpoolFileInfo> found;
  for (const SpoolDirEntry& instance : instances) {
    if (!instance.directory || !SpoolHome::IsInstanceName(instance.name)) continue;
    const absl::StatusOr<std::unique_ptr<SpoolDir>> dir =
        root->OpenDir(instance.name, SpoolAccess::kRead);
    const absl::StatusOr<std::vector<SpoolDirEntry>> entries =
        dir.ok() ? (*dir)->List() : dir.status();
    // One that an agent has just removed holds nothing any more.
    if (absl::IsNotFound(entries.status())) continue;
    if (!entries.ok()) {
      SpoolFileInfo unknown;
      unknown.path = path + "/" + instance.name;
      unknown.instance = instance.name;
      unknown.header = entries.status();
      found.push_back(std::move(unknown));
      continue;
    }
    const bool in_use = (*dir)->Locked();
    for (const SpoolDirEntry& entry : *entries) {
      if (!IsSpoolFile(entry)) continue;
      SpoolFileInfo info = InspectEntry(dir->get(), entry, check);
      // Gone meanwhile, or without a header still.
      if (absl::IsNotFound(info.header)) continue;
      info.instance = instance.name;
      info.in_use = in_use;
      found.push_back(std::move(info));
    }
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  return found;
}

absl::StatusOr<SpoolFileInfo> InspectSpoolFile(const std::string& path, SpoolCheck check,
                                               SpoolDisk* disk) {
  ASSIGN_OR_RETURN(const auto found, Find(path, disk));
  SpoolFileInfo info = InspectEntry(found.first.get(), found.second, check);
  const std::string& folder = found.first->path();
  info.instance = folder.substr(folder.rfind('/') + 1);
  info.in_use = found.first->Locked();
  return info;
}

}  // namespace mobula
