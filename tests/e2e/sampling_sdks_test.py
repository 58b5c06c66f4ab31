"""Centralized sampling with real X-Ray SDKs, unchanged: they ask the agent for rules and targets, the agent asks X-Ray, signed,
and only what the rules let through arrives."""
import collections
import contextlib
import json
import os
import re
import subprocess
import time
import urllib.request

from fake_xray import FakeXray, Key
from mobula import KEY, LANGUAGES, Mobula, check_balance, sdk_program, wait_for

NOTHING = {"RuleName": "checkout", "URLPath": "/checkout*", "Priority": 1, "FixedRate": 0.0, "ReservoirSize": 0}
EVERYTHING = {"RuleName": "all-others", "URLPath": "*", "Priority": 100, "FixedRate": 1.0, "ReservoirSize": 0}
NEW = {"RuleName": "new", "URLPath": "/new*", "Priority": 2, "FixedRate": 1.0, "ReservoirSize": 0}
REQUESTS = 40


class Program:
    """An HTTP server in one of the languages, instrumented."""

    def __init__(self, folder, language, agent):
        self.language, self.name = language, language + ".example.com"
        command, environment = sdk_program(language, "server")
        environment = {**os.environ, "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{agent.port}", **environment}
        self.log = os.path.join(folder, language + ".txt")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def listening(self):
        """Whether it has said its port; the SDKs of some languages talk before."""
        assert self.process.poll() is None, f"{self.language}: {self.said()}"
        port = re.search(r"^(\d+)\n", self.said(), re.M)
        if port:
            self.url = f"http://127.0.0.1:{port[1]}"
        return port

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def get(self, path, times=1):
        for _ in range(times):
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                assert answer.read() == b"done\n"

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def programs(folder, agent):
    """One of each language, started at once."""
    with contextlib.ExitStack() as stack:
        made = []
        for language in LANGUAGES:
            made.append(Program(folder, language, agent))
            stack.callback(made[-1].close)
        for program in made:
            wait_for(program.listening, lambda p=program: f"{p.language} to listen: {p.said()}", 30)
        yield made


def rule_of(document):
    """The sampling rule that the SDK wrote into a segment; the SDKs differ in where."""
    xray = document.get("aws", {}).get("xray", {})
    return xray.get("sampling_rule_name") or xray.get("rule_name")


def path_of(document):
    return "/" + document["http"]["request"]["url"].split("/", 3)[3]


def test_rules_and_targets_reach_the_sdks_and_rule(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as xray:
        xray.sampling.rules = [NOTHING, EVERYTHING]
        backends = {"aws": {"type": "xray", "region": xray.region, "endpoint": xray.url}}
        with Mobula(tmp_path, backends, batch={"age": "100ms"}) as m, programs(tmp_path, m) as servers:

            def arrived(name, path=""):
                return [d for d in map(json.loads, list(xray.documents)) if d["name"] == name and path_of(d).startswith(path)]

            # The first decision makes an SDK ask for the rules; until they are there, its local ones hold.
            for server in servers:
                wait_for(lambda s=server: s.get("/warm") or any(rule_of(d) == "all-others" for d in arrived(s.name)),
                         f"the rules in {server.language}", 20)
            calls = collections.Counter(r.target for r in xray.requests)
            assert 1 <= calls["/GetSamplingRules"] <= 2, calls  # one answer is good for all four
            for server in servers:
                server.get("/checkout/42?a=b", REQUESTS)
                server.get("/orders/7", REQUESTS)
            for server in servers:
                wait_for(lambda s=server: len(arrived(s.name, "/orders")) == REQUESTS, f"the orders of {server.language}")

            # Each SDK tells what it did, about 10 s after it began, and each is answered on its own.
            def reported():
                return {(s["ClientID"], s["RuleName"]): s for s in list(xray.sampling.statistics)}

            wait_for(lambda: sum(rule == "checkout" for _, rule in reported()) == len(servers), reported, 20)
            checkouts = [s for s in xray.sampling.statistics if s["RuleName"] == "checkout"]
            assert all((s["RequestCount"], s["SampledCount"], s["BorrowCount"]) == (REQUESTS, 0, 0) for s in checkouts), checkouts
            others = collections.Counter()
            for s in xray.sampling.statistics:
                if s["RuleName"] == "all-others":
                    others[s["ClientID"]] += s["SampledCount"]
            assert len(others) == len(servers) and all(count >= REQUESTS for count in others.values()), others

            # A rate is changed and a rule is added. The next targets carry the rate and say that the rules are new; those SDKs
            # that heed it fetch them, and are not given what the agent remembers. (Node takes the time for milliseconds, Java
            # does not look at it.)
            xray.sampling.change([{**NOTHING, "FixedRate": 1.0}, NEW, EVERYTHING])
            waiting = {(server, path, rule) for server in servers for path, rule in (("/checkout/now", "checkout"), ("/new", "new"))
                       if rule == "checkout" or server.language in ("python", "go")}

            def all_changed():
                for server, path, rule in list(waiting):
                    server.get(path)
                    if any(rule_of(d) == rule for d in arrived(server.name, path)):
                        waiting.remove((server, path, rule))
                time.sleep(0.1)
                return not waiting

            wait_for(all_changed, lambda: f"the change in {[(s.language, path) for s, path, _ in waiting]}", 30)
            check_balance(m.settled(0))
            assert not m.metric("mobula_sampling_requests_total", outcome="failed")
            m.stop()
        for language in LANGUAGES:
            found = arrived(language + ".example.com")
            # Nothing of /checkout before the change, everything else with the rule it was sampled by.
            assert not [d for d in found if path_of(d).startswith("/checkout/42")]
            assert {rule_of(d) for d in found if path_of(d).startswith("/orders")} == {"all-others"}, language
            assert all("work" in (s["name"] for s in d["subsegments"]) for d in found), (language, found[0])
        polls = [r for r in xray.requests if r.target in ("/GetSamplingRules", "/SamplingTargets")]
        assert all(r.key_id == KEY[0] for r in polls) and not xray.problems, xray.problems
