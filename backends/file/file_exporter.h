// The `file` backend: documents as JSON lines or framed records in a file, or on standard output.
// The formats, and what rotation, compression and fsync cost, are in docs/wire/file.md.
//
// Room:   warm.
// Errors: a full disk, missing permission, another writer and a closed pipe are kHold, a failing device kRetry.
//         A call is in the file completely or not at all; on standard output each document is.
// Limits: a file takes each call at once and waits for the page cache only, with `fsync: batch` for the device.
//         Memory: twice the largest batch, and the compressor.
#pragma once

#include <memory>
#include <string_view>

#include "engine/config/config.h"
#include "engine/delivery/exporter.h"

namespace mobula {

std::unique_ptr<Exporter> MakeFileExporter(std::string_view name, const FileBackendConfig& config,
                                           const ExporterContext& context);

// What a failed write means for a call.
ExportResult FileFailure(const absl::Status& status);

}  // namespace mobula
