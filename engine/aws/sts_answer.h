// Reads the XML in which STS hands out credentials. Private to this folder.
//
// Room:   cold.
// Errors: FailedPrecondition saying what is missing or wrong, never what it holds. Document types and entities of
//         a document's own are passed over.
// Limits: 64 KiB.
#pragma once

#include <cstddef>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"

namespace mobula {

inline constexpr size_t kStsAnswerBytesMax = 64 * 1024;

// The credentials in <`action`Response><`action`Result>; all of their members must be there.
absl::StatusOr<Credentials> ParseStsAnswer(std::string_view body, std::string_view action);

}  // namespace mobula
