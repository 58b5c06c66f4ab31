// Credentials that a program of the user's prints: credential_process of a profile.
//
// The command line is run by `/bin/sh -c` in a process group of its own, with nothing on its standard input; its
// standard error goes nowhere, because what it may hold is not known. It inherits no other file.
//
// Room:      cold.
// Lifecycle: the program is killed, with its group, at the deadline or when the source is destroyed. The loop, which
//            must outlive the source, buries it when the kernel lets it go.
// Errors:    FailedPrecondition: the program failed or printed something else; DeadlineExceeded: it did not end.
//            Neither the command line nor anything it printed is ever in the message.
// Limits:    64 KiB of output.
#pragma once

#include <memory>
#include <string>

#include "engine/aws/credentials_source.h"
#include "engine/http/io_loop.h"

namespace mobula {

// `profile_name` is for messages.
std::unique_ptr<CredentialsSource> MakeProcessSource(IoLoop* loop, std::string command_line,
                                                     std::string profile_name);

}  // namespace mobula
