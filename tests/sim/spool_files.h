// Reads spool files by docs/wire/spool.md alone: the simulation's own eyes on the disk.
//
// Room: test.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mobula::sim {

struct SpoolFileContent {
  std::string backend;
  uint64_t identity = 0;
  std::vector<uint64_t> remaining;  // documents in whole frames, neither delivered nor dropped
};

// The hash in a file's header.
uint64_t IdentityHash(std::string_view backend, std::string_view identity);

// Nothing when it has no header.
std::optional<SpoolFileContent> ReadSpoolFile(std::string_view bytes);

}  // namespace mobula::sim
