// What passes between an SDK and X-Ray through the sampling port: which headers go on, and how an answer, or the lack
// of one, looks to the SDK.
//
// Room:   cold.
// Errors: none: every answer has a form.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/http/http_client.h"
#include "engine/http/http_server.h"

namespace mobula {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// What of a client's headers is signed and passed on: the media types, and what AWS's SDKs say of the call
// itself, each name once and in printable ASCII. Nothing that belongs to the connection, to another signature or
// to another proxy; neither Accept-Encoding, so that an answer suits every client.
HttpHeaders PassedRequestHeaders(const HttpServerRequest& request);

// The far side's answer with everything but what belongs to the connection; without one 504 for a time-out, 503 for
// ResourceExhausted, else 502. Why there is none is for the log: it may name roles and files, and anybody may ask.
HttpReply PassBack(HttpResponse response);

// 503: to be tried again.
HttpReply TooBusy();

// In the form of X-Ray's own errors, which SDKs can read.
HttpReply ServiceError(int status, std::string_view code, std::string_view message);

}  // namespace mobula
