// The exporter that keeps nothing: every call is answered at once with kDelivered. For tests, and to measure
// what the rest of the program costs.
//
// Room: warm.
#pragma once

#include <memory>

#include "engine/delivery/exporter.h"

namespace mobula {

std::unique_ptr<Exporter> MakeNullExporter();

}  // namespace mobula
