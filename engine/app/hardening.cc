// Tested by tests/e2e/hardening_test.py.
#include "engine/app/hardening.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <variant>
#include <vector>

#include "engine/aws/shared_profile.h"
#include "engine/base/log.h"
#include "engine/base/sanitized.h"
#include "engine/base/status_macros.h"
#include "engine/harden/privileges.h"

namespace mobula {
namespace {

// Where files will be made.
std::vector<NewFolder> FoldersOf(const Config& config) {
  std::vector<NewFolder> folders;
  const auto add_above = [&folders](const std::string& path, mode_t mode = 0750) {
    const size_t slash = path.rfind('/');
    if (slash != std::string::npos && slash > 0) folders.push_back({path.substr(0, slash), mode});
  };
  add_above(config.log.path);
  for (const BackendConfig& backend : config.backends) {
    if (const auto* file = std::get_if<FileBackendConfig>(&backend.settings)) add_above(file->path);
  }
  // Last: a folder that others use too is for the group.
  add_above(config.dead_letter.path, 0700);
  if (!config.buffer.spool.path.empty()) folders.push_back({config.buffer.spool.path, 0700});
  return folders;
}

// Of the shared AWS files; without an xray backend nobody reads them.
SharedProfile::Paths ProfilePaths(const Config& config) {
  const auto is_xray = [](const BackendConfig& backend) {
    return std::holds_alternative<XrayBackendConfig>(backend.settings);
  };
  return std::any_of(config.backends.begin(), config.backends.end(), is_xray)
             ? SharedProfile::FindPaths(ProcessEnvironment())
             : SharedProfile::Paths();
}

}  // namespace

absl::Status Hardening::Begin(const Config& config) {
  std::optional<UnixUser> user;
  if (!config.security.user.empty()) {
    ASSIGN_OR_RETURN(user, FindUnixUser(config.security.user));
    if (::geteuid() == 0) RETURN_IF_ERROR(MakeFoldersFor(*user, FoldersOf(config)));
  }
  return LimitPrivileges(user);
}

Hardening::Hardening(const Config& config, Log* log) : config_(config), log_(log) {}

void Hardening::TellExposedFiles() const {
  for (const std::string& path : SharedProfile::ExposedFiles(ProfilePaths(config_))) {
    log_->Warn("credentials_exposed",
               fmt::format("{0} holds keys of AWS, and others may read it: chmod 600 {0}", path),
               {{"key", path}});
  }
}

void Hardening::SocketsBound() { DropPrivileges(); }

void Hardening::FilterCalls(bool io_uring) {
  const SeccompMode mode = config_.security.seccomp;
  bool programs = false;
  if (mode != SeccompMode::kOff) {
    SyscallFilter::Options options;
    // A sanitizer's runtime asks for more than the lists have.
    options.action = mode == SeccompMode::kLog || kSanitized ? SyscallFilter::Action::kLog
                                                             : SyscallFilter::Action::kRefuse;
    options.io_uring = io_uring;
    options.programs = programs = SharedProfile::MentionPrograms(ProfilePaths(config_));
    options.takeover = config_.takeover;
    SyscallFilter filter(options);
    if (const absl::Status started = filter.Start(); started.ok()) {
      filter_.emplace(filter);
    } else {
      log_->Warn("seccomp_unavailable",
                 fmt::format("System calls are not filtered: {}. The kernel or the container's "
                             "runtime does not allow it; all else works",
                             std::string(started.message())));
    }
  }
  log_->Info("hardened",
             fmt::format("Running as user {}:{} without privileges, system calls {}", ::getuid(),
                         ::getgid(),
                         !filter_                    ? "not filtered"
                         : mode == SeccompMode::kLog ? "logged"
                                                     : "filtered"),
             {{"programs", programs ? "credential_process" : "none"}});
}

void Hardening::Enter(ThreadRole role) const {
  if (!filter_) return;
  if (const absl::Status entered = filter_->Enter(role); !entered.ok()) {
    log_->Warn("seccomp_unavailable", fmt::format("A thread keeps the process's system calls: {}",
                                                  std::string(entered.message())));
  }
}

}  // namespace mobula
