"""A backend that hangs or is slow harms neither its neighbours nor the receiver."""
import contextlib
import time

from fake_xray import FakeXray, Key
from mobula import KEY, Mobula, check_balance, read_lines, same_documents, segment, wait_for


def test_a_hanging_and_a_slow_backend_leave_the_healthy_one_alone(tmp_path):
    with contextlib.ExitStack() as stack:
        hanging, slow = (stack.enter_context(FakeXray(keys=[Key(*KEY)], latency=latency)) for latency in (0, 1))
        hanging.fail(hang=True)
        isolated(tmp_path, hanging, slow)


def isolated(tmp_path, hanging, slow):
    def xray(fake):
        return {"type": "xray", "region": fake.region, "endpoint": fake.url, "timeout": "60s"}

    backends = {"hanging": xray(hanging), "slow": xray(slow), "healthy": {"type": "file", "path": "out.jsonl"}}
    # A small buffer, so that the lanes in trouble run out of their quotas within the test.
    with Mobula(tmp_path, backends, buffer={"memory": "12MiB"}, shutdown={"grace": "3s"}) as m:
        # At a rate that is above what the slow one takes, and with no pause.
        documents = [segment(metadata={"pad": "x" * 500, "n": n}) for n in range(40000)]
        (tmp_path / "in.jsonl").write_bytes(b"".join(d + b"\n" for d in documents))
        sent = m.play(tmp_path / "in.jsonl", rate=5000)
        assert sent["sent"] == len(documents), sent
        ended = time.monotonic()
        wait_for(lambda: len(read_lines(tmp_path / "out.jsonl")) == len(documents), "the healthy backend to have it all", 5)
        print(f"healthy had all {time.monotonic() - ended:.2f} s after the last datagram")
        ledger = m.settled(lanes=["healthy"])
        check_balance(ledger)
        assert ledger["ingest"]["kernel_drops"] == 0
        assert ledger["ingest"]["accepted"] == len(documents)
        lanes = ledger["lanes"]
        assert lanes["healthy"]["delivered"] == len(documents)
        assert sum(lanes["healthy"]["dropped"].values()) == 0
        assert lanes["hanging"]["delivered"] == 0
        assert lanes["hanging"]["dropped"].get("buffer_full", 0) > 0
        assert lanes["slow"]["delivered"] > 0
        begin = time.monotonic()
        final = m.stop()
        assert time.monotonic() - begin < 10
        assert final["lanes"]["hanging"]["dropped"].get("shutdown", 0) > 0
        assert final["lanes"]["slow"]["delivered"] <= len(set(slow.documents))
    same_documents(read_lines(tmp_path / "out.jsonl"), documents)
