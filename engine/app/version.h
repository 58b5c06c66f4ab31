// This program's version, from meson.build.
#pragma once

#include <string_view>

namespace mobula {

inline constexpr std::string_view kVersion = MOBULA_VERSION;

}  // namespace mobula
