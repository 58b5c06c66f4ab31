// The region in what metadata endpoints answer. Private to this folder.
//
// Room:   cold.
// Errors: FailedPrecondition saying what is missing, never what the document holds.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mobula {

// Of an ECS metadata file, or of task metadata version 4.
absl::StatusOr<std::string> RegionOfTask(std::string_view json);
// Of an EC2 instance identity document.
absl::StatusOr<std::string> RegionOfInstance(std::string_view json);

}  // namespace mobula
