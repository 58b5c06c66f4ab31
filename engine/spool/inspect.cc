// Tested by tests/unit/engine/spool/inspect_test.cc.
#include "engine/spool/inspect.h"

#include <algorithm>
#include <memory>

#include "engine/base/status_macros.h"
#include "engine/spool/spool_home.h"
#include "engine/spool/spool_reader.h"

namespace mobula {
namespace {

using Take = std::function<void(const SpooledFrame&)>;

// Null `take`: headers only.
absl::Status Walk(SpoolFile* file, const SpoolFileHeader& header, SpoolFileInfo* info,
                  const Take* take) {
  SpoolReader reader(file, header.id, info->bytes);
  SpoolDecoder decoder;
  std::string stored;
  for (;;) {
    ASSIGN_OR_RETURN(const SpoolReader::Step step, reader.Next());
    switch (step.found) {
      case SpoolReader::Found::kEnd:
        return absl::OkStatus();
      case SpoolReader::Found::kTail:
        info->torn_bytes = step.end - step.begin;
        return absl::OkStatus();
      case SpoolReader::Found::kGap:
        ++info->gaps;
        continue;
      case SpoolReader::Found::kFrame:
        break;
    }
    ++info->frames;
    info->documents += step.header.documents;
    info->remaining += static_cast<uint64_t>(Count(step.header.remaining));
    info->newest = std::max(info->newest, step.header.appended);
    if (take == nullptr) continue;
    SpooledFrame frame;
    if (!ReadPayload(file, step, &stored).ok() || !decoder.Decode(step.header, stored, &frame)) {
      ++info->damaged_frames;
    } else {
      (*take)(frame);
    }
  }
}

SpoolFileInfo Inspect(SpoolDir* dir, const SpoolDirEntry& entry, const Take* take) {
  SpoolFileInfo info;
  info.path = dir->path() + "/" + entry.name;
  info.bytes = entry.bytes;
  info.kind = entry.name.ends_with(".foreign")   ? SpoolFileInfo::Kind::kForeign
              : entry.name.ends_with(".damaged") ? SpoolFileInfo::Kind::kDamaged
                                                 : SpoolFileInfo::Kind::kReady;
  info.header = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::unique_ptr<SpoolFile> file,
                     dir->Open(entry.name, SpoolAccess::kRead));
    char bytes[kSpoolFileHeaderBytes];
    ASSIGN_OR_RETURN(const size_t n, file->Read(0, bytes, sizeof(bytes)));
    ASSIGN_OR_RETURN(const SpoolFileHeader header, DecodeFileHeader({bytes, n}));
    info.backend = header.backend;
    info.identity = header.identity;
    info.created = info.newest = header.created;
    return Walk(file.get(), header, &info, take);
  }();
  return info;
}

bool IsSpoolFile(const SpoolDirEntry& entry) {
  return !entry.directory && entry.name.find(".spool") != std::string::npos;
}

}  // namespace

absl::StatusOr<std::vector<SpoolFileInfo>> ListSpool(const std::string& path, SpoolCheck check,
                                                     SpoolDisk* disk) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SpoolDir> root, disk->OpenRoot(path, SpoolAccess::kRead));
  ASSIGN_OR_RETURN(const std::vector<SpoolDirEntry> instances, root->List());
  const Take nothing = [](const SpooledFrame&) {};
  std::vector<SpoolFileInfo> found;
  for (const SpoolDirEntry& instance : instances) {
    if (!instance.directory || !SpoolHome::IsInstanceName(instance.name)) continue;
    // One that an agent has just removed holds nothing any more.
    const absl::StatusOr<std::unique_ptr<SpoolDir>> dir = root->OpenDir(instance.name);
    if (absl::IsNotFound(dir.status())) continue;
    RETURN_IF_ERROR(dir.status());
    ASSIGN_OR_RETURN(const std::vector<SpoolDirEntry> entries, (*dir)->List());
    const bool in_use = (*dir)->Locked();
    for (const SpoolDirEntry& entry : entries) {
      if (!IsSpoolFile(entry)) continue;
      SpoolFileInfo info =
          Inspect(dir->get(), entry, check == SpoolCheck::kContents ? &nothing : nullptr);
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

absl::StatusOr<SpoolFileInfo> ReadSpoolFile(const std::string& path, SpoolDisk* disk,
                                            const Take& take) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "."
                             : slash == 0               ? "/"
                                                        : path.substr(0, slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  ASSIGN_OR_RETURN(const std::unique_ptr<SpoolDir> dir, disk->OpenRoot(folder, SpoolAccess::kRead));
  ASSIGN_OR_RETURN(const std::vector<SpoolDirEntry> entries, dir->List());
  for (const SpoolDirEntry& entry : entries) {
    if (entry.name != name || entry.directory) continue;
    SpoolFileInfo info = Inspect(dir.get(), entry, &take);
    RETURN_IF_ERROR(info.header);
    return info;
  }
  return absl::NotFoundError(path + ": no such file");
}

}  // namespace mobula
