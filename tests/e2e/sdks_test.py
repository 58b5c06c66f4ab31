"""Real X-Ray SDKs as clients, unchanged: whatever their programs made arrives, once and complete."""
import collections
import json
import os
import subprocess

import pytest
from mobula import LANGUAGES, Mobula, check_balance, read_lines, sdk_program, wait_for

OUT = {"out": {"type": "file", "path": "out.jsonl"}}


def ids(entity):
    """The id of a document and of all that is embedded in it."""
    yield entity["id"]
    for subsegment in entity.get("subsegments", []):
        yield from ids(subsegment)


def run(mobula, language):
    """Runs the program in `language` against the agent; returns the ids it says it made."""
    command, environment = sdk_program(language, "app")
    environment = {**os.environ, "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{mobula.port}", **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_a_program_made_arrives_once(tmp_path, language):
    with Mobula(tmp_path, OUT) as m:
        made = run(m, language)
        assert len(made) > 100 and len(set(made)) == len(made)

        def arrived():
            documents = [json.loads(line) for line in read_lines(tmp_path / "out.jsonl")]
            return collections.Counter(i for document in documents for i in ids(document)), documents

        wait_for(lambda: len(arrived()[0]) >= len(made), lambda: f"{len(made)} entities, {len(arrived()[0])} are here")
        ledger = m.settled()
        check_balance(ledger)
        assert not ledger["ingest"]["rejected"]
        m.stop()
        counted, documents = arrived()
        assert set(counted) == set(made)
        assert len(documents) == ledger["ingest"]["datagrams"]
        # The Go SDK may send a subsegment twice when it streams and ends at once.
        assert language == "go" or counted == collections.Counter(made)
        # Streaming happened, and what a document says of itself is whole.
        assert any(document.get("type") == "subsegment" for document in documents)
        assert any(document["name"] == "batch-worker" for document in documents)
        faults = [d for d in documents if d.get("fault")] + [s for d in documents for s in d.get("subsegments", []) if s.get("fault")]
        assert any("no such order: 'x'" in json.dumps(fault) for fault in faults)
        assert any("zoë" == document.get("user") for document in documents)
