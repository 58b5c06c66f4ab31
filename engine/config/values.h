// Sizes, durations, addresses and URLs as people write them in a configuration.
//
// Room: cold.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/base/time.h"

namespace mobula {

// "24MiB", "100MB", "1GiB", "4096". Units: B, kB, KB, MB, GB, TB, KiB, MiB, GiB, TiB.
std::optional<uint64_t> ParseSize(std::string_view text);
// In the largest binary unit that divides it: "24MiB".
std::string FormatSize(uint64_t bytes);

// "250ms", "1s", "2m", "1h"; a unit is always needed.
std::optional<Duration> ParseDuration(std::string_view text);
// In the largest unit that divides it: "2m".
std::string FormatDuration(Duration duration);

// A decimal number without sign, leading blanks or rubbish behind.
std::optional<uint64_t> ParseNumber(std::string_view text);

// host:port, [v6]:port, :port or name:port with a port from 0 to 65535.
bool IsListenAddress(std::string_view text);
// http://host[:port][/path] or https://…, without user, query or fragment.
bool IsHttpUrl(std::string_view text);
// The same without a path, and with user:password@ before the host if need be.
bool IsProxyUrl(std::string_view text);
// A URL as it may be shown: `***` for what stands behind its user's name. A password that is a ${reference} and
// nothing more stays.
std::string HidePassword(std::string_view url);

// An octal mode from 0000 to 0777 in four digits: "0660".
std::optional<int> ParseMode(std::string_view text);
// "mobula", "mobula:adm", "10001:10001".
bool IsUnixUser(std::string_view text);
// What sockaddr_un takes.
bool IsSocketPath(std::string_view text);

// What can be sent as `Authorization: Bearer ...`, and not be guessed: 16 to 1024 of the characters of RFC 6750.
bool IsBearerToken(std::string_view text);

// As STS wants them: the ARN of a role, ExternalId, RoleSessionName (and SourceIdentity).
bool IsRoleArn(std::string_view text);
bool IsExternalId(std::string_view text);
bool IsSessionName(std::string_view text);
// A session tag's name or value with this many characters.
bool IsTagText(std::string_view text, size_t characters_min, size_t characters_max);

}  // namespace mobula
