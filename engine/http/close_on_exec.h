// Keeps a socket from the programs that this process starts: Asio opens and accepts without that. Private to this
// folder.
#pragma once

#include <fcntl.h>

namespace mobula {

inline void SetCloseOnExec(int fd) { static_cast<void>(::fcntl(fd, F_SETFD, FD_CLOEXEC)); }

}  // namespace mobula
