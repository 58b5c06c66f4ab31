// `mobula replay`: delivers documents from files through a backend of a configuration: what a file backend kept
// while another was down, or a capture.
//
// Room:   cold; its own process.
// Errors: the exit status says whether everything was delivered; the ledger says what was not. An input that
//         the command would write to is refused.
// Limits: holds no more than the backend's share of the buffer: reading waits while the backend is slow. A
//         document of more than 64 KiB, up to the 192 KiB that repaired UTF-8 can make of one, goes on unscanned.
#pragma once

#include <string>
#include <vector>

#include "engine/config/loader.h"

namespace mobula {

struct ReplayOptions {
  ConfigInput config;
  std::string backend;              // empty: the configuration's only one
  std::vector<std::string> inputs;  // files, folders, "-"
};

// The whole command: progress and log on stderr, the ledger as text on stderr or, when stdout is no terminal, as
// JSON on stdout. SIGINT, SIGTERM and SIGHUP end it after the drain's grace. Answers the exit status: 0 when
// all was read and delivered, 1 otherwise, also when it was stopped.
int ReplayCommand(const ReplayOptions& options);

}  // namespace mobula
