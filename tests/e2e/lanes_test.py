"""A backend that hangs or is slow harms neither its neighbours nor the receiver."""
import contextlib
import time

from fake_xray import FakeXray, Key
from mobula import KEY, Mobula, check_balance, read_lines, same_documents, segment, wait_for


def test_a_hanging_and_a_slow_backend_leave_the_healthy_one_alone(tmp_path):
    with contextlib.ExitStack() as stack:
        hanging, slow = (stack.enter_context(FakeXray(keys=[Key(*KEY)], latency=latency)) for latency in (0, 0.2))
        hanging.fail(hang=True)
        isolated(tmp_path, hanging, slow)


def isolated(tmp_path, hanging, slow):
    def xray(fake):
        return {"type": "xray", "region": fake.region, "endpoint": fake.url, "timeout": "60s"}

    backends = {"hanging": xray(hanging), "slow": xray(slow), "healthy": {"type": "file", "path": "out.jsonl"}}
    # A small buffer, so that the lanes in trouble run out of their quotas within the test.
    with Mobula(tmp_path, backends, buffer={"memory": "12MiB"}, shutdown={"grace": "3s"}) as m:
        documents = [segment(metadata={"pad": "x" * 500, "n": n}) for n in range(20000)]
        late = 0.0
        for begin in range(0, len(documents), 2000):
            m.send(*documents[begin : begin + 2000], rate=4000)
            sent_at = time.monotonic()
            wait_for(lambda n=begin + 2000: len(read_lines(tmp_path / "out.jsonl")) >= n, "the healthy backend to keep up", 4)
            late = max(late, time.monotonic() - sent_at)
        print(f"healthy at most {late:.2f} s behind")
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
