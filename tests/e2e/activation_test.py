"""Socket activation: the sockets are bound by somebody else, here the test, and outlive the agent that is started on them."""
import contextlib
import os
import re
import socket
import sys
import threading
import time

import pytest
from mobula import HEADER, SANITIZED, Mobula, read_lines, same_documents, segment, wait_for

OUT = {"out": {"type": "file", "path": "out.jsonl"}}
# What is sent between an end and a start must fit the queue of a socket: some 92 datagrams without privilege.
RATE = 100 if os.geteuid() != 0 or SANITIZED else 2000
TIMES = 10
# Hands over as systemd does: the descriptors begin at 3, and the process they are for is the one that is executed.
ACTIVATE = """
import fcntl, os, sys
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 500) for fd in sys.argv[1].split(",")]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Activated(Mobula):
    """An agent that is given these sockets, whatever address its configuration says."""

    def __init__(self, folder, *sockets, **options):
        self.fds = [s.fileno() for s in sockets]
        super().__init__(folder, OUT, start=False,
                         prefix=(sys.executable, "-S", "-c", ACTIVATE, ",".join(map(str, self.fds))), **options)
        if sockets[0].family == socket.AF_INET:
            self.socket.connect(sockets[0].getsockname())

    def launch(self, **process):
        super().launch(pass_fds=self.fds, **process)


def udp_socket():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    return s


@contextlib.contextmanager
def load(send):
    """Numbers, in order, at RATE, while the block runs; gives how many there were."""
    class Load:
        sent = 0

    stop = threading.Event()

    def run():
        begin = time.monotonic()
        while not stop.is_set():
            send(b'%s{"n":%d}' % (HEADER, Load.sent))
            Load.sent += 1
            time.sleep(max(0.0, begin + Load.sent / RATE - time.monotonic()))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield Load
    finally:
        stop.set()
        thread.join()


def numbers(folder):
    return [int(re.match(rb'\{"n":(\d+)', line)[1]) for line in read_lines(os.path.join(folder, "out.jsonl"))]


@pytest.mark.parametrize("engine", ["recvmmsg", "io_uring"])
def test_ten_restarts_on_one_socket_lose_nothing(tmp_path, engine):
    with udp_socket() as bound, Activated(tmp_path, bound, udp={"engine": engine, "receive_buffer": "8MiB"}) as agent, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(bound.getsockname())
        agent.start()
        with load(sender.send) as made:
            for _ in range(TIMES):
                wait_for(lambda: agent.ledger()["ingest"]["datagrams"] > RATE // 10, "some of the load")
                books = agent.stop()
                assert books["ingest"]["kernel_drops"] == 0, books
                agent.start()
        wait_for(lambda: len(numbers(tmp_path)) >= made.sent, lambda: f"{made.sent}, not {len(numbers(tmp_path))}")
        agent.stop()
        found = numbers(tmp_path)
        print(f"{engine}: {made.sent} sent, {len(found)} arrived in {TIMES} restarts")
        assert found == list(range(made.sent)), "lost, twice or out of order"


def test_a_unix_socket_outlives_the_agent(tmp_path):
    path = str(tmp_path / "s.sock")
    with udp_socket() as udp, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        bound.bind(path)
        sender.connect(path)
        documents = [segment() for _ in range(20)]
        # Also in front of UDP, and without a path in the configuration.
        with Activated(tmp_path, bound, udp) as agent:
            for document in documents:
                agent.start()
                sender.send(HEADER + document)
                agent.settled(1)
                agent.stop()
                # Nobody receives, and nobody is told so.
                sender.send(HEADER + document)
            agent.start()
            agent.settled(1)
            agent.stop()
        # All of one start's end are read by the next.
        same_documents(read_lines(tmp_path / "out.jsonl"), documents * 2)
        assert os.path.exists(path)


def test_several_sockets_of_one_address_are_several_queues(tmp_path):
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(4):
            s = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            s.bind(sockets[0].getsockname() if sockets else ("127.0.0.1", 0))
            sockets.append(s)
        agent = stack.enter_context(Activated(tmp_path, *sockets, udp={"workers": 2}))
        agent.start()
        documents = [segment() for _ in range(200)]
        for document in documents:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.sendto(HEADER + document, sockets[0].getsockname())
        agent.settled(len(documents))
        assert agent.events("receive_engine")[0]["workers"] == 2
        agent.stop()
        same_documents(read_lines(tmp_path / "out.jsonl"), documents)


def test_the_socket_counts_and_not_the_address_of_the_configuration(tmp_path):
    with udp_socket() as bound, Activated(tmp_path, bound, arguments=("--takeover",)) as agent:
        agent.start()
        port = bound.getsockname()[1]
        assert agent.events("listening")[0]["message"].endswith(f"udp 127.0.0.1:{port}")
        (told,) = agent.events("udp_sockets")
        assert f"127.0.0.1:{agent.port}" in told["message"] and f"127.0.0.1:{port}" in told["message"]
        agent.send(segment())
        agent.settled()
        # A name of its own would have a successor ask it to end, and then find the port taken all the same.
        with open("/proc/net/unix", encoding="ascii") as f:
            assert f"@mobula/udp/127.0.0.1:{port}" not in f.read()
        agent.stop()


def test_a_stream_is_refused_by_name(tmp_path):
    with socket.socket() as tcp, udp_socket() as udp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        with Activated(tmp_path, udp, tcp) as agent:
            agent.launch()
            assert agent.process.wait(30) == 1
            assert "descriptor 4, which was handed over by whoever started this (LISTEN_FDS), is no UDP socket" in agent.log
