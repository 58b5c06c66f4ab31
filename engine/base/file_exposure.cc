// Tested by tests/unit/engine/base/file_exposure_test.cc.
#include "engine/base/file_exposure.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace mobula {
namespace {

constexpr uid_t kUnknownOwner = 65534;  // /proc/sys/kernel/overflowuid

}  // namespace

FileExposure ExposureOf(int fd) noexcept {
  FileExposure exposure;
  struct stat info {};
  struct statvfs system {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return exposure;
  const bool fixed = ::fstatvfs(fd, &system) == 0 && (system.f_flag & ST_RDONLY) != 0;
  exposure.mode = info.st_mode & 07777;
  exposure.anybody_writes = (info.st_mode & S_IWOTH) != 0 && !fixed;
  exposure.anybody_reads = (info.st_mode & S_IROTH) != 0;
  exposure.group_reads = (info.st_mode & S_IRGRP) != 0 && info.st_gid != ::getegid() &&
                         ::group_member(info.st_gid) == 0;
  if (!fixed && info.st_uid != 0 && info.st_uid != ::geteuid() && info.st_uid != kUnknownOwner) {
    exposure.stranger = info.st_uid;
  }
  return exposure;
}

}  // namespace mobula
