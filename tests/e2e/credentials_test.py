"""Where credentials come from, in the built program: each source against a fake that checks every header, renewed, rotated,
broken and mended while segments flow."""
import collections
import contextlib
import os
import sys
import time

import pytest
from certificate import certificate
from fake_aws import FakeContainer, FakeImds, FakeSts
from fake_xray import FakeXray, Key
from mobula import KEY, PATIENCE, Mobula, check_balance, resident_kib, segment, wait_for

ROLE = "arn:aws:iam::111111111111:role/pod"
# An environment in which nothing but what a test says is configured.
BARE = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_REGION": "us-west-2", "HOME": "/nonexistent"}


@pytest.fixture(name="xray")
def fixture_xray():
    """Knows no keys but those that a fake issues."""
    with FakeXray(keys=[Key("NOBODY", "x")]) as fake:
        yield fake


def agent(folder, xray, backend=None, **environment):
    settings = {"type": "xray", "region": xray.region, "endpoint": xray.url, **(backend or {})}
    settings = {name: value for name, value in settings.items() if value is not None}
    return Mobula(folder, {"aws": settings}, environment={**BARE, **environment}, batch={"age": "50ms"})


def write(path, text):
    """As kubelet and cautious people do: never half of it under its name."""
    with open(str(path) + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(str(path) + ".new", path)
    return str(path)


class Stream:
    """Segments, a few at a time; everything sent must arrive once."""

    def __init__(self, mobula, xray):
        self.mobula, self.xray, self.sent = mobula, xray, []

    def send(self, count=5):
        documents = [segment() for _ in range(count)]
        self.sent += documents
        self.mobula.send(*documents)

    def until(self, condition, what, seconds=20):
        """Sends on until `condition` holds."""
        last = [0.0]

        def step():
            if time.monotonic() - last[0] > 0.1:
                last[0] = time.monotonic()
                self.send()
            return condition()

        return wait_for(step, what, seconds)

    def all_arrived(self, seconds=30):
        check_balance(self.mobula.settled(seconds=seconds))
        ledger = self.mobula.stop()
        assert not ledger["lanes"]["aws"]["dropped"], ledger
        assert collections.Counter(self.xray.documents) == collections.Counter(d.decode() for d in self.sent)

    def keys_used(self):
        return {request.key_id for request in self.xray.requests if request.status == 200}


def degraded(mobula, *words):
    """Waits until the health page is degraded and says these words."""
    body = [""]

    def told():
        status, body[0] = mobula.get("/readyz")
        return status == 200 and "degraded" in body[0] and all(word in body[0] for word in words)

    wait_for(told, lambda: f"{words} in {body[0]!r}", 30)
    return body[0]


# --- sources -------------------------------------------------------------------------------------------------

def test_web_identity_reads_the_rotated_token(tmp_path, xray):
    token = write(tmp_path / "token", "first.token")
    with FakeSts(keys=[], services=[xray], lifetime=5, region=xray.region, tokens=["first.token"]) as sts:
        sts.allow(ROLE)
        with agent(tmp_path, xray, AWS_WEB_IDENTITY_TOKEN_FILE=token, AWS_ROLE_ARN=ROLE, AWS_ROLE_SESSION_NAME="pod-7",
                   AWS_ENDPOINT_URL_STS=sts.url) as m:
            stream = Stream(m, xray)
            stream.until(lambda: len(sts.calls) >= 2 and xray.documents, "a first renewal")
            sts.tokens.add("second.token")
            write(token, "second.token")
            stream.until(lambda: sts.calls[-1]["WebIdentityToken"] == "second.token", "the new token at the next renewal")
            sts.tokens = {"second.token"}
            calls = len(sts.calls)
            stream.until(lambda: len(sts.calls) >= calls + 2, "two more renewals")
            stream.all_arrived()
            assert "first.token" not in m.log and "second.token" not in m.log
        assert {(c["RoleArn"], c["RoleSessionName"]) for c in sts.calls} == {(ROLE, "pod-7")}
        assert len(stream.keys_used()) >= 3
        assert not sts.problems and not xray.problems, (sts.problems, xray.problems)


def test_pod_identity_reads_the_rotated_token(tmp_path, xray):
    token = write(tmp_path / "eks-pod-identity-token", "eyJ.one")
    with FakeContainer(services=[xray], lifetime=5, token_file=token) as container:
        with agent(tmp_path, xray, AWS_CONTAINER_CREDENTIALS_FULL_URI=container.full_uri,
                   AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=token) as m:
            stream = Stream(m, xray)
            stream.until(lambda: len(container.issued) >= 2, "a first renewal")
            # A token that is exchanged between being read and being sent would be refused once; there is another try.
            write(token, "eyJ.two")
            stream.until(lambda: container.requests[-1].header("Authorization") == "eyJ.two" and container.requests[-1].status == 200,
                         "the new token at the next renewal")
            issued = len(container.issued)
            stream.until(lambda: len(container.issued) >= issued + 2, "two more renewals")
            stream.all_arrived()
            assert not any(secret in m.log for secret in ("eyJ.one", "eyJ.two", container.issued[0].secret))
        assert len(stream.keys_used()) >= 3
        assert len(container.problems) <= 1 and not xray.problems, (container.problems, xray.problems)


def test_an_instances_role_by_metadata_version_2_only(tmp_path, xray):
    with FakeImds(services=[xray], lifetime=6, region=xray.region) as imds:
        with agent(tmp_path, xray, {"region": None}, AWS_EC2_METADATA_DISABLED=None, AWS_REGION=None,
                   AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.url) as m:
            stream = Stream(m, xray)
            stream.until(lambda: len(imds.issued) >= 3, "two renewals", 30)
            # The sessions with the metadata service end too.
            for known in list(imds.tokens):
                imds.tokens[known] = 0
            stream.until(lambda: len(imds.issued) >= 5, "two more renewals, with a new session", 30)
            stream.all_arrived()
        assert len(stream.keys_used()) >= 4
        # Asked again with a session that had ended: at most once for each question under way, and never without one.
        assert all("401" in problem for problem in imds.problems) and len(imds.problems) <= 2, imds.problems
        asked = [r for r in imds.requests if r.target != "/latest/api/token"]
        assert all(r.header("X-aws-ec2-metadata-token") for r in asked)
        assert not xray.problems, xray.problems


def test_a_program_that_prints_credentials(tmp_path, xray):
    with FakeContainer(services=[xray], lifetime=5) as issuer:
        program = write(tmp_path / "issue.py", "import sys, urllib.request, json\n"
                        f"key = json.load(urllib.request.urlopen({issuer.full_uri!r}))\n"
                        "print(json.dumps({'Version': 1, 'AccessKeyId': key['AccessKeyId'], 'SecretAccessKey': key['SecretAccessKey'],\n"
                        "                  'SessionToken': key['Token'], 'Expiration': key['Expiration']}))\n")
        config = write(tmp_path / "config", f"[profile vault]\ncredential_process = {sys.executable} {program} 'one argument'\n")
        with agent(tmp_path, xray, {"profile": "vault"}, AWS_CONFIG_FILE=config) as m:
            stream = Stream(m, xray)
            stream.until(lambda: len(issuer.issued) >= 4, "three renewals")
            stream.all_arrived()
        assert len(stream.keys_used()) >= 3
        assert not issuer.problems and not xray.problems, (issuer.problems, xray.problems)


# --- what goes wrong -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("offset", [-600, 600])
def test_a_wrong_clock_is_corrected(tmp_path, offset):
    with FakeXray(keys=[Key(*KEY)]) as xray:
        xray.fail(date_offset=offset)
        with agent(tmp_path, xray, AWS_ACCESS_KEY_ID=KEY[0], AWS_SECRET_ACCESS_KEY=KEY[1]) as m:
            stream = Stream(m, xray)
            stream.until(lambda: len(xray.documents) >= 50, "segments to arrive")
            stream.all_arrived()
        refused = [r for r in xray.requests if r.status != 200]
        assert 1 <= len(refused) <= 8, len(refused)  # those that were on their way before the first answer


@pytest.mark.parametrize("how", ["expired", "revoked"])
def test_refused_credentials_are_renewed_and_the_batch_is_sent_again(tmp_path, xray, how):
    with FakeContainer(services=[xray]) as container:
        with agent(tmp_path, xray, AWS_CONTAINER_CREDENTIALS_FULL_URI=container.full_uri) as m:
            stream = Stream(m, xray)
            for turn in (1, 2):
                stream.until(lambda n=turn: container.issued and container.issued[-1].id in stream.keys_used() and len(container.issued) == n,
                             "segments with the present credentials")
                if how == "expired":
                    container.issued[-1].expired = True
                else:
                    container.revoke(container.issued[-1])
                stream.until(lambda n=turn: len(container.issued) == n + 1, "new credentials", 30)
            stream.until(lambda: container.issued[-1].id in stream.keys_used(), "segments with the newest credentials")
            stream.all_arrived()
        assert len(container.issued) == 3 and not container.problems, container.problems


def test_it_starts_without_credentials_and_takes_them_when_they_come(tmp_path, xray):
    key = Key("AKIALATE", "late/secret")
    xray.check.keys[key.id] = key
    file = tmp_path / "credentials"
    with agent(tmp_path, xray, AWS_SHARED_CREDENTIALS_FILE=str(file)) as m:
        stream = Stream(m, xray)
        stream.send(20)
        degraded(m, "credentials", "AWS_ACCESS_KEY_ID")
        wait_for(lambda: m.ledger()["lanes"]["aws"]["held"] == 20, "the segments to be held")
        write(file, f"[default]\naws_access_key_id = {key.id}\naws_secret_access_key = {key.secret}\n")
        wait_for(lambda: len(xray.documents) == 20, "what was held to arrive", 40)
        wait_for(lambda: "degraded" not in m.get("/readyz")[1], lambda: m.get("/readyz"))
        stream.all_arrived()
        assert key.secret not in m.log
    assert not xray.problems, xray.problems


NESTED = "<A>" * 20000
FAULTS = {
    "no-xml": {"body": "this is not XML"},
    "cut-xml": {"body": "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>A</AccessKeyId>"},
    "other-xml": {"body": "<html><body>Welcome to the hotel's network</body></html>"},
    "no-keys": {"body": "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId></AccessKeyId><SecretAccessKey/>"
                        "<SessionToken>x</SessionToken><Expiration>soon</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"},
    "entities": {"body": '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><AssumeRoleResponse>&c;</AssumeRoleResponse>'},
    "nested": {"body": NESTED},
    "endless": {"endless": True},
    "redirect": {"redirect": "http://127.0.0.1:1/elsewhere"},
    "http-1-0": {"raw": "HTTP/1.0 200 OK\r\n\r\n<html/>"},
    "no-http": {"raw": "SSH-2.0-OpenSSH_9.2\r\n"},
    "reset": {"reset": True},
    "server-error": {"status": 500, "code": "InternalFailure"},
    "hang": {"hang": True},
}


def test_every_way_sts_can_break_is_told_bounded_and_survived(tmp_path, xray):
    # A tenant for each, so that one's trouble would show in another.
    with contextlib.ExitStack() as stack:
        backends, fakes, sent = {}, {}, {}
        for number, (name, fault) in enumerate(FAULTS.items()):
            role = f"arn:aws:iam::{number:012}:role/{name}"
            sts = fakes[name] = stack.enter_context(FakeSts(keys=[Key(*KEY)], services=[xray], region=xray.region))
            sts.allow(role)
            sts.fail(**fault)
            backends[name] = {"type": "xray", "region": xray.region, "endpoint": xray.url, "role_arn": role, "sts_endpoint": sts.url}
            sent[name] = [segment(annotations={"tenant": name}) for _ in range(20)]
        routes = [{"when": f'annotation.tenant = "{name}"', "to": [name]} for name in backends]
        m = stack.enter_context(Mobula(tmp_path, backends, environment={**BARE, "AWS_ACCESS_KEY_ID": KEY[0], "AWS_SECRET_ACCESS_KEY": KEY[1]},
                                       routes=routes))
        begin = resident_kib(m.process.pid)
        for documents in sent.values():
            m.send(*documents)
        reasons = degraded(m, *(f"credentials of {backend['role_arn']}: " for backend in backends.values()))
        assert all(len(line) < 2048 for line in reasons.splitlines()) and NESTED[:100] not in reasons
        for name, sts in fakes.items():
            wait_for(lambda s=sts: len(s.requests) >= 2, f"another try: {name}", 30)
            # What an endless body may cost, and nothing that grows with it.
            assert sts.endless_bytes < 16 << 20
        lanes = m.ledger()["lanes"]
        assert all((lane["delivered"], lane["held"], lane["dropped"]) == (0, 20, {}) for lane in lanes.values()), lanes
        assert resident_kib(m.process.pid) - begin < 32768 * PATIENCE
        for sts in fakes.values():
            sts.heal()
        check_balance(m.settled(seconds=60))
        assert all(lane["delivered"] == 20 for lane in m.stop()["lanes"].values())
        assert KEY[1] not in m.log
        assert collections.Counter(xray.documents) == collections.Counter(d.decode() for documents in sent.values() for d in documents)
        assert not xray.problems, xray.problems


def test_an_sts_that_is_not_to_be_trusted_gets_nothing(tmp_path, xray):
    good, bad = certificate(tmp_path, "good"), certificate(tmp_path, "bad")
    sts = FakeSts(keys=[Key(*KEY)], services=[xray], region=xray.region, tls=bad)
    sts.allow(ROLE)
    sts.start()
    try:
        with agent(tmp_path, xray, {"role_arn": ROLE, "sts_endpoint": sts.url}, AWS_ACCESS_KEY_ID=KEY[0], AWS_SECRET_ACCESS_KEY=KEY[1],
                   AWS_CA_BUNDLE=good[0]) as m:
            stream = Stream(m, xray)
            stream.send(30)
            degraded(m, "credentials", ROLE, "certificate")
            assert not sts.requests
            sts.stop()
            sts.tls = good
            sts.start()
            wait_for(lambda: len(xray.documents) == 30, "what was held to arrive", 60)
            stream.all_arrived()
    finally:
        sts.stop()
    assert not sts.problems and not xray.problems, (sts.problems, xray.problems)
