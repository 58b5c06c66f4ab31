// Gives away what a process started as root, or with capabilities, has no more use for: in two steps, because the
// sockets still need some of it.
//
// Room:      cold.
// Lifecycle: LimitPrivileges before any file is opened, DropPrivileges when the sockets are bound.
// Threads:   before there is a second one: capabilities belong to threads.
// Errors:    only a wrong `security.user` is one, named by its setting. What the kernel does not let us give away we
//            do not have.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mobula {

struct UnixUser {
  uid_t uid = 0;
  gid_t gid = 0;
  std::string home = "/";
};

// "mobula", "mobula:adm", "10001", "10001:10001". A number need not be anybody's; without a group it is its own.
absl::StatusOr<UnixUser> FindUnixUser(const std::string& text);

struct NewFolder {
  std::string path;
  mode_t mode = 0750;  // those above it have 0750
};

// Makes those of `folders` that are missing, with those above them, as `owner`'s. What is there stays as it is: whoever
// may write above it could have put it there.
absl::Status MakeFoldersFor(const UnixUser& owner, const std::vector<NewFolder>& folders);

// For good: no new privileges by running programs, no core dumps and no debugger but root's, nothing to inherit
// (bounding, inheritable and ambient capabilities). With `user`: becomes that user, without other groups and with his HOME,
// and keeps only what sockets need (CAP_NET_ADMIN, CAP_NET_BIND_SERVICE). One who is that user already needs no
// privilege for it.
absl::Status LimitPrivileges(const std::optional<UnixUser>& user);

// No capability is left, also to root.
void DropPrivileges();

}  // namespace mobula
