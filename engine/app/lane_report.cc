// Tested by tests/unit/engine/app/lane_set_test.cc.
#include "engine/app/lane_report.h"

#include <chrono>
#include <thread>
#include <utility>

namespace mobula {
namespace {

template <size_t n>
void AddAll(const std::array<uint64_t, n>& from, std::array<uint64_t, n>* to) {
  for (size_t i = 0; i < n; ++i) (*to)[i] += from[i];
}

}  // namespace

void LaneReport::Add(const LaneReport& other) {
  for (uint64_t LaneReport::*const count :
       {&LaneReport::entered, &LaneReport::delivered, &LaneReport::held, &LaneReport::held_bytes,
        &LaneReport::calls_delivered, &LaneReport::calls_failed, &LaneReport::calls_refused,
        &LaneReport::call_microseconds, &LaneReport::calls_in_flight, &LaneReport::timeouts,
        &LaneReport::connections_refused, &LaneReport::http_4xx, &LaneReport::http_5xx,
        &LaneReport::unknown_host, &LaneReport::other_faults}) {
    this->*count += other.*count;
  }
  AddAll(other.dropped, &dropped);
  for (const auto& [code, n] : other.errors) errors[code] += n;
  if (!other.on_disk.has_value()) return;
  if (!on_disk.has_value()) on_disk = OnDisk{};
  for (uint64_t OnDisk::*const count :
       {&OnDisk::appended, &OnDisk::restored, &OnDisk::done, &OnDisk::held, &OnDisk::bytes,
        &OnDisk::torn, &OnDisk::damaged}) {
    (*on_disk).*count += (*other.on_disk).*count;
  }
  AddAll(other.on_disk->dropped, &on_disk->dropped);
}

LaneReport ReportOf(std::string_view name, const LaneAccount& account, const SpoolAccount* spool) {
  LaneReport r;
  r.name = name;
  r.entered = account.entered.value();
  r.delivered = account.delivered.value();
  for (size_t i = 0; i < r.dropped.size(); ++i) r.dropped[i] = account.dropped[i].value();
  r.held = account.held.value();
  r.held_bytes = account.held_bytes.value();
  if (spool != nullptr) r.on_disk = ReportOf(*spool);
  return r;
}

LaneReport ReportOf(const Lane& lane) {
  LaneReport r = ReportOf(lane.name(), lane.account(), lane.spool_account());
  const Lane::CallCounters& calls = lane.calls();
  r.calls_delivered = calls.delivered.value();
  r.calls_failed = calls.failed.value();
  r.calls_refused = calls.refused.value();
  r.call_microseconds = calls.microseconds.value();
  r.calls_in_flight = lane.calls_in_flight();
  const Lane::FaultCounters& faults = lane.faults();
  r.timeouts = faults.timeout.value();
  r.connections_refused = faults.refused.value();
  r.http_4xx = faults.http_4xx.value();
  r.http_5xx = faults.http_5xx.value();
  r.unknown_host = faults.unknown_host.value();
  r.other_faults = faults.other.value();
  for (const auto& [code, n] : lane.errors()) r.errors[code] = n;
  r.quota = lane.quota();
  r.window = lane.window();
  r.circuit = lane.circuit();
  r.health = lane.health();
  return r;
}

LaneReport FinalReportOf(const Lane& lane) {
  LaneReport r = ReportOf(lane);
  // Its thread may be at the books: what goes to the disk is in two places for a moment.
  for (int i = 0; i < 100 && !LedgerOf(r).balanced(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    r = ReportOf(lane);
  }
  r.dropped[static_cast<size_t>(DropReason::kShutdown)] += std::exchange(r.held, 0);
  r.held_bytes = 0;
  r.calls_in_flight = 0;
  return r;
}

LaneReport::OnDisk ReportOf(const SpoolAccount& account) {
  LaneReport::OnDisk d;
  d.appended = account.appended.value();
  d.restored = account.restored.value();
  d.done = account.done.value();
  for (size_t i = 0; i < d.dropped.size(); ++i) d.dropped[i] = account.dropped[i].value();
  d.held = account.held.value();
  d.bytes = account.bytes.value();
  d.torn = account.torn.value();
  d.damaged = account.damaged.value();
  return d;
}

Ledger::Lane LedgerOf(const LaneReport& report) {
  Ledger::Lane l;
  l.name = report.name;
  l.entered = report.entered;
  l.delivered = report.delivered;
  for (int r = 0; r < kDropReasonCount; ++r) {
    const auto reason = static_cast<DropReason>(r);
    if (const uint64_t n = report.dropped_for(reason)) {
      l.dropped[std::string(DropReasonName(reason))] = n;
    }
  }
  l.held = report.held;
  if (report.on_disk.has_value()) {
    for (int r = 0; r < kSpoolDropReasonCount; ++r) {
      if (const uint64_t n = report.on_disk->dropped[static_cast<size_t>(r)]) {
        l.dropped[std::string(SpoolDropReasonName(static_cast<SpoolDropReason>(r)))] = n;
      }
    }
    l.restored = report.on_disk->restored;
    l.spooled = report.on_disk->held;
  }
  return l;
}

}  // namespace mobula
