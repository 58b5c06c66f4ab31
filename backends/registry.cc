// Tested by tests/contract/registry_test.cc.
#include "backends/registry.h"

#include <fmt/format.h>

#include "backends/backends_config.h"
#if HAVE_BACKEND_FILE
#include "backends/file/file_exporter.h"
#include "backends/file/record_format.h"
#endif
#if HAVE_BACKEND_NULL
#include "backends/null/null_exporter.h"
#endif
#if HAVE_BACKEND_XRAY
#include "backends/xray/xray_exporter.h"
#endif

namespace mobula {
namespace {

using Made = absl::StatusOr<std::unique_ptr<Exporter>>;

struct Row {
  std::string_view type;
  Made (*make)(const BackendConfig& config, const ExporterContext& context);
};

// The empty row keeps the table an array when every backend is left out.
constexpr Row kRows[] = {
#if HAVE_BACKEND_XRAY
    {"xray",
     [](const BackendConfig& config, const ExporterContext& context) -> Made {
       return MakeXrayExporter(config.name, std::get<XrayBackendConfig>(config.settings), context);
     }},
#endif
#if HAVE_BACKEND_FILE
    {"file",
     [](const BackendConfig& config, const ExporterContext& context) -> Made {
       return MakeFileExporter(config.name, std::get<FileBackendConfig>(config.settings), context);
     }},
#endif
#if HAVE_BACKEND_NULL
    {"null",
     [](const BackendConfig& /*config*/, const ExporterContext& /*context*/) -> Made {
       return MakeNullExporter();
     }},
#endif
    {},
};

}  // namespace

absl::StatusOr<std::unique_ptr<Exporter>> MakeExporter(const BackendConfig& config,
                                                       const ExporterContext& context) {
  for (const Row& row : kRows) {
    if (row.type == config.type()) return row.make(config, context);
  }
  return absl::UnimplementedError(
      fmt::format("backend {}: type {} was left out of this build (meson option `backends`)",
                  config.name, config.type()));
}

bool ExcludeEachOther([[maybe_unused]] const BackendConfig& a,
                      [[maybe_unused]] const BackendConfig& b) {
#if HAVE_BACKEND_FILE
  const auto* one = std::get_if<FileBackendConfig>(&a.settings);
  const auto* other = std::get_if<FileBackendConfig>(&b.settings);
  return one != nullptr && other != nullptr && FileWritten(*one) == FileWritten(*other);
#else
  return false;
#endif
}

}  // namespace mobula
