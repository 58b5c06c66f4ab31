// The simulation's command line.
//   sim --seed N [--verbose]          one run, and its story
//   sim --seeds A..B [--jobs N]       many, in processes of their own; ends at the first that fails
//   sim --scenario outage             a backend that is away for ten minutes, in six ways: prints a table
//   sim_canaries --canary NAME ...    the same with one planted bug
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <map>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/app/progress_bar.h"
#include "tests/sim/canary.h"
#include "tests/sim/outage.h"
#include "tests/sim/world.h"

namespace mobula::sim {

int canary = 0;

namespace {

// In the order of their numbers, from 1.
const std::vector<std::string> kCanaries = {
#ifdef MOBULA_CANARIES
#include "tests/sim/canary_names.inc"
#endif
};

constexpr unsigned kSecondsMax = 120;  // that a run may take
constexpr int kJobsMax = 64;

struct Seeds {
  uint64_t first = 0;
  uint64_t last = 0;
};

// What the processes of one search share.
struct Search {
  std::atomic<uint64_t> next{0};
  std::atomic<uint64_t> done{0};
  std::atomic<uint64_t> events{0};
  std::atomic<uint64_t> documents{0};
  std::atomic<uint64_t> agents{0};
  std::atomic<uint64_t> milliseconds{0};
  std::atomic<bool> failed{false};
  std::atomic<uint64_t> present[kJobsMax] = {};
};

std::string program;  // how it was called, up to the seed

Outcome RunSeed(uint64_t seed, Telling telling) {
  Random random(seed);
  const Scenario scenario = DrawScenario(random.Fork());
  return World(random.Next(), scenario, telling).Run();
}

std::string Replay(uint64_t seed) { return fmt::format("replay: {} --seed {}", program, seed); }

int RunOne(uint64_t seed, Telling telling) {
  const Outcome outcome = RunSeed(seed, telling);
  for (const std::string& line : outcome.lines) std::puts(line.c_str());
  if (!outcome.failure.empty()) {
    std::puts(fmt::format("seed {}: {}\n{}", seed, outcome.failure, Replay(seed)).c_str());
    return 1;
  }
  std::puts(fmt::format("seed {}: well; {} documents, {} events, {:.0f} s, digest {:016x}", seed,
                        outcome.totals.documents, outcome.events, Seconds(outcome.time),
                        outcome.digest)
                .c_str());
  return 0;
}

// A process of the search, until there is no seed left.
void Work(Search* search, std::atomic<uint64_t>* present, uint64_t last) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (!search->failed) {
    const uint64_t seed = search->next++;
    if (seed > last) break;
    *present = seed;
    alarm(kSecondsMax);
    const Outcome outcome = RunSeed(seed, Telling::kSilent);
    ++search->done;
    search->events += outcome.events;
    search->documents += outcome.totals.documents;
    search->agents += outcome.agents;
    search->milliseconds += static_cast<uint64_t>(outcome.time / std::chrono::milliseconds(1));
    if (outcome.failure.empty() || search->failed.exchange(true)) continue;
    RunOne(seed, Telling::kKeep);
    std::fflush(stdout);
  }
  alarm(0);
}

int RunMany(Seeds seeds, int jobs) {
  void* const memory =
      mmap(nullptr, sizeof(Search), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    return 2;
  }
  Search* const search = new (memory) Search;
  search->next = seeds.first;
  const auto begin = std::chrono::steady_clock::now();
  std::map<pid_t, int> processes;
  for (int job = 0; job < jobs; ++job) {
    const pid_t pid = fork();
    if (pid == 0) {
      Work(search, &search->present[job], seeds.last);
      _exit(0);
    }
    if (pid < 0) {
      std::perror("fork");
      return 2;
    }
    processes[pid] = job;
  }
  bool died = false;
  {
    ProgressBar progress(STDERR_FILENO);
    while (!processes.empty()) {
      int status = 0;
      const pid_t pid = waitpid(-1, &status, WNOHANG);
      if (pid > 0) {
        const auto found = processes.find(pid);
        const uint64_t seed = search->present[found->second];
        processes.erase(found);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
        died = search->failed = true;
        std::puts(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM
                      ? fmt::format("seed {} hangs", seed).c_str()
                      : fmt::format("seed {} crashes", seed).c_str());
        std::puts(Replay(seed).c_str());
        continue;
      }
      progress.Update(search->done, seeds.last - seeds.first + 1, std::chrono::steady_clock::now());
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  const Duration took = std::chrono::steady_clock::now() - begin;
  std::puts(fmt::format("{} seeds, {} processes, {} documents, {} events, {:.1f} h in {:.1f} s: {}",
                        Grouped(search->done), Grouped(search->agents), Grouped(search->documents),
                        Grouped(search->events), static_cast<double>(search->milliseconds) / 3.6e6,
                        Seconds(took), died || search->failed ? "FAILED" : "all well")
                .c_str());
  return died || search->failed ? 1 : 0;
}

std::optional<Seeds> ParseSeeds(const std::string& text) {
  const size_t dots = text.find("..");
  Seeds seeds;
  const auto parse = [](std::string_view digits, uint64_t* value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *value);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  if (dots == std::string::npos || !parse(std::string_view(text).substr(0, dots), &seeds.first) ||
      !parse(std::string_view(text).substr(dots + 2), &seeds.last) || seeds.first > seeds.last) {
    return std::nullopt;
  }
  return seeds;
}

int Main(int argc, char** argv) {
  CLI::App app("Runs the agent's batches, delivery and spool on virtual time, by seeds.");
  uint64_t seed = 0;
  std::string range;
  int jobs = 1;
  bool verbose = false;
  auto* const one = app.add_option("--seed", seed, "run this one");
  app.add_option("--seeds", range, "run all of A..B")->excludes(one);
  app.add_option("--jobs", jobs, "processes")->check(CLI::Range(1, kJobsMax));
  app.add_flag("--verbose", verbose, "with --seed: tell the whole story");
  std::string scenario;
  uint64_t outage_seconds = 600;
  OutageOptions outage;
  app.add_option("--scenario", scenario, "a run of its own")->check(CLI::IsMember({"outage"}));
  app.add_option("--seconds", outage_seconds, "of the outage")->check(CLI::Range(1, 3600));
  app.add_option("--rate", outage.documents_per_second, "documents a second in the outage");
  std::string canary_name;
  if (!kCanaries.empty()) {
    app.add_option("--canary", canary_name, "a bug to plant")->check(CLI::IsMember(kCanaries));
  }
  CLI11_PARSE(app, argc, argv);
  program = argv[0];
  if (!canary_name.empty()) {
    const auto found = std::find(kCanaries.begin(), kCanaries.end(), canary_name);
    canary = static_cast<int>(found - kCanaries.begin()) + 1;
    program += " --canary " + canary_name;
  }
  if (one->count() > 0) return RunOne(seed, verbose ? Telling::kPrint : Telling::kKeep);
  if (!scenario.empty()) {
    outage.outage = std::chrono::seconds(outage_seconds);
    return RunOutages(outage) ? 0 : 1;
  }
  const std::optional<Seeds> seeds = ParseSeeds(range);
  if (!seeds.has_value()) {
    std::fputs("sim: --seed N or --seeds A..B is needed\n", stderr);
    return 2;
  }
  return RunMany(*seeds, jobs);
}

}  // namespace
}  // namespace mobula::sim

int main(int argc, char** argv) { return mobula::sim::Main(argc, argv); }
