"""The spool: outages, ends and kills lose nothing that reached the disk."""
import contextlib
import glob
import json
import os
import signal
import socket
import stat
import subprocess

import pytest
from fake_xray import FakeXray, Key
from mobula import BINARY, KEY, Mobula, check_balance, same_documents, segment, wait_for


def documents(count, first=0, pad=500):
    return [segment(metadata={"n": first + n, "pad": "x" * pad}) for n in range(count)]


@contextlib.contextmanager
def agent(folder, fake, endpoint=None, spool=None, **sections):
    backends = {"prod": {"type": "xray", "region": fake.region, "endpoint": endpoint or fake.url, "timeout": "2s"}}
    buffer = {"memory": "8MiB", "spool": {"path": str(folder / "spool"), **(spool or {})}}
    with Mobula(folder, backends, buffer=buffer, shutdown={"grace": "2s"}, **sections) as m:
        yield m


def lane(ledger):
    return ledger["lanes"]["prod"]


def delivered_all(m):
    def done():
        found = lane(m.ledger())
        return found["held"] == 0 and found["spooled"] == 0 and found
    return wait_for(done, lambda: json.dumps(m.ledger()), 60)


def spooled(m, least):
    wait_for(lambda: lane(m.ledger())["spooled"] >= least, lambda: json.dumps(m.ledger()), 30)


def taken(fake):
    return [document.encode() for document in fake.documents]


def files(folder, kind="*.spool"):
    return glob.glob(str(folder / "spool" / "*" / kind))


def test_an_outage_of_more_than_memory_loses_nothing(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as fake:
        fake.fail(status=503)
        with agent(tmp_path, fake) as m:
            sent = documents(20000)
            m.send(*sent, rate=10000)
            spooled(m, 19000)
            assert "retrying: backend prod: http_503" in m.get("/readyz")[1]
            assert m.metric("mobula_backend_circuit_state", backend="prod", state="closed") == 0
            assert m.metric("mobula_spool_documents_held", backend="prod") > 0
            fake.heal()
            fresh = documents(100, first=len(sent))
            m.send(*fresh)
            books = delivered_all(m)
            assert books["delivered"] == len(sent) + len(fresh) and not books["dropped"], books
            assert m.metric("mobula_ledger_bugs_total") == 0
            m.stop()
            assert not [path for path in files(tmp_path, "*") if not path.endswith("lock")], "files that are done with"
        same_documents(taken(fake), sent + fresh)


def test_what_an_end_leaves_is_sent_by_the_next_start(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as fake:
        fake.fail(hang=True)
        with agent(tmp_path, fake) as m:
            sent = documents(3000)
            m.send(*sent)
            m.settled(len(sent), lanes=())
            books = lane(m.stop())
            assert books["spooled"] == len(sent) and not books["dropped"], books
            (line,) = m.events("ledger")
            assert f"delivered 0, spooled {len(sent)}, lost 0" in line["message"], line
            for path in files(tmp_path, "*"):
                assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, path
                assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700, path
            fake.heal()
            m.start()
            books = delivered_all(m)
            assert books["restored"] == len(sent) and books["delivered"] == len(sent), books
            m.stop()
        # What was in flight may have arrived before.
        assert set(sent) == set(taken(fake))


def test_an_end_waits_while_what_is_left_goes_to_disk(tmp_path):
    """More than can be written in a moment, and a device that is waited for."""
    with FakeXray(keys=[Key(*KEY)]) as fake:
        fake.fail(hang=True)
        with agent(tmp_path, fake, spool={"fsync": "batch"}) as m:
            m.config["buffer"]["memory"] = "96MiB"
            m.config["backends"]["prod"]["timeout"] = "60s"
            m.config["shutdown"] = {"grace": "200ms"}
            m.stop()
            m.write_config()
            m.start()
            sent = [segment(metadata={"noise": os.urandom(900).hex()}) for _ in range(20000)]
            m.send(*sent, rate=10000)
            m.settled(len(sent), lanes=())
            books = lane(m.stop())
            assert books["spooled"] == len(sent) and not books["dropped"] and books["held"] == 0, books


@pytest.mark.parametrize("ends", ("by a signal", "for want of a region"))
def test_what_came_before_an_end_of_the_start_goes_to_disk(tmp_path, ends):
    with FakeXray(keys=[Key(*KEY)]) as fake, socket.socket() as metadata:
        metadata.bind(("127.0.0.1", 0))
        metadata.listen(50)
        variables = {"AWS_REGION": None, "AWS_EC2_METADATA_DISABLED": None,
                     "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{metadata.getsockname()[1]}"}
        buffer = {"memory": "8MiB", "spool": {"path": str(tmp_path / "spool")}}
        with Mobula(tmp_path, {"prod": {"type": "xray", "endpoint": fake.url}}, environment=variables, buffer=buffer,
                    shutdown={"grace": "500ms"}, start=False) as m:
            m.launch()
            wait_for(lambda: m.events("admin"), "the sockets")
            sent = documents(300)
            m.send(*sent)
            wait_for(lambda: m.ledger()["ingest"]["datagrams"] == len(sent), "the datagrams")
            if ends == "by a signal":
                m.process.send_signal(signal.SIGTERM)
            else:
                metadata.close()
            assert m.process.wait(60) == (0 if ends == "by a signal" else 1), m.log[-2000:]
            books = m.final_ledger()
            check_balance(books)
            assert lane(books)["spooled"] == len(sent), books
        ran = subprocess.run([BINARY, "spool", "ls", "--json", str(tmp_path / "spool")], stdout=subprocess.PIPE, check=True)
        assert json.loads(ran.stdout)["documents"] == len(sent)


def test_a_kill_loses_nothing_that_is_on_disk(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as fake:
        fake.fail(status=429)
        with agent(tmp_path, fake) as m:
            sent = documents(5000)
            m.send(*sent)
            spooled(m, 4500)
            held = lane(m.ledger())["spooled"]
            m.process.send_signal(signal.SIGKILL)
            m.process.wait()
            m.sent = 0
            fake.heal()
            m.start()
            books = delivered_all(m)
            assert books["restored"] == books["delivered"] and books["restored"] >= held, (books, held)
            check_balance(m.stop())
        same = set(taken(fake))
        assert len(same) >= held and same <= set(sent)
        assert len(taken(fake)) == len(same), "a kill with nothing being sent repeats nothing"


def only_fresh_ones_go_to(fake, m):
    """What was spooled for another is set aside; ends the agent."""
    wait_for(lambda: m.events("spool_foreign"), "the file to be set aside")
    fresh = documents(10, first=1000)
    m.sent = 0
    m.send(*fresh)
    m.settled(10)
    check_balance(m.stop())
    same_documents(taken(fake), fresh)


def test_documents_never_go_to_another_far_side(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as old, FakeXray(keys=[Key(*KEY)]) as new:
        old.fail(status=503)
        with agent(tmp_path, old) as m:
            m.send(*documents(500))
            m.settled(500, lanes=())
            assert lane(m.stop())["spooled"] == 500
            m.config["backends"]["prod"]["endpoint"] = new.url
            m.write_config()
            m.start()
            only_fresh_ones_go_to(new, m)
            assert not old.documents
            # Back to where they belong.
            old.heal()
            m.config["backends"]["prod"]["endpoint"] = old.url
            m.write_config()
            m.start()
            assert delivered_all(m)["restored"] == 500
            m.stop()
        assert len(old.documents) == 500


def test_a_far_side_that_the_environment_names_is_one_too(tmp_path):
    there = {"AWS_REGION": "eu-west-1"}, {"AWS_REGION": "us-east-1"}
    with FakeXray(keys=[Key(*KEY)], region="eu-west-1") as old, FakeXray(keys=[Key(*KEY)], region="us-east-1") as new:
        for fake, environment in zip((old, new), there):
            environment["AWS_ENDPOINT_URL_XRAY"] = fake.url
        old.fail(status=503)
        with Mobula(tmp_path, {"prod": {"type": "xray"}}, buffer={"memory": "8MiB", "spool": {"path": str(tmp_path / "spool")}},
                    shutdown={"grace": "1s"}, environment=there[0]) as m:
            m.send(*documents(500))
            m.settled(500, lanes=())
            assert lane(m.stop())["spooled"] == 500
            m.environment.update(there[1])
            m.start()
            only_fresh_ones_go_to(new, m)
            old.heal()
            m.environment.update(there[0])
            m.start()
            assert delivered_all(m)["restored"] == 500
            m.stop()
        assert len(old.documents) == 500


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_that_somebody_else_put_there_is_not_used(tmp_path):
    planted = tmp_path / "spool" / "instance-0000000000000000"
    planted.mkdir(parents=True)
    os.chmod(planted.parent, 0o777)
    os.chmod(planted, 0o755)
    os.chown(planted, 65534, 65534)
    with FakeXray(keys=[Key(*KEY)]) as fake:
        fake.fail(status=503)
        with agent(tmp_path, fake) as m:
            (ready,) = m.events("spool_ready")
            assert ready["path"] != str(planted), ready
            m.send(*documents(300))
            m.settled(300, lanes=())
            assert lane(m.stop())["spooled"] == 300
        assert not os.listdir(planted)


def test_a_path_that_is_none_means_memory_only_and_says_so(tmp_path):
    (tmp_path / "spool").write_text("a file, not a directory")
    with FakeXray(keys=[Key(*KEY)]) as fake, agent(tmp_path, fake) as m:
        assert "degraded: spool: " in m.get("/readyz")[1]
        sent = documents(200)
        m.send(*sent)
        m.settled(200)
        assert m.metric("mobula_spool_on") == 0
        # Mended while it runs.
        os.remove(tmp_path / "spool")
        wait_for(lambda: m.metric("mobula_spool_on") == 1, "the spool to come up", 60)
        assert "spool" not in m.get("/readyz")[1]
        m.stop()
        same_documents(taken(fake), sent)


def test_a_small_spool_gives_up_the_oldest_and_counts_them(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as fake:
        fake.fail(status=503)
        with agent(tmp_path, fake, spool={"size": "1MiB"}) as m:
            # Text that does not shrink.
            sent = [segment(metadata={"n": n, "pad": os.urandom(400).hex()}) for n in range(8000)]
            m.send(*sent, rate=4000)
            m.settled(len(sent), lanes=())
            wait_for(lambda: lane(m.ledger())["dropped"].get("spool_full"), lambda: json.dumps(m.ledger()), 30)
            fake.heal()
            books = delivered_all(m)
            assert set(books["dropped"]) == {"spool_full"}, books
            assert books["delivered"] + books["dropped"]["spool_full"] == len(sent)
            assert m.metric("mobula_ledger_lost_total", reason="spool_full") == books["dropped"]["spool_full"]
            m.stop()
            assert sum(os.path.getsize(path) for path in files(tmp_path, "*")) <= 1 << 20
        # The newest are there.
        assert set(sent[-100:]) <= set(taken(fake))
