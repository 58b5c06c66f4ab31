// The table of backends built in: one row per type, no self-registration.
//
// Room: cold.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/delivery/exporter.h"

namespace mobula {

// Makes the exporter for `config`, without I/O. Unimplemented when its type was left out of this build.
absl::StatusOr<std::unique_ptr<Exporter>> MakeExporter(const BackendConfig& config,
                                                       const ExporterContext& context);

// Whether exporters of the two cannot work side by side: they write the same file.
bool ExcludeEachOther(const BackendConfig& a, const BackendConfig& b);

}  // namespace mobula
