// Tested by tests/unit/engine/harden/privileges_test.cc and tests/e2e/hardening_test.py.
#include "engine/harden/privileges.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/sanitized.h"
#include "engine/base/status_macros.h"
#include "engine/base/unique_fd.h"

namespace mobula {
namespace {

// Not -1, which stands for "no change".
constexpr uint32_t kIdMax = 0xfffffffe;
constexpr uint64_t kOfSockets = (1ULL << CAP_NET_ADMIN) | (1ULL << CAP_NET_BIND_SERVICE);

using CapabilitySets = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

// glibc has no function for it, and all that libcap would add is text.
CapabilitySets GetCapabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  CapabilitySets sets{};
  CHECK(::syscall(SYS_capget, &header, sets.data()) == 0);
  return sets;
}

// Keeps those of `keep` that are permitted, all of them in force. Never fails: it only takes away.
void KeepOnly(uint64_t keep) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  CapabilitySets sets = GetCapabilities();
  for (size_t i = 0; i < sets.size(); ++i) {
    sets[i].permitted &= static_cast<uint32_t>(keep >> (32 * i));
    sets[i].effective = sets[i].permitted;
    sets[i].inheritable = 0;
  }
  CHECK(::syscall(SYS_capset, &header, sets.data()) == 0);
}

void ClearInheritance() {
  // Without CAP_SETPCAP the bounding set stays: no_new_privs makes it mean nothing.
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) break;
  }
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  CapabilitySets sets = GetCapabilities();
  for (__user_cap_data_struct& set : sets) set.inheritable = 0;
  CHECK(::syscall(SYS_capset, &header, sets.data()) == 0);
}

std::optional<uint32_t> ParseId(std::string_view text) {
  uint32_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size() || id > kIdMax) return std::nullopt;
  return id;
}

absl::Status CannotBecome(const UnixUser& user, std::string_view what, int error) {
  return absl::PermissionDeniedError(
      fmt::format("security.user: cannot become user {}:{}: {}: {}; start as root, or leave it out",
                  user.uid, user.gid, what, std::strerror(error)));
}

absl::Status Become(const UnixUser& user) {
  if (::getuid() == user.uid && ::geteuid() == user.uid && ::getgid() == user.gid &&
      ::getegid() == user.gid && user.uid != 0) {
    return absl::OkStatus();
  }
  ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
  if (::setgroups(0, nullptr) != 0) return CannotBecome(user, "setgroups", errno);
  if (::setresgid(user.gid, user.gid, user.gid) != 0) return CannotBecome(user, "setgid", errno);
  if (::setresuid(user.uid, user.uid, user.uid) != 0) return CannotBecome(user, "setuid", errno);
  ::prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
  // Root keeps what files need until the sockets are bound, as without `security.user`.
  if (user.uid != 0) KeepOnly(kOfSockets);
  ::setenv("HOME", user.home.c_str(), 1);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UnixUser> FindUnixUser(const std::string& text) {
  const std::string name = text.substr(0, text.find(':'));
  const std::string group =
      name.size() < text.size() ? text.substr(name.size() + 1) : std::string();
  UnixUser user;
  const std::optional<uint32_t> number = ParseId(name);
  const passwd* const entry = number ? ::getpwuid(*number) : ::getpwnam(name.c_str());
  if (entry == nullptr && !number) {
    return absl::InvalidArgumentError(
        fmt::format("security.user: no user is named \"{}\": expected a name of this machine's, or "
                    "a number",
                    name));
  }
  user.uid = number ? *number : entry->pw_uid;
  user.gid = entry != nullptr ? entry->pw_gid : user.uid;
  if (entry != nullptr && entry->pw_dir != nullptr && *entry->pw_dir == '/') {
    user.home = entry->pw_dir;
  }
  if (group.empty()) return user;
  if (const std::optional<uint32_t> gid = ParseId(group)) {
    user.gid = *gid;
  } else if (const ::group* const found = ::getgrnam(group.c_str())) {
    user.gid = found->gr_gid;
  } else {
    return absl::InvalidArgumentError(fmt::format(
        "security.user: no group is named \"{}\": expected a name of this machine's, or "
        "a number",
        group));
  }
  return user;
}

absl::Status MakeFoldersFor(const UnixUser& owner, const std::vector<NewFolder>& folders) {
  for (const NewFolder& folder : folders) {
    for (size_t slash = folder.path.find('/', 1);; slash = folder.path.find('/', slash + 1)) {
      const std::string path = folder.path.substr(0, slash);
      const mode_t mode = slash == std::string::npos ? folder.mode : 0750;
      if (!path.empty() && ::mkdir(path.c_str(), mode) == 0) {
        const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!fd.valid() || ::fchown(fd.get(), owner.uid, owner.gid) != 0) {
          return absl::ErrnoToStatus(
              errno, fmt::format("security.user: cannot give away the new folder {}", path));
        }
      }
      // Whatever else mkdir has against it, who opens a file in it will say.
      if (slash == std::string::npos) break;
    }
  }
  return absl::OkStatus();
}

absl::Status LimitPrivileges(const std::optional<UnixUser>& user) {
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  ClearInheritance();
  if (user) RETURN_IF_ERROR(Become(*user));
  // The memory holds keys of AWS and what applications trace. A leak checker stops its process as a debugger does.
  if constexpr (!kSanitized) ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  return absl::OkStatus();
}

void DropPrivileges() { KeepOnly(0); }

}  // namespace mobula
