"""SIGHUP: the configuration is read again and taken up without losing a datagram, or stays as it was."""
import collections
import contextlib
import json
import os
import signal
import threading
import time

import pytest
from fake_xray import FakeXray, Key
from mobula import KEY, SANITIZED, Mobula, check_balance, free_port, read_lines, same_documents, segment, wait_for

RATE = 2000 if SANITIZED else 6000


def file(path):
    return {"type": "file", "path": path}


def xray(fake, **more):
    return {"type": "xray", "region": fake.region, "endpoint": fake.url, "telemetry": "off", **more}


def write(m, **sections):
    """Changes the configuration on disk; a section that is None goes."""
    m.config.update(sections)
    m.config = {name: value for name, value in m.config.items() if value is not None}
    with open(m.config_path + ".new", "w", encoding="utf-8") as f:
        json.dump(m.config, f)
    os.rename(m.config_path + ".new", m.config_path)


def reloads(m, outcome):
    return m.metric("mobula_config_reloads_total", outcome=outcome)


def hang_up(m, outcome="ok"):
    """SIGHUP, and waits for its end, which must be `outcome`."""
    before = {name: reloads(m, name) for name in ("ok", "failed")}
    m.process.send_signal(signal.SIGHUP)
    wait_for(lambda: reloads(m, "ok") + reloads(m, "failed") > sum(before.values()), "the end of the reload", 20)
    assert reloads(m, outcome) == before[outcome] + 1, m.log[-2000:]
    assert m.metric("mobula_config_last_reload_success") == (outcome == "ok")


def reload(m, **sections):
    write(m, **sections)
    hang_up(m)


@contextlib.contextmanager
def load(m, documents):
    """Sends them at RATE meanwhile, and all of them before the end."""
    path = os.path.join(m.folder, "in.jsonl")
    with open(path, "wb") as f:
        f.write(b"".join(document + b"\n" for document in documents))
    results = []
    thread = threading.Thread(target=lambda: results.append(m.play(path, RATE)))
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert results and results[0]["sent"] == len(documents), results
    assert results[0]["seconds"] < 1.5 * len(documents) / RATE, "not the load that was meant"


def nothing_lost(ledger, documents):
    check_balance(ledger)
    ingest = ledger["ingest"]
    assert ingest["kernel_drops"] == 0 and ingest["accepted"] == len(documents), ingest
    assert ingest["open"] == 0 and ingest["routed"] + ingest["filtered"] == len(documents), ingest
    for name, lane in ledger["lanes"].items():
        assert not lane["dropped"] and lane["held"] == 0, (name, lane)


def test_routes_go_back_and_forth_under_load_and_nothing_is_lost(tmp_path):
    backends = {"a": file("a.jsonl"), "b": file("b.jsonl")}
    documents = [segment() for _ in range(8 * RATE)]
    with Mobula(tmp_path, backends, routes=[{"to": ["a"]}]) as m:
        with load(m, documents):
            for i in range(20):
                reload(m, routes=[{"to": ["ba"[i % 2]]}])
        m.settled()
        nothing_lost(m.stop(), documents)
        a, b = read_lines(tmp_path / "a.jsonl"), read_lines(tmp_path / "b.jsonl")
        same_documents(a + b, documents)
        assert len(a) > RATE / 10 and len(b) > RATE / 10, (len(a), len(b))


def test_backends_come_change_and_go_under_load(tmp_path):
    always = file("always.jsonl")
    documents = [segment() for _ in range(8 * RATE)]
    # Without routes everything goes to all: "always" must have each document once, whatever happens beside it.
    with Mobula(tmp_path, {"always": always}) as m:
        with load(m, documents):
            for i in range(5):
                reload(m, backends={"always": always, "guest": file(f"guest-{i}.jsonl")})
                reload(m, backends={"always": {**always, "rotate": {"size": "1GiB"}}, "guest": file(f"guest-{i}.jsonl")})
                reload(m, backends={"guest": file(f"guest-{i}b.jsonl"), "always": always})
                reload(m, backends={"always": always, "nobody": {"type": "null"}})
        ledger = m.settled()
        nothing_lost(ledger, documents)
        same_documents(read_lines(tmp_path / "always.jsonl"), documents)
        assert ledger["lanes"]["always"]["entered"] == len(documents)
        guests = [line for i in range(5) for suffix in ("", "b") for line in read_lines(tmp_path / f"guest-{i}{suffix}.jsonl")]
        assert len(guests) == len(set(guests)) > 0 and set(guests) <= set(documents)
        # A backend that has gone stays in the books, once, with what all its lanes had.
        assert ledger["lanes"]["guest"] == {"entered": len(guests), "restored": 0, "delivered": len(guests), "dropped": {}, "held": 0,
                                            "spooled": 0}
        samples = collections.Counter(line.rsplit(" ", 1)[0] for line in m.get("/metrics")[1].splitlines() if line[0] != "#")
        assert max(samples.values()) == 1, samples.most_common(1)
        m.stop()


BAD = {
    "syntax": ("{ not: [closed", r"mobula.yaml:\d+"),
    "unknown_backend": ({"routes": [{"to": ["b"]}]}, 'no backend is named "b"'),
    "unknown_key": ({"batch": {"documentss": 3}}, 'did you mean "documents"?'),
    "no_region": ({"backends": {"a": {"type": "xray", "profile": "nobody"}}}, "region"),
    "unwritable": ({"backends": {"a": file("a.jsonl"), "b": file("a.jsonl/b.jsonl")}}, "backends.b: "),
    "too_small": ({"backends": {"a": {**file("a.jsonl"), "quota": "1GiB"}}}, "buffer.memory"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_configuration_keeps_the_old_one_and_says_why(tmp_path, how):
    import re
    bad, why = BAD[how]
    environment = {"AWS_REGION": None, "AWS_EC2_METADATA_DISABLED": "true"}
    with Mobula(tmp_path, {"a": file("a.jsonl")}, environment=environment, aws={"metadata": "off"}) as m:
        good = dict(m.config)
        if isinstance(bad, str):
            with open(m.config_path, "w", encoding="utf-8") as f:
                f.write(bad)
        else:
            write(m, **bad)
        for _ in range(2):
            hang_up(m, "failed")
        failures = m.events("reload_failed")
        assert len(failures) == 2 and all(f["level"] == "error" for f in failures), failures
        assert all(re.search(re.escape(why) if "\\" not in why else why, f["message"]) for f in failures), failures
        status, body = m.get("/readyz")
        assert status == 200 and "degraded: the configuration on disk is not in use: " in body, body
        document = segment()
        m.send(document)
        m.settled()
        m.config = good
        reload(m)
        assert m.get("/readyz")[1] == "ready\n"
        m.send(document)
        m.settled()
        m.stop()
        assert read_lines(tmp_path / "a.jsonl") == [document] * 2


def test_what_needs_a_restart_is_named_and_the_rest_is_taken_up(tmp_path):
    with Mobula(tmp_path, {"a": file("a.jsonl")}) as m:
        address = m.config["receivers"]["udp"]["address"]
        receivers = {"udp": {"address": "127.0.0.1:1", "workers": 2}}
        reload(m, receivers=receivers, backends={"b": file("b.jsonl")}, log={"format": "json", "level": "warn"})
        told = {event["message"] for event in m.events("reload_restart")}
        assert told == {f"receivers.udp.address: {address} -> 127.0.0.1:1 needs a restart",
                        "receivers.udp.workers: auto -> 2 needs a restart"}
        m.send(segment())
        m.settled()
        assert len(read_lines(tmp_path / "b.jsonl")) == 1
        hidden = len(m.events("reload"))
        reload(m, log={"format": "json", "level": "debug"})
        assert len(m.events("reload")) == hidden + 1, "the level is back"
        m.stop()


def test_an_unchanged_backend_keeps_its_connection_and_a_changed_one_its_documents(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as fake:
        with Mobula(tmp_path, {"prod": xray(fake)}) as m:
            documents = []

            def send():
                documents.append(segment())
                m.send(documents[-1])
                wait_for(lambda: len(fake.documents) == len(documents), "the document", 10)
                m.settled()

            send()
            for backends in ({"prod": xray(fake), "side": file("side.jsonl")}, {"prod": xray(fake)}):
                reload(m, backends=backends)
                send()
            assert len({request.connection for request in fake.requests}) == 1
            # Another way to the same far side: a new connection, the same lane.
            reload(m, backends={"prod": xray(fake, timeout="3s")})
            send()
            assert len({request.connection for request in fake.requests}) == 2
            ledger = m.stop()
            assert ledger["lanes"]["prod"]["delivered"] == len(documents)
            assert not fake.problems, fake.problems
        same_documents([d.encode() if isinstance(d, str) else d for d in fake.documents], documents)


def test_what_was_accepted_for_one_far_side_goes_to_no_other(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as old, FakeXray(keys=[Key(*KEY)]) as new:
        old.fail(status=503)
        with Mobula(tmp_path, {"prod": xray(old)}) as m:
            first, second = [segment() for _ in range(120)], [segment() for _ in range(80)]
            m.send(*first)
            wait_for(lambda: m.ledger()["lanes"]["prod"]["held"] == len(first), "the first to be held")
            reload(m, backends={"prod": xray(new)})
            m.send(*second)
            wait_for(lambda: len(new.documents) == len(second), "the second at the new one")
            assert m.ledger()["lanes"]["prod"]["held"] == len(first)
            old.heal()
            wait_for(lambda: len(old.documents) == len(first), "the first at the old one")
            wait_for(lambda: m.events("backend_left"), "the old lane's end")
            nothing_lost(m.stop(), first + second)


def test_a_backend_that_is_taken_out_by_mistake_comes_back_whole(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as fake:
        fake.fail(status=503)
        with Mobula(tmp_path, {"prod": xray(fake), "rest": file("rest.jsonl")}) as m:
            documents = [segment() for _ in range(100)]
            m.send(*documents)
            wait_for(lambda: m.ledger()["lanes"]["prod"]["held"] == len(documents), "them to be held")
            reload(m, backends={"rest": file("rest.jsonl")})
            reload(m, backends={"rest": file("rest.jsonl"), "prod": xray(fake)})
            time.sleep(1)
            assert m.ledger()["lanes"]["prod"]["held"] == len(documents)
            fake.heal()
            nothing_lost(m.settled(), documents)
            m.stop()


def test_a_backend_that_leaves_while_it_is_down_is_counted(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as fake:
        fake.fail(status=503)
        with Mobula(tmp_path, {"prod": xray(fake), "rest": file("rest.jsonl")}, shutdown={"grace": "1s"}) as m:
            m.send(*[segment() for _ in range(100)])
            wait_for(lambda: m.ledger()["lanes"]["prod"]["held"] == 100, "them to be held")
            reload(m, backends={"rest": file("rest.jsonl")})
            wait_for(lambda: m.events("backend_left"), "its end")
            ledger = m.stop()
            assert ledger["lanes"]["prod"]["dropped"] == {"shutdown": 100}
            assert ledger["lanes"]["rest"]["delivered"] == 100


def test_with_a_spool_it_finds_its_documents_again(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as fake:
        fake.fail(status=503)
        backends = {"prod": xray(fake), "rest": file("rest.jsonl")}
        with Mobula(tmp_path, backends, shutdown={"grace": "1s"}, buffer={"spool": {"path": "spool"}}) as m:
            documents = [segment() for _ in range(100)]
            m.send(*documents)
            wait_for(lambda: m.ledger()["lanes"]["prod"]["held"] + m.ledger()["lanes"]["prod"]["spooled"] == 100, "them to be held")
            reload(m, backends={"rest": file("rest.jsonl")})
            wait_for(lambda: m.events("backend_left"), "its end")
            assert m.ledger()["lanes"]["prod"]["dropped"] == {"spool_foreign": 100}
            fake.heal()
            reload(m, backends=backends)
            wait_for(lambda: len(set(fake.documents)) == 100, "them at the far side", 20)
            m.settled()
            check_balance(m.stop())
        same_documents([d.encode() if isinstance(d, str) else d for d in set(fake.documents)], documents)


def test_a_backend_that_hangs_holds_up_no_reload(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as fake:
        fake.fail(hang=True)
        with Mobula(tmp_path, {"prod": xray(fake, timeout="60s")}, shutdown={"grace": "1s"}) as m:
            m.send(*[segment() for _ in range(10)])
            wait_for(lambda: m.metric("mobula_backend_calls_in_flight", backend="prod") == 1, "the call")
            begin = time.monotonic()
            reload(m, backends={"rest": file("rest.jsonl")})
            documents = [segment() for _ in range(10)]
            m.send(*documents)
            wait_for(lambda: len(read_lines(tmp_path / "rest.jsonl")) == 10, "the others", 5)
            assert time.monotonic() - begin < 10
            wait_for(lambda: m.events("backend_left"), "its end")
            ledger = m.stop()
            assert ledger["lanes"]["prod"]["dropped"] == {"shutdown": 10}


def test_many_hangups_and_an_end_in_the_middle(tmp_path):
    documents = [segment() for _ in range(2 * RATE)]
    with Mobula(tmp_path, {"a": file("a.jsonl"), "b": file("b.jsonl")}, routes=[{"to": ["a"]}]) as m:
        with load(m, documents):
            for i in range(10):
                write(m, routes=[{"to": ["ba"[i % 2]]}])
                m.process.send_signal(signal.SIGHUP)
        m.settled()
        write(m, routes=[{"to": ["b"]}], backends={"b": file("b.jsonl")})
        m.process.send_signal(signal.SIGHUP)
        nothing_lost(m.stop(), documents)
        same_documents(read_lines(tmp_path / "a.jsonl") + read_lines(tmp_path / "b.jsonl"), documents)


def test_a_reload_that_fails_sends_nothing_of_a_new_backend(tmp_path):
    """What the spool holds for a backend that only the refused configuration knows stays where it is."""
    with FakeXray(keys=[Key(*KEY)]) as away, FakeXray(keys=[Key(*KEY)]) as other:
        away.fail(status=503)
        variables = {"AWS_REGION": None, "AWS_EC2_METADATA_DISABLED": None,
                     "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
        buffer = {"memory": "8MiB", "spool": {"path": str(tmp_path / "spool")}}
        with Mobula(tmp_path, {"prod": xray(away)}, environment=variables, buffer=buffer, shutdown={"grace": "500ms"}) as m:
            sent = [segment() for _ in range(100)]
            m.send(*sent)
            m.settled(len(sent), lanes=())
            assert m.stop()["lanes"]["prod"]["spooled"] == len(sent)
            away.heal()
            m.sent = 0
            write(m, backends={"other": xray(other)})
            m.start()
            write(m, backends={"other": xray(other), "prod": xray(away), "nowhere": {"type": "xray"}})
            hang_up(m, "failed")
            assert not away.documents
            reload(m, backends={"other": xray(other), "prod": xray(away)})
            wait_for(lambda: len(away.documents) == len(sent), "what was spooled")
            assert m.stop()["lanes"]["prod"]["delivered"] == len(sent)
