// Log lines of foreign values: in each form one line, of printable text, in its bounds; as JSON it reads back as what was
// said. The first byte chooses colours; then event, message, and keys and values follow, a line each; in the last value
// line ends may stand.
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/log.h"
#include "engine/segment/json_reader.h"
#include "engine/segment/utf8.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"

namespace {

using mobula::JsonValue;
using mobula::LogFormat;

constexpr size_t kLineBytesMax = 4096;

struct Said {
  std::string event;
  std::string message;
  std::string key;
  std::string value;
  std::string last;
};

std::string LineOf(const Said& said, LogFormat format, bool colour) {
  mobula::Log::Options options;
  options.format = format;
  options.colour = colour;
  std::string lines;
  const auto log = mobula::Log::ForTesting(&lines, options, {});
  log->Warn(said.event, said.message,
            {{said.key, said.value}, {"count", uint64_t{7}}, {"last", said.last}});
  return lines;
}

// One character of UTF-8 after the other, none of which moves a cursor or ends a line.
void ExpectPrintable(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    EXPECT(c >= 0x20 && c != 0x7f);
    // U+0080 to U+009F, and the separators of lines and paragraphs.
    if (c == 0xc2) EXPECT(static_cast<unsigned char>(text[i + 1]) >= 0xa0);
    EXPECT(!text.substr(i).starts_with("\xe2\x80\xa8") &&
           !text.substr(i).starts_with("\xe2\x80\xa9"));
  }
}

std::string WithoutColours(std::string text) {
  for (const std::string_view code : {"\x1b[33m", "\x1b[0m"}) {
    const size_t at = text.find(code);
    EXPECT(at != std::string::npos);
    text.erase(at, code.size());
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const bool colour = (input.Byte() & 1) != 0;
  Said said;
  said.event = input.Line();
  said.message = input.Line();
  said.key = input.Line();
  said.value = input.Line();
  said.last = input.Rest();
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson, LogFormat::kDaemon}) {
    const bool coloured = colour && format == LogFormat::kText;
    std::string line = LineOf(said, format, colour);
    EXPECT(line.size() <= kLineBytesMax);
    EXPECT(line.ends_with('\n'));
    line.pop_back();
    if (coloured) line = WithoutColours(line);
    ExpectPrintable(line);
    EXPECT(mobula::IsValidUtf8(line));
    if (format != LogFormat::kJson) continue;
    const auto json = mobula::ParseJson(line);
    EXPECT(json.has_value() && json->kind == JsonValue::Kind::kObject);
    EXPECT(json->FindString("level") == "warn");
    if (json->Find("cut") != nullptr) continue;
    EXPECT(json->members.size() == 7);
    // What is no UTF-8 is told by its bytes, as text.
    const auto valid = [](const std::string& text) { return mobula::IsValidUtf8(text); };
    if (!valid(said.event) || !valid(said.message) || !valid(said.last)) continue;
    EXPECT(json->members[2].value.string == said.event);
    EXPECT(json->members[3].value.string == said.message);
    EXPECT(json->members[6].value.string == said.last);
    EXPECT(json->members[5].value.number == 7);
  }
  return 0;
}
