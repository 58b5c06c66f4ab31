"""20,000 documents a second to a file: none lost, counted at the far side, and memory flat."""
import os
import re

from harness import Sender
from mobula import Mobula, check_balance, resident_kib, wait_for

COUNT = 1_000_000 if os.environ.get("MOBULA_LONG") else 100_000
RATE = 20_000


def test_nothing_is_lost_and_memory_is_flat(tmp_path):
    backends = {"out": {"type": "file", "path": "out.jsonl"}}
    with Mobula(tmp_path, backends, log={"format": "json", "level": "info"}) as m, Sender(m.port) as sender:
        sender.rate(RATE, COUNT)
        resident = {}
        for part in (0.25, 1.0):
            wait_for(lambda n=COUNT * part: m.ledger()["ingest"]["datagrams"] >= n,
                     lambda: f"{COUNT} datagrams: {m.ledger()['ingest']}", 30 + 3 * COUNT / RATE)
            resident[part] = resident_kib(m.process.pid)
        assert sender.state() == {"next": COUNT, "sent": COUNT, "refused": 0, "failed": 0}
        ledger = m.settled(COUNT)
        check_balance(ledger)
        assert ledger["ingest"]["kernel_drops"] == 0
        m.stop()
        print(f"resident {resident[0.25]} KiB after a quarter, {resident[1.0]} KiB at the end")
        assert resident[1.0] - resident[0.25] < 4096
        seen = bytearray(COUNT)
        with open(tmp_path / "out.jsonl", "rb") as f:
            for line in f:
                seen[int(re.match(rb'\{"n":(\d+),', line)[1])] += 1
        assert seen == b"\x01" * COUNT, f"{seen.count(0)} lost, {COUNT - seen.count(0) - seen.count(1)} twice"
