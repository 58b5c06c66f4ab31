"""What the built program tells X-Ray of itself."""
import json
import time

import pytest
from fake_xray import FakeXray, Key
from mobula import KEY, PATIENCE, Mobula, segment, wait_for


@pytest.fixture(name="xray")
def fixture_xray():
    with FakeXray(keys=[Key(*KEY)]) as fake:
        yield fake
        assert not fake.problems, fake.problems


def agent(folder, xray, environment=None, aws=None, **backend):
    backends = {"aws": {"type": "xray", "region": xray.region, "endpoint": xray.url, **backend}}
    return Mobula(folder, backends, environment=environment, aws=aws or {"metadata": "off"}, batch={"age": "50ms"})


def reports(xray):
    """The reports that X-Ray took."""
    return [json.loads(r.body) for r in xray.requests if r.target == "/TelemetryRecords" and r.status == 200]


def sums(xray):
    """(received, sent, spillover, rejected) over all of them."""
    records = [record for report in reports(xray) for record in report["TelemetryRecords"]]
    return tuple(sum(r[f"Segments{name}Count"] for r in records) for name in ("Received", "Sent", "Spillover", "Rejected"))


def errors(xray):
    """The kinds of failed calls that were reported, with how many."""
    found = {}
    for report in reports(xray):
        for record in report["TelemetryRecords"]:
            for name, count in record["BackendConnectionErrors"].items():
                found[name] = found.get(name, 0) + count
    return {name: count for name, count in found.items() if count}


def test_the_last_report_has_it_all(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        m.send(*[segment() for _ in range(70)])
        for _ in range(3):
            m.datagram(b"bad\n" + segment())
        m.settled()
        m.stop()
    assert sums(xray) == (73, 70, 0, 3) and errors(xray) == {}
    (report,) = reports(xray)
    assert abs(report["TelemetryRecords"][0]["Timestamp"] - time.time()) < 30
    assert (report["Hostname"], report["EC2InstanceId"], report.get("ResourceARN")) == ("", "", None)
    assert xray.requests[-1].target == "/TelemetryRecords", "segments came after it"


def test_nothing_is_told_before_the_first_datagram(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        m.stop()
    assert not xray.requests


def test_who_reports(tmp_path, xray):
    arn = "arn:aws:ec2:us-west-2:123456789012:instance/i-0123"
    host = {"AWS_HOSTNAME": 'host "x".example', "AWS_INSTANCE_ID": "i-0a1b2c3d"}
    with agent(tmp_path, xray, environment=host, resource_arn=arn) as m:
        m.send(segment())
        m.settled()
        m.stop()
    (report,) = reports(xray)
    assert (report["ResourceARN"], report["Hostname"], report["EC2InstanceId"]) == (arn, 'host "x".example', "i-0a1b2c3d")


def test_off_is_off(tmp_path, xray):
    with agent(tmp_path, xray, telemetry="off") as m:
        m.send(segment())
        m.settled()
        m.stop()
    assert {r.target for r in xray.requests} == {"/TraceSegments"}


def test_documents_that_x_ray_refuses_are_rejected(tmp_path, xray):
    xray.refuse("poison", "InvalidName")
    with agent(tmp_path, xray) as m:
        m.send(*[segment() for _ in range(3)], *[segment(name="poison") for _ in range(2)])
        m.settled()
        m.stop()
    assert sums(xray) == (5, 3, 0, 2)


def test_failed_calls_are_told_by_what_failed(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        xray.next({"status": 503}, {"status": 500}, {"status": 429, "code": "ThrottledException"}, {"raw": "no HTTP\r\n\r\n"})
        m.send(segment())
        m.settled(seconds=30)
        m.stop()
    assert errors(xray) == {"HTTPCode5XXCount": 2, "HTTPCode4XXCount": 1, "OtherCount": 1}
    assert sums(xray) == (1, 1, 0, 0)


def test_a_service_that_is_down_was_refused(tmp_path):
    fake = FakeXray(keys=[Key(*KEY)])
    fake.start()
    fake.stop()
    with agent(tmp_path, fake) as m:
        m.send(segment())
        wait_for(lambda: m.ledger()["lanes"]["aws"]["held"], "the document in the lane")
        wait_for(lambda: m.events("lane_degraded") or "refused" in m.log, "the first failure")
        with FakeXray(keys=[Key(*KEY)], port=fake.port) as again:
            m.settled(seconds=40)
            m.stop()
            assert errors(again).get("ConnectionRefusedCount", 0) >= 1 and sums(again) == (1, 1, 0, 0)


def test_a_denied_report_delays_nothing_and_is_told_once(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        m.send(segment())
        m.settled()
        xray.fail(status=403, code="AccessDeniedException")
        begin = time.monotonic()
        m.stop()
        assert time.monotonic() - begin < 5 * PATIENCE
    assert len([r for r in xray.requests if r.target == "/TelemetryRecords"]) == 1


def test_a_service_that_hangs_holds_up_the_end_for_two_seconds(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        m.send(segment())
        m.settled()
        xray.fail(hang=True)
        begin = time.monotonic()
        m.stop()
        assert time.monotonic() - begin < 6 * PATIENCE


def test_a_report_a_minute(tmp_path, xray):
    with agent(tmp_path, xray) as m:
        begin = time.monotonic()
        m.send(*[segment() for _ in range(12)])
        m.settled()
        # The first one fails; the next one brings its record too.
        wait_for(lambda: time.monotonic() - begin > 50, "fifty seconds", 60)
        xray.next({"status": 500})
        wait_for(lambda: any(r.target == "/TelemetryRecords" for r in xray.requests), "the first report", 30)
        assert 55 < time.monotonic() - begin < 65 + 5 * PATIENCE
        m.send(*[segment() for _ in range(3)])
        m.settled()
        m.stop()
    assert sums(xray) == (15, 15, 0, 0)
    (report,) = reports(xray)
    assert [r["SegmentsReceivedCount"] for r in report["TelemetryRecords"]] == [12, 3]
