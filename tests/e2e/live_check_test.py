"""`mobula check --live` against stand-ins of STS and X-Ray: the table, the JSON, the exit status."""
import json
import os
import pty
import subprocess

import pytest
from fake_aws import FakeSts
from fake_xray import FakeXray, Key
from mobula import BINARY, KEY, PATIENCE, free_port

ROLE = "arn:aws:iam::222222222222:role/tenant"


@pytest.fixture(name="fakes")
def fixture_fakes():
    with FakeXray(keys=[Key(*KEY)]) as xray, FakeSts(keys=[Key(*KEY)], services=[xray], region=xray.region) as sts:
        yield sts, xray
        assert not sts.problems, sts.problems
        assert not xray.documents


def command(folder, fakes, *args, **change):
    sts, xray = fakes
    backend = {"type": "xray", "region": xray.region, "endpoint": xray.url, "sts_endpoint": sts.url, "telemetry": False, **change}
    config = {"receivers": {"udp": {"address": f"127.0.0.1:{free_port()}"}, "proxy": {"address": "off"}},
              "backends": {"aws": backend, "out": {"type": "file", "path": os.path.join(str(folder), "out.jsonl")}, "nothing": {"type": "null"}}}
    path = os.path.join(str(folder), "mobula.yaml")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)
    return [BINARY, "check", "--live", "-c", path, *args]


def environment(**change):
    env = {**os.environ, "AWS_ACCESS_KEY_ID": KEY[0], "AWS_SECRET_ACCESS_KEY": KEY[1], **change}
    return {k: v for k, v in env.items() if v is not None}


def check(folder, fakes, env=None, **change):
    """Exit status, and what was tried by backend and name."""
    done = subprocess.run(command(folder, fakes, **change), env=env or environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          stdin=subprocess.DEVNULL, timeout=30 * PATIENCE, check=False)
    answer = json.loads(done.stdout)
    assert answer["ok"] == (done.returncode == 0), done
    assert KEY[1] not in done.stdout + done.stderr
    return done.returncode, {(c["backend"], c["tried"]): c for c in answer["checks"]}


def test_all_is_well(tmp_path, fakes):
    sts, xray = fakes
    sts.allow(ROLE)
    status, checks = check(tmp_path, fakes, role_arn=ROLE)
    assert status == 0, checks
    assert {name: c["result"] for (backend, name), c in checks.items() if backend == "aws"} == {
        "region": "ok", "credentials": "ok", "role " + ROLE: "ok", "endpoint": "ok", "xray:PutTraceSegments": "ok"}
    assert checks["aws", "credentials"]["source"] == "environment"
    assert checks["aws", "credentials"]["account"] == "123456789012"
    assert checks["out", "file"]["result"] == checks["nothing", "null"]["result"] == "ok"
    assert not os.path.exists(tmp_path / "out.jsonl")
    assert [json.loads(r.body) for r in xray.requests] == [{"TraceSegmentDocuments": []}]


def test_a_table_can_be_piped(tmp_path, fakes):
    done = subprocess.run(command(tmp_path, fakes, "--table"), env=environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=30 * PATIENCE, check=False)
    assert done.returncode == 0 and done.stderr == "", done
    assert done.stdout.startswith("backend aws\n  RESULT   TRIED") and "\x1b" not in done.stdout
    done = subprocess.run(command(tmp_path, fakes, "--table", "--json"), env=environment(), capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=30 * PATIENCE, check=False)
    assert done.returncode == 2 and "--json" in done.stderr


def test_each_failure_says_what_to_do(tmp_path, fakes):
    sts, xray = fakes
    status, checks = check(tmp_path, fakes, role_arn=ROLE)  # nobody allowed it
    role = checks["aws", "role " + ROLE]
    assert status == 1 and role["result"] == "failed" and "AccessDenied" in role["answer"] and "sts:AssumeRole" in role["fix"]
    assert checks["aws", "endpoint"]["result"] == "ok" and checks["aws", "xray:PutTraceSegments"]["result"] == "skipped"

    # AWS looks at the permission before it reads the body.
    denied = '{"Message":"not authorized to perform: xray:PutTraceSegments"}'
    xray.fail(raw="HTTP/1.1 403 Forbidden\r\nx-amzn-ErrorType: AccessDeniedException\r\nContent-Length: %d\r\n\r\n%s" % (len(denied), denied))
    status, checks = check(tmp_path, fakes)
    assert status == 1 and "xray:PutTraceSegments" in checks["aws", "xray:PutTraceSegments"]["fix"]
    xray.heal()

    status, checks = check(tmp_path, fakes, env=environment(AWS_ACCESS_KEY_ID="AKIDOTHER"))
    assert status == 1 and checks["aws", "credentials"]["result"] == "failed"

    status, checks = check(tmp_path, fakes, env=environment(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None))
    assert status == 1 and checks["aws", "credentials"]["result"] == "failed"

    status, checks = check(tmp_path, fakes, endpoint=f"http://127.0.0.1:{free_port()}")
    assert status == 1 and checks["aws", "endpoint"]["answer"].startswith("refused")
    sts.problems.clear()


def test_an_sts_that_is_away_leaves_only_the_account_unknown(tmp_path, fakes):
    status, checks = check(tmp_path, fakes, sts_endpoint=f"http://127.0.0.1:{free_port()}")
    assert status == 0, checks
    assert checks["aws", "credentials"]["account"] == "" and "account unknown" in checks["aws", "credentials"]["answer"]


def test_a_terminal_gets_a_table(tmp_path, fakes):
    control, terminal = pty.openpty()
    process = subprocess.Popen(command(tmp_path, fakes), env=environment(NO_COLOR="1"), stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while True:
            part = os.read(control, 65536)
            if not part:
                break
            shown += part
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(control)
    assert process.wait(30 * PATIENCE) == 0
    text = shown.decode()
    assert "backend aws\r\n" in text and "RESULT   TRIED" in text and "123456789012" in text and "{" not in text, text
