"""One agent takes the place of another under load: every document arrives once, and nobody is refused."""
import contextlib
import copy
import errno
import http.client
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
from fake_xray import FakeXray, Key
from harness import Sender
from mobula import (BINARY, HEADER, KEY, SANITIZED, Mobula, check_balance, free_port, read_lines, same_documents, segment,
                    wait_for)

OUT = {"out": {"type": "file", "path": "out.jsonl"}}
RATE = 2000 if SANITIZED else 5000
TIMES = 10


@contextlib.contextmanager
def load(port):
    """Documents from a process of its own while the block runs; `sent` of what it gives is their number afterwards."""
    class Load:
        sent = None

    with Sender(port) as sender:
        sender.rate(RATE)
        yield Load
        sender.rate(0)
        state = sender.state()
        Load.sent = state["sent"]
        assert (state["refused"], state["failed"]) == (0, 0), f"nobody listened: {state}"


def numbers_of(agents):
    """The numbers of the documents that the files of all agents hold."""
    found = []
    for agent in agents:
        for line in read_lines(os.path.join(agent.folder, "out.jsonl")):
            found.append(int(re.match(rb'\{"n":(\d+),', line)[1]))
    return found


class Line:
    """Agents on one port, each in a folder of its own; all are ended with the block."""

    def __init__(self, folder, receivers=None, backends=None, **options):
        self.folder, self.stack, self.agents, self.made = folder, contextlib.ExitStack(), [], 0
        agent = self.add(Mobula(self.make_folder(), backends or OUT, start=False, **options))
        agent.config["receivers"].update(receivers or {})
        agent.write_config()
        agent.start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stack.__exit__(*error)

    def make_folder(self):
        folder = self.folder / str(self.made)
        folder.mkdir()
        self.made += 1
        return folder

    def add(self, agent):
        self.stack.enter_context(agent)
        self.agents.append(agent)
        return agent

    @property
    def last(self):
        return self.agents[-1]

    def next(self, start=True, change=lambda config: None, arguments=("--takeover",)):
        """The next one with the last one's configuration, which `change` may change."""
        agent = Mobula(self.make_folder(), OUT, start=False, arguments=arguments)
        agent.port, agent.config = self.last.port, copy.deepcopy(self.last.config)
        agent.socket.connect(("127.0.0.1", agent.port))
        agent.config["admin"]["address"] = f"127.0.0.1:{agent.admin}"
        change(agent.config)
        agent.write_config()
        self.add(agent)
        if start:
            agent.start()
        return agent


def rss(agent):
    with open(f"/proc/{agent.process.pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def ended(agent):
    """Waits for its end and checks it; its ledger."""
    assert agent.process.wait(60) == 0, agent.log[-2000:]
    ledger = agent.final_ledger()
    check_balance(ledger)
    assert ledger["ingest"]["kernel_drops"] == 0, ledger
    return ledger


def taken_over(agent):
    wait_for(lambda: agent.events("taken_over"), lambda: f"the port; it said {agent.log[-2000:]}")


@pytest.mark.parametrize("engine,workers,host", [
    ("recvmmsg", 1, "127.0.0.1"),
    ("recvmmsg", 2, "0.0.0.0"),
    ("io_uring", 1, "0.0.0.0"),
    ("io_uring", 2, "127.0.0.1"),
])
def test_ten_times_under_load(tmp_path, engine, workers, host):
    first = Mobula(tmp_path, OUT, start=False)
    udp = {"address": f"{host}:{first.port}", "engine": engine, "workers": workers}
    with Line(tmp_path, udp=udp, log={"format": "json", "level": "info"}) as line:
        port = first.port
        with load(port) as sent:
            for _ in range(TIMES):
                before = line.last
                wait_for(lambda: before.ledger()["ingest"]["datagrams"] > RATE // 10, "some of the load")
                agent = line.next()
                ended(before)
                taken_over(agent)
        datagrams = sum(a.final_ledger()["ingest"]["datagrams"] for a in line.agents[:-1])
        line.last.settled(sent.sent - datagrams)
        line.last.stop()
        found = numbers_of(line.agents)
        print(f"{engine}, {workers} workers, {host}: {sent.sent} sent, {len(found)} arrived, {len(set(found))} different, "
              f"in {TIMES} changes")
        assert len(set(found)) == sent.sent, "lost"
        assert len(found) == sent.sent, "twice"


class Background:
    """Calls a function again and again on a thread of its own while the block runs; what it raises fails the block's end."""

    def __init__(self, function):
        self.function, self.stop, self.failures, self.calls = function, False, [], 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop:
            try:
                self.function(self.calls)
            except Exception as e:  # pylint: disable=broad-except
                self.failures.append(repr(e))
            self.calls += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stop = True
        self.thread.join()
        if not kind:
            assert self.calls and not self.failures, f"{len(self.failures)} of {self.calls} failed: {self.failures[:3]}"


def test_no_client_of_sampling_port_and_pages_is_refused(tmp_path):
    with Line(tmp_path) as line:
        first = line.last

        def ask(port, method, path, status):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request(method, path, body="{}" if method == "POST" else None)
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == status, (answer.status, body)
            finally:
                connection.close()

        def same_pages(config):
            config["admin"] = first.config["admin"]

        with Background(lambda _: ask(first.port, "POST", "/GetSamplingRules", 200)), \
                Background(lambda _: ask(first.admin, "GET", "/healthz", 200)):
            for _ in range(TIMES):
                before = line.last
                agent = line.next(start=False, change=same_pages)
                agent.admin = first.admin
                agent.start()
                ended(before)
                taken_over(agent)
        line.last.stop()


def test_unix_senders_are_told_or_served(tmp_path):
    path = str(tmp_path / "s.sock")
    with Line(tmp_path, receivers={"unix": {"path": path}}) as line:
        sent, turned_away = [], []

        def send(number):
            document = segment(annotations={"number": number})
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                s.settimeout(10)
                while True:
                    try:
                        s.sendto(HEADER + document, path)
                        sent.append(document)
                        return
                    except OSError as e:
                        # It was the old one's, whose end began meanwhile: the path is the next one's already.
                        assert e.errno in (errno.EPIPE, errno.ECONNREFUSED), e
                        turned_away.append(e)

        with Background(send):
            for _ in range(TIMES):
                before = line.last
                agent = line.next()
                ended(before)
                taken_over(agent)
        line.last.settled(0)
        line.last.stop()
        found = [d for a in line.agents for d in read_lines(os.path.join(a.folder, "out.jsonl"))]
        same_documents(found, sent)
        print(f"{len(sent)} sent, {len(turned_away)} sent again")


def test_a_file_that_both_write_holds_every_document_once(tmp_path):
    with Line(tmp_path, log={"format": "json", "level": "info"}) as line:
        first = line.last
        path = os.path.join(first.folder, "out.jsonl")

        def same_file(config):
            config["backends"]["out"]["path"] = path

        with load(first.port) as sent:
            for _ in range(3):
                before = line.last
                wait_for(lambda a=before: a.ledger()["ingest"]["datagrams"] > RATE // 10, "some of the load")
                agent = line.next(change=same_file)
                ended(before)
                taken_over(agent)
        datagrams = sum(a.final_ledger()["ingest"]["datagrams"] for a in line.agents[:-1])
        line.last.settled(sent.sent - datagrams)
        line.last.stop()
        found = numbers_of([first])
        assert len(found) == len(set(found)) == sent.sent


def test_a_successor_that_cannot_start_leaves_the_old_one_as_it_was(tmp_path):
    with Line(tmp_path) as line, socket.socket() as taken:
        old, documents = line.last, []
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        changes = {
            # Known before anything is bound, after the socket, and after everything else.
            "unknown key": lambda config: config.update(nonsense=1),
            "cannot listen": lambda config: config["admin"].update(address=f"127.0.0.1:{port}"),
            "proxy.address": lambda config: config["receivers"].update(proxy={"address": "nowhere.invalid:2000"}),
        }
        for said, change in changes.items():
            failed = line.next(start=False, change=change)
            with open(os.path.join(failed.folder, "said.txt"), "w+", encoding="utf-8") as out:
                failed.process = subprocess.Popen([BINARY, "run", "-c", failed.config_path, "--takeover"], cwd=failed.folder,
                                                  stdout=out, stderr=out, env=failed.environment)
                while failed.process.poll() is None:
                    documents.append(segment())
                    old.send(documents[-1])
                    time.sleep(0.001)
                out.seek(0)
                text = out.read()
            assert failed.process.returncode == 1 and said in text, text
            line.agents.pop()
        assert old.ready()
        old.settled(len(documents))
        assert not old.events("stop"), old.log[-2000:]
        line.next()
        ended(old)
        same_documents(read_lines(tmp_path / "0" / "out.jsonl"), documents)


def test_the_death_of_the_new_one_leaves_the_old_one_as_it_was(tmp_path):
    with Line(tmp_path) as line, socket.socket() as silent:
        old = line.last
        # The start waits for a region that nobody tells, with all sockets bound.
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for _ in range(3):
            new = line.next(start=False, change=lambda config: config.update(backends={"aws": {"type": "xray"}}))
            new.environment.update(AWS_EC2_METADATA_SERVICE_ENDPOINT="http://127.0.0.1:%d" % silent.getsockname()[1])
            for name in ("AWS_REGION", "AWS_EC2_METADATA_DISABLED"):
                new.environment.pop(name, None)
            new.launch()
            wait_for(lambda a=new: a.events("admin"), "its pages")
            assert new.process.poll() is None and not new.ready()
            new.process.kill()
            new.process.wait()
            line.agents.pop()
            documents = [segment() for _ in range(500)]
            old.send(*documents)
            old.settled()
            assert old.ready() and not old.events("stop"), old.log[-2000:]
            same_documents(read_lines(tmp_path / "0" / "out.jsonl")[-500:], documents)
        new = line.next()
        ended(old)
        taken_over(new)


def test_what_the_old_one_left_in_the_spool_is_delivered_by_the_new_one(tmp_path):
    with FakeXray(keys=[Key(*KEY)]) as fake:
        fake.fail(status=503)
        backends = {"prod": {"type": "xray", "region": fake.region, "endpoint": fake.url, "timeout": "2s"}}
        buffer = {"memory": "8MiB", "spool": {"path": str(tmp_path / "spool")}}
        with Line(tmp_path, backends=backends, buffer=buffer, shutdown={"grace": "1s"}) as line:
            old = line.last
            sent = [segment(metadata={"pad": "x" * 500}) for _ in range(3000)]
            old.send(*sent)
            old.settled(len(sent), lanes=())
            new = line.next()
            books = ended(old)["lanes"]["prod"]
            assert books["spooled"] == len(sent) and not books["dropped"], books
            taken_over(new)
            wait_for(lambda: new.ledger()["lanes"]["prod"]["restored"] == len(sent), "the other's folder", 30)
            fresh = [segment() for _ in range(500)]
            new.send(*fresh)
            new.settled(len(fresh), lanes=())
            fake.heal()
            wait_for(lambda: new.ledger()["lanes"]["prod"]["delivered"] == len(sent) + len(fresh),
                     lambda: f"delivery: {new.ledger()}", 60)
            new.stop()
        same_documents([document.encode() for document in fake.documents], sent + fresh)


def run_to_its_end(agent):
    """Starts it, and answers what it said when it was refused."""
    done = subprocess.run([BINARY, "run", "-c", agent.config_path, *agent.arguments], cwd=agent.folder, timeout=60,
                          stderr=subprocess.PIPE, text=True, check=False, env=agent.environment)
    assert done.returncode == 1, done
    return done.stderr


def test_without_the_flag_or_without_an_agent_to_relieve_a_taken_port_is_refused(tmp_path):
    with Line(tmp_path) as line:
        refused = line.next(start=False, arguments=())
        said = run_to_its_end(refused)
        assert f"127.0.0.1:{line.last.port}: Address already in use" in said and "--takeover" in said, said
        line.agents.pop()
        # Another port is nobody's, and its start one as ever: what else it shares with the first is refused.
        other = free_port()
        alone = line.next(start=False, change=lambda config: config["admin"].update(line.agents[0].config["admin"]))
        alone.config["receivers"]["udp"]["address"] = f"127.0.0.1:{other}"
        alone.write_config()
        said = run_to_its_end(alone)
        assert "admin.address" in said and "Address already in use" in said, said
        # Of a program that is no agent nothing is taken, not even if it shares its port with everybody.
        for share in (0, 1):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, share)
                stranger.bind(("127.0.0.1", other))
                assert f"127.0.0.1:{other}: Address already in use" in run_to_its_end(alone)
        line.agents.pop()
        line.last.send(segment())
        line.last.settled(1)


def test_whoever_connects_and_talks_changes_nothing(tmp_path):
    with Line(tmp_path) as line, contextlib.ExitStack() as strangers:
        old = line.last
        documents = [segment() for _ in range(1000)]
        old.send(*documents[:500])
        old.settled()
        before = rss(old)
        for _ in range(50):
            s = strangers.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            s.setblocking(False)
            s.connect(f"\0mobula/udp/127.0.0.1:{old.port}")
            with contextlib.suppress(BlockingIOError):
                while s.send(b"SIGTERM\0" * 8192):
                    continue
        old.send(*documents[500:])
        old.settled()
        assert old.ready() and not old.events("stop")
        assert rss(old) - before < (8 if SANITIZED else 4) << 20, (before, rss(old))
        # They take the places of successors, who then learn nothing over it, and need nothing of it.
        new = line.next()
        ended(old)
        taken_over(new)
        same_documents(read_lines(tmp_path / "0" / "out.jsonl"), documents)


def test_the_death_of_the_old_one_leaves_the_new_one_the_port(tmp_path):
    with Line(tmp_path) as line:
        old = line.last
        # It gets the signal to end, and does nothing about it.
        old.process.send_signal(signal.SIGSTOP)
        new = line.next()
        wait_for(lambda: new.events("takeover"), "that the old one was asked")
        assert not new.events("taken_over")
        old.process.kill()
        old.process.wait()
        taken_over(new)
        documents = [segment() for _ in range(200)]
        new.send(*documents)
        new.settled()
        new.stop()
        same_documents(read_lines(tmp_path / "1" / "out.jsonl"), documents)


def test_a_successor_that_is_ended_before_its_turn_leaves_the_old_one_the_port(tmp_path):
    with Line(tmp_path) as line:
        old = line.last
        old.process.send_signal(signal.SIGSTOP)
        new = line.next()
        wait_for(lambda: new.events("takeover"), "that the old one was asked")
        new.stop()
        line.agents.pop()
        # Nobody takes the port, so that it goes on in spite of the signal: it is asked to end, and ends as ever.
        documents = [segment() for _ in range(200)]
        old.send(*documents)
        old.process.send_signal(signal.SIGCONT)
        ended(old)
        same_documents(read_lines(tmp_path / "0" / "out.jsonl"), documents)


def test_two_successors_at_once_leave_one_that_loses_nothing(tmp_path):
    with Line(tmp_path, log={"format": "json", "level": "info"}) as line:
        first = line.last
        with load(first.port) as sent:
            wait_for(lambda: first.ledger()["ingest"]["datagrams"] > RATE // 10, "some of the load")
            new = [line.next(start=False), line.next(start=False)]
            for agent in new:
                agent.launch()
            ended(first)
            wait_for(lambda: any(a.process.poll() is not None for a in new), "the end of one of both")
            gone, stays = sorted(new, key=lambda a: a.process.poll() is None)
            ended(gone)
            taken_over(stays)
        datagrams = sum(a.final_ledger()["ingest"]["datagrams"] for a in (first, gone))
        stays.settled(sent.sent - datagrams)
        stays.stop()
        found = numbers_of(line.agents)
        assert len(found) == len(set(found)) == sent.sent


def test_an_agent_that_cannot_be_seen_hands_over_when_it_is_ended(tmp_path):
    """As in Kubernetes: of another container on the same network, whose kubelet ends it."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--pid", "--fork", "true"], check=False).returncode != 0:
        pytest.skip("a process namespace of its own needs root")
    with Line(tmp_path, log={"format": "json", "level": "info"}) as line:
        old = line.last
        with load(old.port) as sent:
            new = line.next(start=False)
            new.command = ("unshare", "--pid", "--fork", "--kill-child", *new.command)
            new.launch()
            wait_for(lambda: new.events("takeover"), "that it is ready")
            assert "when it is ended" in new.events("takeover")[0]["message"]
            assert new.ledger()["ingest"]["datagrams"] == 0
            assert old.process.poll() is None
            old.process.send_signal(signal.SIGTERM)
            before = ended(old)["ingest"]["datagrams"]
            taken_over(new)
        new.settled(sent.sent - before)
        found = numbers_of(line.agents)
        assert len(found) == len(set(found)) == sent.sent
