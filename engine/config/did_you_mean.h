// The word that was probably meant by one that is not known.
//
// Room: cold.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mobula {

// The nearest of `candidates` by edits; empty when none is near.
std::string NearestWord(std::string_view word, const std::vector<std::string>& candidates);
// ` (did you mean "engine"?)`, or nothing.
std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace mobula
