"""`mobula health`: the probe for images without a shell, against the running program."""
import os
import signal
import socket
import subprocess
import time

from mobula import BINARY, PATIENCE, Mobula, free_port, wait_for

FILE = {"out": {"type": "file", "path": "out.jsonl"}}


def health(*args, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MOBULA_")}
    return subprocess.run([BINARY, "health", *args], capture_output=True, text=True, timeout=20 * PATIENCE, check=False, stdin=subprocess.DEVNULL,
                          env={**env, **environment})


def test_a_running_agent_is_healthy_and_ready(tmp_path):
    with Mobula(tmp_path, FILE) as m:
        for args in ([], ["--ready"]):
            done = health("--address", f"127.0.0.1:{m.admin}", *args)
            assert (done.returncode, done.stderr) == (0, ""), done
            assert done.stdout in ("ok\n", "ready\n")
        by_variable = health(MOBULA_ADMIN_ADDRESS=f":{m.admin}")
        assert by_variable.returncode == 0, by_variable
        m.stop()
        gone = health("--address", f"127.0.0.1:{m.admin}")
        assert gone.returncode == 1 and "is the agent running?" in gone.stderr, gone


def test_an_agent_that_drains_is_alive_but_not_ready(tmp_path):
    # A far side that takes nothing keeps the drain going.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        backends = {"aws": {"type": "xray", "region": "us-west-2", "endpoint": "http://127.0.0.1:%d" % listener.getsockname()[1], "telemetry": False}}
        with Mobula(tmp_path, backends, shutdown={"grace": "10s"}, batch={"age": "50ms"}) as m:
            m.send(b'{"id":"x"}')
            wait_for(lambda: m.ledger()["lanes"]["aws"]["held"] == 1, "the document in the lane")
            m.process.send_signal(signal.SIGTERM)
            address = f"127.0.0.1:{m.admin}"
            wait_for(lambda: "draining" in health("--ready", "--address", address).stdout, "the drain")
            assert health("--address", address).returncode == 0
            ready = health("--ready", "--address", address)
            assert ready.returncode == 1 and "not ready" in ready.stdout and "503" in ready.stderr, ready


def test_an_agent_that_hangs_is_told_in_time(tmp_path):
    with Mobula(tmp_path, FILE) as m:
        m.process.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        done = health("--address", f"127.0.0.1:{m.admin}")
        m.process.send_signal(signal.SIGCONT)
        assert done.returncode == 1, done
        assert time.monotonic() - begin < 5 * PATIENCE


def test_nobody_there():
    done = health("--address", f"127.0.0.1:{free_port()}")
    assert done.returncode == 1 and done.stdout == "" and "--address" in done.stderr, done
