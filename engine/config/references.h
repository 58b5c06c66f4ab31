// ${env:NAME}, ${env:NAME:-default} and ${file:path} inside a value.
//
// Room:   cold.
// Errors: InvalidArgument names the reference, never what it stands for.
// Limits: 64 KiB a file.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mobula {

using Environment = std::function<std::optional<std::string>(std::string_view)>;

// `text` with every reference replaced, once: what comes in is not looked at again. As in a shell, the
// default also stands for a variable that is empty. One line end at the end of a file is left out.
absl::StatusOr<std::string> ResolveReferences(std::string_view text,
                                              const Environment& environment);

// Whether `text` holds a reference, so that its value must not be shown.
bool HasReference(std::string_view text);

}  // namespace mobula
