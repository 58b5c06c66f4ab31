"""The sampling port of the built program: what SDKs are answered, what AWS is asked, and what strange clients can do."""
import contextlib
import http.client
import json
import os
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_xray import FakeXray, Key
from mobula import KEY, PATIENCE, SANITIZED, Mobula, free_port, read_lines, resident_kib, same_documents, segment, wait_for

RULES, TARGETS, SUMMARIES = "/GetSamplingRules", "/SamplingTargets", "/SamplingStatisticSummaries"
FILE = {"out": {"type": "file", "path": "out.jsonl"}}


def statistics(client="0123456789abcdef01234567", rule="Default"):
    return json.dumps({"SamplingStatisticsDocuments": [
        {"RuleName": rule, "ClientID": client, "Timestamp": time.time(), "RequestCount": 7, "SampledCount": 4, "BorrowCount": 3}]}).encode()


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()
        self.cache, self.keeps = response.headers.get("X-Mobula-Cache"), not response.will_close

    def json(self):
        return json.loads(self.body)


def call(m, method, path, body=b"", headers=None, timeout=20):
    connection = http.client.HTTPConnection("127.0.0.1", m.port, timeout=timeout * PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        return Answer(connection.getresponse())


def post(m, path, body=b"{}", headers=None):
    return call(m, "POST", path, body, headers)


def asked(xray, path):
    """The requests for `path` that came to AWS."""
    return [r for r in xray.requests if r.target == path]


@pytest.fixture(name="xray")
def fixture_xray():
    with FakeXray(keys=[Key(*KEY)]) as fake:
        yield fake
        assert not fake.problems, fake.problems


def agent(folder, xray, proxy=None, telemetry="off", **sections):
    """An agent whose sampling port asks `xray`; its segments go to a file, so that both can be told apart."""
    backends = {"aws": {"type": "xray", "region": xray.region, "endpoint": xray.url, "telemetry": telemetry}, **FILE}
    m = Mobula(folder, backends, start=False, routes=[{"to": ["out"]}], batch={"age": "50ms"}, **sections)
    m.config["receivers"]["proxy"] = proxy or {}
    start(m)
    return m


def start(m):
    """Starts it with its present configuration. It is ready for segments a moment before the sampling port is open."""
    with open(m.config_path, "w", encoding="utf-8") as f:
        json.dump(m.config, f)
    m.start()
    if m.config["receivers"].get("proxy", {}).get("address") == "off":
        return

    def accepts():
        address = m.config["receivers"].get("proxy", {}).get("address", f"127.0.0.1:{m.port}")
        with contextlib.suppress(OSError), socket.create_connection(address.rsplit(":", 1), timeout=1):
            return True
        return False

    wait_for(accepts, "the sampling port")


# --- what SDKs are answered --------------------------------------------------------------------------------------------
def test_calls_are_signed_and_passed_on_unchanged(tmp_path, xray):
    xray.sampling.change([{"RuleName": "é checkout", "URLPath": "/checkout*"}])
    with agent(tmp_path, xray) as m:
        rules = post(m, RULES)
        assert (rules.status, rules.cache) == (200, "miss")
        assert [r["SamplingRule"]["RuleName"] for r in rules.json()["SamplingRuleRecords"]] == ["é checkout", "Default"]
        assert rules.body == json.dumps(rules.json()).encode(), "the bytes are not the service's"
        for body in (statistics(), statistics().replace(b",", b" ,\n"), statistics(rule="X").replace(b"X", "é".encode())):
            answer = post(m, TARGETS, body)
            assert answer.status == 200 and "SamplingTargetDocuments" in answer.json()
            assert xray.requests[-1].body == body
        assert post(m, SUMMARIES).json()["SamplingStatisticSummaries"] == []
        assert all(r.status == 200 and "xray-daemon/" in r.header("User-Agent") for r in xray.requests)


@pytest.mark.parametrize("headers", [
    {"Content-Type": "application/json", "Connection": "keep-alive"},
    {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "Botocore/1.43 x", "amz-sdk-invocation-id": "5f0c",
     "amz-sdk-request": "attempt=1"},
    {},
    {"Content-Type": "application/x-amz-json-1.1", "Connection": "close", "Accept": "*/*", "X-Custom": "a  b"},
    {"Keep-Alive": "timeout=5", "Connection": "keep-alive"},
    {"TE": "trailers"},
    {"Connection": "X-Mine, X-Amzn-Mine", "X-Mine": "1", "X-Amzn-Mine": "1"},
    {"Upgrade": "h2c", "Connection": "upgrade"},
    {"Authorization": "AWS4-HMAC-SHA256 Credential=x", "X-Amz-Date": "20150830T123600Z", "X-Amz-Security-Token": "stolen"},
    {"X-Amz-Content-Sha256": "0" * 64},
    {"Proxy-Authorization": "Basic eDp5", "Via": "1.1 x", "Forwarded": "for=10.0.0.1", "X-Forwarded-For": "10.0.0.1"},
    {"X-Amzn-Trace-Id": "Root=1-5f84c7a5-0123456789abcdef01234567", "Content-Type": "a  b ; c=\"é\""},
], ids=str)
def test_no_header_of_a_client_spoils_the_signature(tmp_path, xray, headers):
    with agent(tmp_path, xray) as m:
        assert post(m, TARGETS, statistics(), {k: v.encode("latin-1") for k, v in headers.items()}).status == 200
        passed = {name.lower() for name, _ in asked(xray, TARGETS)[0].headers}
        assert not passed & {"keep-alive", "te", "upgrade", "x-mine", "x-amzn-mine", "proxy-authorization", "x-forwarded-for", "via",
                             "forwarded", "x-custom", "accept-encoding"}, passed


def test_temporary_credentials(tmp_path):
    key = Key("ASIAPROXY", "p/+=", "token/+==" * 50)
    with FakeXray(keys=[key]) as xray, agent(tmp_path, xray, environment=key.environment()) as m:
        assert post(m, TARGETS, statistics()).status == 200
        assert not xray.problems, xray.problems


def test_one_call_of_the_service_answers_many_clients(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        xray.next({"delay": 0.5})
        with ThreadPoolExecutor(60) as pool:
            answers = list(pool.map(lambda _: post(m, RULES), range(60)))
        assert {a.status for a in answers} == {200} and len({a.body for a in answers}) == 1
        assert len(asked(xray, RULES)) == 1
        hit = post(m, RULES)
        assert (hit.cache, hit.body) == ("hit", answers[0].body) and 0 <= int(hit.headers["Age"]) < 60
        assert len(asked(xray, RULES)) == 1


def test_targets_are_never_shared(tmp_path, xray):
    clients = ["%024x" % i for i in range(60)]
    with agent(tmp_path, xray) as m:
        with ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(lambda c: post(m, TARGETS, statistics(c)), clients * 2))
        assert {a.status for a in answers} == {200}
        assert all(a.cache is None for a in answers)
        assert sorted(d["ClientID"] for d in xray.sampling.statistics) == sorted(clients * 2)


def test_a_change_of_rules_arrives_with_the_next_poll(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        assert len(post(m, RULES).json()["SamplingRuleRecords"]) == 1
        xray.sampling.change([{"RuleName": "new", "URLPath": "/new*"}])
        assert post(m, RULES).cache == "hit"
        assert post(m, TARGETS, statistics()).json()["LastRuleModification"] == xray.sampling.modified
        assert len(post(m, RULES).json()["SamplingRuleRecords"]) == 2


def test_rules_outlive_an_outage(tmp_path, xray):
    with agent(tmp_path, xray, proxy={"rules_age": "0s"}) as m:
        good = post(m, RULES)
        assert good.cache == "miss"
        # Each refused call leaves a pause before the next one, in which the service is not even asked.
        for fault in ({"status": 503}, {"status": 429, "code": "ThrottledException"}, {"status": 403, "code": "AccessDeniedException"},
                      {"reset": True}, {"raw": "no HTTP at all\r\n\r\n"}, {"cut": 10}):
            xray.fail(**fault)
            stale = post(m, RULES)
            assert (stale.status, stale.cache, stale.body) == (200, "stale", good.body), fault
            assert int(stale.headers["Age"]) < 60
        port = xray.port
        xray.stop()
        begin = time.monotonic()
        assert post(m, TARGETS, statistics()).status == 502
        assert post(m, RULES).cache == "stale"
        assert time.monotonic() - begin < 5 * PATIENCE
        with FakeXray(keys=[Key(*KEY)], port=port) as again:
            assert post(m, TARGETS, statistics()).status == 200
            wait_for(lambda: post(m, RULES).cache == "miss", "fresh rules")
            assert again.sampling.statistics and not again.problems


def test_a_service_that_hangs_is_a_time_out_and_disturbs_nobody(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        assert post(m, RULES).cache == "miss"
        xray.fail(hang=True)
        with ThreadPoolExecutor(80) as pool:
            begin = time.monotonic()
            hanging = [pool.submit(post, m, TARGETS, statistics()) for _ in range(80)]
            documents = [segment() for _ in range(60)]
            m.send(*documents)
            m.settled(len(documents), lanes=["out"])
            assert post(m, RULES).cache == "hit"
            assert time.monotonic() - begin < 6 * PATIENCE, "others had to wait"
            statuses = [h.result().status for h in hanging]
            assert 9 < time.monotonic() - begin < 15 * PATIENCE
        # More than 64 calls at once are turned away at once.
        assert set(statuses) == {503, 504} and statuses.count(504) == 64, statuses
        xray.heal()
        assert post(m, TARGETS, statistics()).status == 200
        same_documents(read_lines(tmp_path / "out.jsonl"), documents)


@pytest.mark.parametrize("status, code", [(400, "InvalidRequestException"), (403, "AccessDeniedException"), (404, "NotFound"),
                                          (429, "ThrottledException"), (500, "InternalFailure"), (302, None)])
def test_errors_of_the_service_pass(tmp_path, xray, status, code):
    with agent(tmp_path, xray) as m:
        xray.fail(status=status, code=code, message="told", headers={"Location": "http://127.0.0.1:1/", "Retry-After": "7"})
        for path in (TARGETS, RULES):
            answer = post(m, path, statistics() if path == TARGETS else b"{}")
            assert (answer.status, answer.headers.get("x-amzn-errortype"), answer.json()["Message"]) == (status, code, "told")
            assert answer.headers["Retry-After"] == "7" and answer.cache is None


def test_strange_answers_of_the_service(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        for raw, status in (("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"old\":1}", 200), ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", 502),
                            ("HTTP/1.1 200 OK\r\n\r\n" + "x" * (9 << 20), 502), ("HTTP/1.1 200 OK\r\nX: " + "y" * 70000 + "\r\n\r\n", 502),
                            ("HTTP/1.1 banana\r\n\r\n", 502), ("", 502)):
            xray.next({"raw": raw}, {"raw": raw})
            assert post(m, TARGETS, statistics()).status == status, raw[:80]
            xray.heal()
            with xray.lock:
                xray.script.clear()
        assert post(m, TARGETS, statistics()).status == 200


def test_big_bodies(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        xray.next({"body": json.dumps({"Pad": "p" * (3 << 19)})})
        answer = post(m, TARGETS, statistics() + b" " * (3 << 19))
        assert answer.status == 200 and len(answer.json()["Pad"]) == 3 << 19
        assert len(xray.requests[-1].body) > 3 << 19
        assert post(m, TARGETS, statistics() + b" " * (3 << 20)).status == 413


def test_floods_take_no_more_memory_than_planned(tmp_path, xray):
    def peak():
        with open(f"/proc/{m.process.pid}/status", encoding="ascii") as f:
            return int(next(line.split()[1] for line in f if line.startswith("VmHWM:")))

    def large(size):
        with contextlib.suppress(OSError):
            return post(m, TARGETS, statistics() + b" " * size).status
        return None

    with agent(tmp_path, xray) as m:
        assert post(m, TARGETS, statistics()).status == 200
        before = resident_kib(m.process.pid)
        # Bodies: X-Ray takes its time.
        xray.fail(delay=2, body="{}")
        with ThreadPoolExecutor(24) as pool:
            assert set(pool.map(large, [(2 << 20) - 1000 * i for i in range(1, 25)])) <= {200, 503, None}
        # Answers.
        xray.fail(delay=0.5, body="y" * (7 << 18))
        with ThreadPoolExecutor(24) as pool:
            statuses = list(pool.map(large, [10] * 48))
        assert set(statuses) == {200, 503}, statuses
        # Requests whose clients do not wait.
        xray.fail(hang=True)
        head = b"POST /GetSamplingRules HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n" + b"".join(b"x-%02d: %s\r\n" % (i, b"a" * 1000) for i in range(15))
        begin = time.monotonic()
        for _ in range(5000):
            with connect(m) as c:
                c.sendall(head + b"\r\n{}")
            if time.monotonic() - begin > 8:
                break
        # Heads that never end.
        slow = [connect(m) for _ in range(500)]
        for c in slow:
            with contextlib.suppress(OSError):
                c.sendall(head)
        xray.heal()
        assert post(m, TARGETS, statistics()).status == 200
        for c in slow:
            c.close()
        grown = peak() - before
        print(f"{before} KiB, at most {grown} KiB more")
        assert SANITIZED or grown < 9 << 10, "more than is planned, and what is beside the plan in 64 MiB"
        wait_for(lambda: SANITIZED or resident_kib(m.process.pid) - before < 2 << 10, "the memory to come back")


def test_anything_else_is_refused_and_never_passed_on(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        for method, path in (("GET", "/anything?x=1&a=b"), ("DELETE", "/foo"), ("GET", RULES), ("POST", "/Traces"), ("PUT", TARGETS),
                             ("POST", "/CreateSamplingRule"), ("POST", "/EncryptionConfig"), ("POST", "/TraceSegments"), ("OPTIONS", "*"),
                             ("HEAD", RULES), ("POST", "/x/.." + RULES), ("POST", RULES + "/"), ("POST", "http://127.0.0.1" + RULES), ("BREW", RULES)):
            answer = call(m, method, path, b"" if method in ("GET", "HEAD") else b"{}")
            assert answer.status == 403, (method, path)
            if method != "HEAD":
                assert "receivers.proxy.paths: all" in answer.json()["Message"] and answer.headers["Content-Type"] == "application/json"
        assert not xray.requests


def test_everything_passes_where_that_is_asked_for(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as xray, agent(tmp_path, xray, proxy={"paths": "all"}) as m:
        for method, path in (("GET", "/anything?x=1&a=b"), ("DELETE", "/foo"), ("POST", "/Traces"), ("PUT", TARGETS)):
            assert call(m, method, path, b"").status == 404
            assert (xray.requests[-1].method, xray.requests[-1].target) == (method, path)
            assert xray.requests[-1].header("Authorization")
        assert post(m, RULES).cache == "miss"


def test_without_credentials_it_says_so_soon(tmp_path):
    nothing = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "HOME": str(tmp_path)}
    with FakeXray() as xray, agent(tmp_path, xray, environment=nothing) as m:
        begin = time.monotonic()
        answer = post(m, TARGETS, statistics())
        assert (answer.status, "credentials" in answer.json()["Message"]) == (502, True), answer.body
        # Which file or role it is about is not for everybody.
        assert str(tmp_path) not in answer.body.decode() and m.events("sampling_failed")
        assert time.monotonic() - begin < 15 * PATIENCE and not xray.requests


def test_without_aws_the_default_rule_is_answered(tmp_path):
    m = Mobula(tmp_path, FILE, start=False)
    start(m)
    with m:
        rule = post(m, RULES).json()["SamplingRuleRecords"][0]["SamplingRule"]
        assert (rule["RuleName"], rule["FixedRate"], rule["ReservoirSize"], rule["Attributes"], rule["Version"]) == ("Default", 0.05, 1, {}, 1)
        with ThreadPoolExecutor(10) as pool:
            answers = [a.json() for a in pool.map(lambda i: post(m, TARGETS, statistics("%024x" % i)), range(30))]
        targets = [a["SamplingTargetDocuments"][0] for a in answers]
        assert {t["FixedRate"] for t in targets} == {0.05} and sum(t["ReservoirQuota"] for t in targets) == 1
        assert all(t["Interval"] == 10 and 0 < t["ReservoirQuotaTTL"] - time.time() <= 21 for t in targets)
        assert all(isinstance(a["LastRuleModification"], (int, float)) for a in answers)
        unknown = post(m, TARGETS, statistics(rule="checkout")).json()
        assert unknown["UnprocessedStatistics"][0]["RuleName"] == "checkout"
        assert post(m, TARGETS, b"{").status == 400
        assert post(m, SUMMARIES).json()["SamplingStatisticSummaries"] == []
        assert post(m, "/TraceSegments").status == 403


# --- what clients can do -----------------------------------------------------------------------------------------------
def connect(m):
    return socket.create_connection(("127.0.0.1", m.port), timeout=20 * PATIENCE)


def until_closed(connection, limit=1 << 20):
    """Everything the agent still says; fails when it says nothing for long and does not close."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while len(data) < limit:
            piece = connection.recv(65536)
            if not piece:
                break
            data += piece
    return data


def test_connections_are_kept(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        connection = http.client.HTTPConnection("127.0.0.1", m.port, timeout=20)
        # Longer than the agent waits for anything but the next request of a kept connection.
        for pause in (0, 0, 6):
            time.sleep(pause)
            connection.request("POST", TARGETS, statistics(), {"Content-Type": "application/json"})
            answer = Answer(connection.getresponse())
            assert (answer.status, answer.keeps) == (200, True)
        connection.close()


def test_old_and_pipelining_clients(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        with connect(m) as c:
            c.sendall(b"POST /GetSamplingRules HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
            answer = until_closed(c)
            assert answer.startswith(b"HTTP/1.") and b" 200 " in answer.split(b"\r\n")[0] and b"SamplingRuleRecords" in answer
        request = b"POST /GetSamplingRules HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        with connect(m) as c:
            c.sendall((request + b"\r\n{}") * 3 + request + b"Connection: close\r\n\r\n{}")
            assert until_closed(c).count(b"HTTP/1.1 200 ") == 4
        with connect(m) as c:
            c.sendall(request + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
            assert c.recv(100).startswith(b"HTTP/1.1 100 ")
            c.sendall(b"{}")
            assert b"HTTP/1.1 200 " in until_closed(c)
        with connect(m) as c:
            body = statistics()
            c.sendall(b"POST /SamplingTargets HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
            for byte in body:
                c.sendall(b"1\r\n" + bytes([byte]) + b"\r\n")
            c.sendall(b"0\r\n\r\n")
            assert b" 200 " in until_closed(c).split(b"\r\n")[0]
            assert asked(xray, TARGETS)[0].body == body and not asked(xray, TARGETS)[0].header("Transfer-Encoding")


@pytest.mark.parametrize("data, status", [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    (b"POST /GetSamplingRules HTTP/9.9\r\n\r\n", b"400"),
    (b"POST /GetSamplingRules HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"),
    (b"POST /GetSamplingRules HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
    (b"POST /GetSamplingRules HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n{}", b"413"),
    (b"POST /GetSamplingRules HTTP/1.1\r\nX: " + b"y" * 20000 + b"\r\n\r\n", b"431"),
    (b"POST /" + b"z" * 20000 + b" HTTP/1.1\r\n\r\n", b"431"),
], ids=lambda v: repr(v[:60]))
def test_what_is_no_request_is_refused(tmp_path, xray, data, status):
    with agent(tmp_path, xray) as m, connect(m) as c:
        c.sendall(data)
        assert until_closed(c).split(b"\r\n")[0].split(b" ")[1] == status
        assert post(m, RULES).status == 200


def test_a_body_without_end_costs_little(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        before = resident_kib(m.process.pid)

        def send(_):
            """Megabytes without end, until the agent has answered; the status, or none where it just closed."""
            chunk, answer = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n", b""
            with connect(m) as c, contextlib.suppress(OSError):
                c.sendall(b"POST /SamplingTargets HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _ in range(200):
                    c.sendall(chunk)
                    if select.select([c], [], [], 0)[0]:
                        answer = c.recv(1000)
                        break
                else:
                    return "it takes everything"
            return answer.split(b" ")[1] if answer else None

        with ThreadPoolExecutor(12) as pool:
            statuses = list(pool.map(send, range(24)))
        assert set(statuses) <= {b"413", b"503", None} and set(statuses) != {None}, statuses
        # 4 MiB at once, and what the allocator keeps of them; a sanitizer's keeps all for a while.
        assert SANITIZED or resident_kib(m.process.pid) - before < 8 << 10
        assert post(m, TARGETS, statistics()).status == 200


def test_slow_clients_are_ended_and_hold_up_nobody(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        slow = [connect(m) for _ in range(200)]
        stop, alive = threading.Event(), []

        def trickle():
            """A byte a time for each, until the agent closes."""
            left = list(slow)
            while left and not stop.wait(0.2):
                for c in list(left):
                    try:
                        c.sendall(b"P" if c.fileno() % 2 else b"POST /GetSamplingRules HTTP/1.1\r\nX: ")
                        c.setblocking(False)
                        if c.recv(1000) == b"":
                            left.remove(c)
                    except BlockingIOError:
                        pass
                    except OSError:
                        left.remove(c)
                    else:
                        continue
            alive.extend(left)

        thread = threading.Thread(target=trickle)
        thread.start()
        begin = time.monotonic()
        while thread.is_alive() and time.monotonic() - begin < 20 * PATIENCE:
            asked_at = time.monotonic()
            assert post(m, TARGETS, statistics()).status == 200
            assert time.monotonic() - asked_at < 2 * PATIENCE
            time.sleep(0.1)
        stop.set()
        thread.join()
        assert not alive, f"{len(alive)} slow clients are still there after {time.monotonic() - begin:.0f} s"
        for c in slow:
            c.close()


def test_more_connections_than_allowed_lock_nobody_out(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        idle = []
        try:
            for _ in range(700):
                idle.append(connect(m))
            for _ in range(20):
                assert post(m, RULES).status == 200
            descriptors = len(os.listdir(f"/proc/{m.process.pid}/fd"))
            assert descriptors < 600, descriptors
        finally:
            for c in idle:
                c.close()


def test_stops_with_clients_and_calls_under_way(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        xray.fail(hang=True)
        waiting = [connect(m) for _ in range(3)]
        for c in waiting[:2]:
            c.sendall(b"POST /SamplingTargets HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        wait_for(lambda: len(xray.requests) == 2, "the calls to arrive")
        begin = time.monotonic()
        m.stop()
        assert time.monotonic() - begin < 5 * PATIENCE
        for c in waiting:
            until_closed(c)
            c.close()


# --- where it listens --------------------------------------------------------------------------------------------------
def test_an_address_of_its_own_or_none(tmp_path, xray):
    port = free_port()
    with agent(tmp_path, xray, proxy={"address": f"127.0.0.1:{port}"}) as m:
        with pytest.raises(ConnectionRefusedError):
            connect(m)
        m.port = port
        assert post(m, RULES).status == 200
        m.stop()
    with agent(tmp_path, xray, proxy={"address": "off"}) as m:
        m.send(segment())
        m.settled()
        with pytest.raises(ConnectionRefusedError):
            connect(m)


def test_a_port_that_was_taken_is_had_when_it_is_free(tmp_path, xray):
    m = Mobula(tmp_path, {"aws": {"type": "xray", "region": xray.region, "endpoint": xray.url, "telemetry": "off"}}, start=False)
    with socket.create_server(("127.0.0.1", m.port)):
        m.start()
        assert "sampling port" in m.get("/readyz")[1]
        assert m.events("sampling_port_failed")
    with m:
        wait_for(lambda: "sampling port" not in m.get("/readyz")[1], "the port")
        assert post(m, RULES).status == 200
        m.stop()


def test_junk_does_not_drive_out_the_rules(tmp_path, xray):
    with agent(tmp_path, xray, proxy={"rules_age": "1s"}) as m:
        good = post(m, RULES)
        assert good.cache == "miss"
        for i in range(40):
            post(m, RULES, b'{"a":%d}' % i)
            post(m, RULES, b'{"NextToken":"%d"}' % i)
        xray.fail(status=503)
        time.sleep(1.1)
        stale = post(m, RULES)
        assert (stale.status, stale.cache, stale.body) == (200, "stale", good.body)
        assert all("NextToken" in problem for problem in xray.problems), xray.problems
        xray.problems.clear()


def test_the_backend_that_is_named_answers(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as first, FakeXray(keys=[Key(*KEY)], region="eu-west-1") as second:
        backends = {name: {"type": "xray", "region": x.region, "endpoint": x.url, "telemetry": "off"} for name, x in (("a", first), ("b", second))}
        m = Mobula(tmp_path, backends, start=False)
        m.config["receivers"]["proxy"] = {"backend": "b"}
        start(m)
        with m:
            assert post(m, TARGETS, statistics()).status == 200
            assert (len(first.requests), len(second.requests)) == (0, 1)
            assert not second.problems, second.problems
