// Text that came from outside, for terminals and for readers of lines.
//
// Room: warm and cold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mobula {

// The bytes of the well-formed UTF-8 character at the start of `text`, which is not empty; 0 when there is none.
size_t CharacterBytes(std::string_view text, uint32_t* code) noexcept;

// What a terminal or a line-based reader could take for more than text: control characters of both sets, ends of lines
// and paragraphs, and marks that turn the direction of writing around.
bool IsControl(uint32_t code) noexcept;

// `text` as UTF-8 without controls: their bytes, and those that are no UTF-8, become \xNN.
std::string Printable(std::string_view text);
// The same, but the ends of lines stay.
std::string PrintableLines(std::string_view text);

}  // namespace mobula
