// Every metric there is, in one place. Tested by tests/unit/engine/app/metrics_page_test.cc.
#include "engine/app/metrics_page.h"

#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "engine/app/accept.h"
#include "engine/app/version.h"

namespace mobula {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

class Families {
 public:
  // Begins a metric; Add gives it values.
  Families& Begin(std::string name, std::string help, MetricType type) {
    families_.push_back({std::move(name), std::move(help), type, {}});
    return *this;
  }
  Families& Counter(std::string name, std::string help) {
    return Begin(std::move(name), std::move(help), MetricType::Counter);
  }
  Families& Gauge(std::string name, std::string help) {
    return Begin(std::move(name), std::move(help), MetricType::Gauge);
  }
  Families& Add(double value, Labels labels = {}) {
    ClientMetric metric;
    metric.label = std::move(labels);
    if (families_.back().type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    families_.back().metric.push_back(std::move(metric));
    return *this;
  }
  Families& Add(uint64_t value, Labels labels = {}) {
    return Add(static_cast<double>(value), std::move(labels));
  }
  [[nodiscard]] const std::vector<MetricFamily>& get() const { return families_; }

 private:
  std::vector<MetricFamily> families_;
};

void AddReceiver(const Agent& agent, Families* out) {
  const auto per_worker = [&](const char* name, const char* help, auto value) {
    out->Counter(name, help);
    for (size_t w = 0; w < agent.workers().size(); ++w) {
      out->Add(value(agent.workers()[w]->stats()), {{"worker", std::to_string(w)}});
    }
  };
  using S = const WorkerStats&;
  per_worker("mobula_receive_datagrams_total", "Datagrams read from the UDP sockets.",
             [](S s) { return s.datagrams.value(); });
  per_worker("mobula_receive_bytes_total", "Bytes of those datagrams.",
             [](S s) { return s.bytes.value(); });
  per_worker("mobula_receive_kernel_drops_total",
             "Datagrams the kernel dropped because the socket's queue was full.",
             [](S s) { return s.kernel_drops.value(); });
  per_worker("mobula_receive_wakeups_total", "Times a worker woke up to look at its sockets.",
             [](S s) { return s.wakeups.value(); });
  per_worker("mobula_documents_accepted_total", "Documents that passed header and validation.",
             [](S s) { return s.accepted.value(); });
  per_worker("mobula_documents_routed_total", "Documents handed to their lanes.",
             [](S s) { return s.routed.value(); });
  per_worker("mobula_documents_filtered_total", "Documents that no route sends anywhere.",
             [](S s) { return s.filtered.value(); });
  per_worker(
      "mobula_documents_unscanned_total",
      "Well-formed documents that could not be indexed (huge numbers, lone surrogates, depth).",
      [](S s) { return s.unscanned.value(); });
  per_worker("mobula_documents_utf8_repaired_total",
             "Documents in which invalid UTF-8 became U+FFFD.",
             [](S s) { return s.utf8_repaired.value(); });
  per_worker("mobula_documents_otlp_total", "T1S and T1U documents, passed on unread.",
             [](S s) { return s.otlp.value(); });
  per_worker("mobula_batches_total", "Batches closed.", [](S s) { return s.batches.value(); });

  out->Counter("mobula_documents_rejected_total", "Datagrams refused, by reason.");
  for (int r = 1; r < kRejectReasonCount; ++r) {
    uint64_t sum = 0;
    for (const auto& worker : agent.workers()) {
      sum += worker->stats().rejected[static_cast<size_t>(r)].value();
    }
    out->Add(sum, {{"reason", std::string(RejectReasonName(static_cast<RejectReason>(r)))}});
  }
  out->Gauge("mobula_documents_open", "Documents in batches that are still open.");
  for (size_t w = 0; w < agent.workers().size(); ++w) {
    out->Add(agent.workers()[w]->stats().open.value(), {{"worker", std::to_string(w)}});
  }
}

using Reports = std::vector<LaneReport>;

void AddLanes(const Reports& reports, Families* out) {
  const auto per_lane = [&](MetricType type, const char* name, const char* help, auto value) {
    out->Begin(name, help, type);
    for (const LaneReport& report : reports) out->Add(value(report), {{"backend", report.name}});
  };
  constexpr MetricType kCounter = MetricType::Counter;
  constexpr MetricType kGauge = MetricType::Gauge;
  using R = const LaneReport&;
  per_lane(kCounter, "mobula_backend_documents_entered_total", "Documents routed to the backend.",
           [](R r) { return r.entered; });
  per_lane(kCounter, "mobula_backend_documents_delivered_total", "Documents the backend took.",
           [](R r) { return r.delivered; });
  out->Counter("mobula_backend_documents_dropped_total",
               "Documents given up without delivery, by reason.");
  for (const LaneReport& report : reports) {
    for (int r = 0; r < kDropReasonCount; ++r) {
      const auto reason = static_cast<DropReason>(r);
      out->Add(report.dropped_for(reason),
               {{"backend", report.name}, {"reason", std::string(DropReasonName(reason))}});
    }
  }
  per_lane(kGauge, "mobula_backend_documents_held", "Documents queued, waiting or in flight.",
           [](R r) { return r.held; });
  per_lane(kGauge, "mobula_backend_held_bytes", "What those documents' batches take of the buffer.",
           [](R r) { return r.held_bytes; });
  per_lane(kGauge, "mobula_backend_quota_bytes", "The most they may take.",
           [](R r) { return r.quota; });
  per_lane(kGauge, "mobula_backend_calls_in_flight", "Calls the backend has not answered yet.",
           [](R r) { return r.calls_in_flight; });
  per_lane(kGauge, "mobula_backend_calls_allowed", "Calls that may be in flight now (adaptive).",
           [](R r) { return static_cast<uint64_t>(r.window); });
  out->Counter("mobula_backend_calls_total", "Calls by outcome.");
  for (const LaneReport& report : reports) {
    out->Add(report.calls_delivered, {{"backend", report.name}, {"outcome", "delivered"}});
    out->Add(report.calls_failed, {{"backend", report.name}, {"outcome", "failed"}});
    out->Add(report.calls_refused, {{"backend", report.name}, {"outcome", "refused"}});
  }
  out->Counter("mobula_backend_errors_total", "Calls that were not taken, by the far side's code.");
  for (const LaneReport& report : reports) {
    for (const auto& [code, n] : report.errors) {
      out->Add(n, {{"backend", report.name}, {"code", code}});
    }
  }
  out->Gauge(
      "mobula_backend_circuit_state",
      "1 for the state of the backend's circuit breaker: closed lets calls through, open rests "
      "after a failure, half_open asks with one call.");
  for (const LaneReport& report : reports) {
    for (const Circuit circuit : {Circuit::kClosed, Circuit::kOpen, Circuit::kHalfOpen}) {
      out->Add(report.circuit == circuit ? 1.0 : 0.0,
               {{"backend", report.name}, {"state", std::string(CircuitName(circuit))}});
    }
  }
  per_lane(kGauge, "mobula_backend_degraded",
           "1 while the backend fails in a way that only somebody's help mends.",
           [](R r) { return r.health.degraded ? 1.0 : 0.0; });
  per_lane(kCounter, "mobula_backend_call_seconds_total",
           "Time that the calls took which the backend took documents with; divided by their "
           "number it is the latency.",
           [](R r) { return static_cast<double>(r.call_microseconds) / 1e6; });
}

void AddSpool(const Agent& agent, const Reports& reports, Families* out) {
  const std::optional<Spool::State> state = agent.spool();
  if (!state.has_value()) return;
  const auto per_lane = [&](MetricType type, const char* name, const char* help,
                            uint64_t LaneReport::OnDisk::*count) {
    out->Begin(name, help, type);
    for (const LaneReport& report : reports) {
      if (report.on_disk) out->Add((*report.on_disk).*count, {{"backend", report.name}});
    }
  };
  constexpr MetricType kCounter = MetricType::Counter;
  constexpr MetricType kGauge = MetricType::Gauge;
  using D = LaneReport::OnDisk;
  per_lane(kCounter, "mobula_spool_documents_appended_total", "Documents written to disk.",
           &D::appended);
  per_lane(kCounter, "mobula_spool_documents_restored_total",
           "Documents found on disk: at the start, or left by another instance.", &D::restored);
  per_lane(kCounter, "mobula_spool_documents_done_total",
           "Documents from disk that were delivered, or finally refused.", &D::done);
  out->Counter("mobula_spool_documents_dropped_total",
               "Documents on disk that were given up, by reason.");
  for (const LaneReport& report : reports) {
    if (!report.on_disk) continue;
    for (int r = 0; r < kSpoolDropReasonCount; ++r) {
      out->Add(report.on_disk->dropped[static_cast<size_t>(r)],
               {{"backend", report.name},
                {"reason", std::string(SpoolDropReasonName(static_cast<SpoolDropReason>(r)))}});
    }
  }
  per_lane(kGauge, "mobula_spool_documents_held", "Documents that wait on disk.", &D::held);
  per_lane(kGauge, "mobula_spool_lane_bytes", "What the backend's files take on disk.", &D::bytes);
  per_lane(kCounter, "mobula_spool_torn_total", "Half-written ends of files that were cut off.",
           &D::torn);
  per_lane(kCounter, "mobula_spool_damaged_total",
           "Frames and stretches of files that could not be read.", &D::damaged);
  out->Gauge("mobula_spool_on", "1 while the spool takes documents.").Add(state->on ? 1.0 : 0.0);
  out->Gauge("mobula_spool_bytes", "What the spool takes on disk.").Add(state->bytes);
  out->Gauge("mobula_spool_files", "Files waiting to be sent.").Add(state->files);
  out->Gauge("mobula_spool_set_aside_bytes", "Of damaged files and those of former backends.")
      .Add(state->set_aside);
}

// What is lost, over all: received and not delivered, by reason.
void AddLedger(const Agent& agent, Families* out) {
  const Ledger ledger = agent.ledger();
  std::map<std::string, uint64_t> lost = ledger.rejected;
  lost["kernel"] = ledger.kernel_drops;
  for (const Ledger::Lane& lane : ledger.lanes) {
    for (const auto& [reason, n] : lane.dropped) lost[reason] += n;
  }
  out->Counter("mobula_ledger_lost_total",
               "Datagrams and documents lost, by reason: rejected, dropped by the kernel, by a "
               "backend's lane or by the spool.");
  for (const auto& [reason, n] : lost) out->Add(n, {{"reason", reason}});
  out->Counter(
         "mobula_ledger_bugs_total",
         "Times the books did not balance although nothing moved: a bug of Mobula. Must be 0.")
      .Add(agent.ledger_bugs());
  out->Gauge(
         "mobula_ledger_balanced",
         "1 when received = accepted + rejected, and each backend's books balance; may be 0 for a "
         "moment while documents move.")
      .Add(ledger.balanced() ? 1.0 : 0.0);
}

void AddCredentials(const Agent& agent, Families* out) {
  const std::vector<AwsIdentityState> identities = agent.cold_room().aws().identities();
  if (identities.empty()) return;
  const auto each = [&](auto value) {
    for (const AwsIdentityState& identity : identities) {
      out->Add(value(identity), {{"identity", identity.name}});
    }
  };
  using I = const AwsIdentityState&;
  out->Gauge("mobula_aws_credentials_ok",
             "1 while there are credentials and the last fetch worked; by role or profile.");
  each([](I i) { return i.error.ok() && !i.source.empty() ? 1.0 : 0.0; });
  out->Gauge("mobula_aws_credentials_expiry_timestamp_seconds",
             "When the present credentials expire, Unix time; 0 when they do not.");
  each([](I i) {
    return i.expiry ? std::chrono::duration<double>(i.expiry->time_since_epoch()).count() : 0.0;
  });
  out->Counter("mobula_aws_credentials_renewals_total", "Fetches that brought credentials.");
  each([](I i) { return i.renewals; });
  out->Counter("mobula_aws_credentials_failures_total", "Fetches that did not.");
  each([](I i) { return i.failures; });
}

void AddSampling(const Agent& agent, Families* out) {
  const SamplingProxyStats* stats = agent.cold_room().sampling_stats();
  if (stats == nullptr) return;
  out->Counter("mobula_sampling_requests_total",
               "Requests of SDKs on the sampling port, by what became of them.");
  out->Add(stats->forwarded.value(), {{"outcome", "forwarded"}});
  out->Add(stats->cached.value(), {{"outcome", "cached"}});
  out->Add(stats->stale.value(), {{"outcome", "stale"}});
  out->Add(stats->local.value(), {{"outcome", "local"}});
  out->Add(stats->refused.value(), {{"outcome", "refused"}});
  out->Add(stats->failed.value(), {{"outcome", "failed"}});
}

void AddDeadLetters(const Agent& agent, Families* out) {
  const Ledger ledger = agent.ledger();
  if (!ledger.dead_letters.has_value()) return;
  const Ledger::Lane& lane = *ledger.dead_letters;
  out->Counter(
      "mobula_dead_letters_total",
      "Rejected documents for the dead-letter file: written, given up for lack of room, or "
      "failed in writing.");
  const uint64_t failed = agent.dead_letters_failed();
  out->Add(lane.delivered - std::min(lane.delivered, failed), {{"outcome", "written"}});
  out->Add(lane.dropped_total(), {{"outcome", "dropped"}});
  out->Add(failed, {{"outcome", "failed"}});
}

void AddReloads(const Agent& agent, Families* out) {
  const Agent::Reloads reloads = agent.reloads();
  out->Counter("mobula_config_reloads_total", "Times the configuration was read again (SIGHUP).")
      .Add(reloads.ok, {{"outcome", "ok"}})
      .Add(reloads.failed, {{"outcome", "failed"}});
  out->Gauge("mobula_config_last_reload_success",
             "0 when the last reload failed: then the configuration on disk is not in use.")
      .Add(reloads.fault.empty() ? 1.0 : 0.0);
}

void AddProcess(const Agent& agent, Families* out) {
  out->Gauge("mobula_build_info", "1; the labels say what runs.")
      .Add(1.0, {{"version", std::string(kVersion)},
                 {"engine", std::string(ReceiveEngineName(agent.engine()))}});
  out->Gauge("mobula_buffer_bytes", "Size of the buffer for batches and request bodies.")
      .Add(static_cast<uint64_t>(agent.pool().bytes_total()));
  out->Gauge("mobula_buffer_used_bytes", "How much of it is taken.")
      .Add(static_cast<uint64_t>(agent.pool().bytes_used()));
  const ProcessUsage usage = ReadProcessUsage();
  out->Gauge("process_resident_memory_bytes", "Resident memory.").Add(usage.resident_bytes);
  out->Counter("process_cpu_seconds_total", "User and system CPU time.").Add(usage.cpu_seconds);
}

std::string Number(double value) {
  return value == std::floor(value) && std::fabs(value) < 1e15
             ? fmt::format("{}", static_cast<int64_t>(value))
             : fmt::format("{}", value);
}

// prometheus-cpp writes the classic format only. OpenMetrics 1.0: the family is named without _total, and
// the text ends with # EOF.
std::string OpenMetrics(const std::vector<MetricFamily>& families) {
  const auto escape = [](std::string_view text) {
    std::string out;
    for (const char c : text) {
      if (c == '\\' || c == '"') out += '\\';
      if (c == '\n') {
        out += "\\n";
      } else {
        out += c;
      }
    }
    return out;
  };
  std::string out;
  for (const MetricFamily& family : families) {
    const bool counter = family.type == MetricType::Counter;
    std::string name = family.name;
    if (counter) name = name.substr(0, name.size() - std::string_view("_total").size());
    out += fmt::format("# TYPE {} {}\n# HELP {} {}\n", name, counter ? "counter" : "gauge", name,
                       escape(family.help));
    for (const ClientMetric& metric : family.metric) {
      std::string labels;
      for (const ClientMetric::Label& label : metric.label) {
        labels +=
            fmt::format("{}{}=\"{}\"", labels.empty() ? "" : ",", label.name, escape(label.value));
      }
      out += fmt::format("{}{} {}\n", family.name, labels.empty() ? "" : "{" + labels + "}",
                         Number(counter ? metric.counter.value : metric.gauge.value));
    }
  }
  return out + "# EOF\n";
}

}  // namespace

MetricsPage RenderMetrics(const Agent& agent, std::string_view accept) {
  Families families;
  AddReceiver(agent, &families);
  const Reports reports = agent.backends();
  AddLanes(reports, &families);
  AddSpool(agent, reports, &families);
  AddLedger(agent, &families);
  AddCredentials(agent, &families);
  AddSampling(agent, &families);
  AddDeadLetters(agent, &families);
  AddReloads(agent, &families);
  AddProcess(agent, &families);
  if (WantsOpenMetrics(accept)) {
    return {"application/openmetrics-text; version=1.0.0; charset=utf-8",
            OpenMetrics(families.get())};
  }
  return {"text/plain; version=0.0.4; charset=utf-8",
          prometheus::TextSerializer().Serialize(families.get())};
}

ProcessUsage ReadProcessUsage() {
  ProcessUsage usage;
  std::ifstream statm("/proc/self/statm");
  uint64_t size = 0;
  uint64_t resident = 0;
  if (statm >> size >> resident) {
    usage.resident_bytes = resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  }
  rusage r{};
  getrusage(RUSAGE_SELF, &r);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  usage.cpu_seconds = seconds(r.ru_utime) + seconds(r.ru_stime);
  return usage;
}

}  // namespace mobula
