// The `file` backend on standard output: a pipe, a terminal, a socket or a redirected file.
//
// Room:    warm. Export never waits for a slow reader: what does not fit is written later, from a timer.
// Errors:  a document that was begun is always finished before anything else, so that a reader never sees half
//          a line followed by another; it counts as delivered from its first byte. What was not begun by its
//          deadline is kThrottled, "timeout". A closed pipe is kHold, "broken_pipe".
//          Start fails on what cannot be written to.
//          REQUIRES SIGPIPE to be ignored.
// Limits:  calls wait in order, as many as Delivery sends; one document (with compression one call) is kept
//          beside them. At most 4,096 bytes a write: a pipe that polls writable takes them without blocking.
#pragma once

#include <memory>
#include <string_view>

#include "engine/base/unique_fd.h"
#include "engine/config/config.h"
#include "engine/delivery/exporter.h"

namespace mobula {

// Writes to `fd`, in the format and compression of `config`.
std::unique_ptr<Exporter> MakeStreamExporter(std::string_view name, UniqueFd fd,
                                             const FileBackendConfig& config);

}  // namespace mobula
