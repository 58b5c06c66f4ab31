"""Assumed roles: every tenant's segments in an account of their own, and nobody's trouble anybody else's."""
import collections
import contextlib
import json
import re
import time
import urllib.parse

import pytest
from fake_aws import FakeSts
from fake_xray import FakeXray, Key
from mobula import KEY, Mobula, check_balance, segment, wait_for
from moto_peer import EVERYTHING, REGION, Moto, Relay, trust

OWN, ACCOUNTS = "123456789012", {"a": "111111111111", "b": "222222222222"}
EXTERNAL_IDS = {"a": "tenant-a/7", "b": "tenant:b=8"}
NOTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})


def roles(moto):
    for tenant, account in ACCOUNTS.items():
        moto.role(account, "xray-writer", trust(EXTERNAL_IDS[tenant]))
        moto.role(account, "reader")
    moto.role(ACCOUNTS["b"], "powerless", policy=NOTHING)
    # moto looks at the trust of a role in the caller's own account only.
    moto.role(OWN, "closed", trust("some-other-id"))
    moto.readers = {tenant: moto.session(f"arn:aws:iam::{account}:role/reader") for tenant, account in ACCOUNTS.items()}


@pytest.fixture(name="moto", scope="module")
def fixture_moto(tmp_path_factory):
    server = Moto(tmp_path_factory.mktemp("moto"), roles)
    yield server
    server.close()


def writer(account, name="xray-writer"):
    return f"arn:aws:iam::{account}:role/{name}"


def by_tenant(*tenants):
    return [{"when": f'annotation.tenant = "{tenant}"', "to": [tenant]} for tenant in tenants]


def segments(tenant, count):
    return [segment(annotations={"tenant": tenant, "n": n}) for n in range(count)]


def same(got, sent):
    assert collections.Counter(got) == collections.Counter(document.decode() for document in sent)


def test_each_account_holds_exactly_its_own(tmp_path, moto):
    sent = {tenant: segments(tenant, 60) for tenant in ("a", "b", "own")}
    with Relay(moto.port) as relay:
        backends = {tenant: {"type": "xray", "region": REGION, "endpoint": moto.url, "sts_endpoint": relay.url,
                             "role_arn": writer(account), "external_id": EXTERNAL_IDS[tenant]} for tenant, account in ACCOUNTS.items()}
        backends["own"] = {"type": "xray", "region": REGION, "endpoint": moto.url}
        with Mobula(tmp_path, backends, environment={"AWS_ACCESS_KEY_ID": moto.id, "AWS_SECRET_ACCESS_KEY": moto.secret},
                    routes=[*by_tenant("a", "b"), {"to": ["own"]}]) as m:
            m.send(*[document for three in zip(*sent.values()) for document in three])
            check_balance(m.settled(seconds=30))
            for account in ACCOUNTS.values():
                assert m.metric("mobula_aws_credentials_ok", identity=writer(account)) == 1
            ledger = m.stop()
            assert all(lane["delivered"] == 60 for lane in ledger["lanes"].values()), ledger
        ids = [json.loads(document)["trace_id"] for documents in sent.values() for document in documents]
        for tenant, keys in {**moto.readers, "own": None}.items():
            same(moto.documents(ids, keys), sent[tenant])
        calls = [dict(urllib.parse.parse_qsl(form)) for form in re.findall(r"\r\n\r\n(\S*?)(?=POST |$)", relay.text())]
        assert {call["RoleArn"]: (call["ExternalId"], call["RoleSessionName"]) for call in calls} == {
            writer(account): (EXTERNAL_IDS[tenant], "xray-daemon") for tenant, account in ACCOUNTS.items()}


@pytest.mark.parametrize("broken", [
    {"role_arn": writer(OWN, "closed"), "external_id": "not-the-one"},
    {"role_arn": writer(ACCOUNTS["b"], "powerless")},
], ids=["may-not-be-assumed", "may-not-write"])
def test_a_role_without_permission_fails_alone_and_visibly(tmp_path, moto, broken):
    moto.client("iam").update_assume_role_policy(RoleName="closed", PolicyDocument=trust("some-other-id"))
    aws = {"type": "xray", "region": REGION, "endpoint": moto.url, "sts_endpoint": moto.url}
    backends = {"a": {**aws, "role_arn": writer(ACCOUNTS["a"]), "external_id": EXTERNAL_IDS["a"]}, "b": {**aws, **broken}}
    sent = {tenant: segments(tenant, 40) for tenant in ACCOUNTS}
    with Mobula(tmp_path, backends, environment={"AWS_ACCESS_KEY_ID": moto.id, "AWS_SECRET_ACCESS_KEY": moto.secret},
                routes=by_tenant("a", "b")) as m:
        m.send(*[document for two in zip(*sent.values()) for document in two])
        m.settled(lanes=["a"])
        lanes = m.ledger()["lanes"]
        assert (lanes["a"]["delivered"], lanes["b"]["delivered"], lanes["b"]["held"], lanes["b"]["dropped"]) == (40, 0, 40, {})
        status, body = wait_for(lambda: "degraded" in m.get("/readyz")[1] and m.get("/readyz"), lambda: m.get("/readyz"))
        assert status == 200 and "AccessDenied" in body, body
        assert m.metric("mobula_backend_degraded", backend="b") == 1 and m.metric("mobula_backend_degraded", backend="a") == 0
        assert m.metric("mobula_aws_credentials_ok", identity=writer(ACCOUNTS["a"])) == 1
        if "closed" in broken["role_arn"]:
            assert broken["role_arn"] in body, body
            assert m.metric("mobula_aws_credentials_ok", identity=broken["role_arn"]) == 0
            assert m.metric("mobula_aws_credentials_failures_total", identity=broken["role_arn"]) >= 1
        # Somebody helps: what was held arrives.
        if "closed" in broken["role_arn"]:
            moto.client("iam").update_assume_role_policy(RoleName="closed", PolicyDocument=trust("not-the-one"))
        else:
            moto.client("iam", moto.readers["b"]).put_role_policy(RoleName="powerless", PolicyName="all", PolicyDocument=EVERYTHING)
        check_balance(m.settled(seconds=60))
        assert m.stop()["lanes"]["b"]["delivered"] == 40
    ids = [json.loads(document)["trace_id"] for documents in sent.values() for document in documents]
    same(moto.documents(ids, moto.readers["a"]), sent["a"])
    same(moto.documents(ids, None if "closed" in broken["role_arn"] else moto.readers["b"]), sent["b"])


@contextlib.contextmanager
def fakes(**sts):
    """STS that knows the agent's key, and X-Ray that knows only what STS issues."""
    with FakeXray(keys=[Key("NOBODY", "x")]) as xray, FakeSts(keys=[Key(*KEY)], services=[xray], region=xray.region, **sts) as fake:
        yield xray, fake
        assert not fake.problems, fake.problems
        assert not xray.problems, xray.problems


def fake_backend(xray, sts, **more):
    return {"type": "xray", "region": xray.region, "endpoint": xray.url, "sts_endpoint": sts.url, **more}


def test_sessions_that_end_while_segments_flow_lose_nothing(tmp_path):
    arns = {tenant: writer(account) for tenant, account in ACCOUNTS.items()}
    with fakes(lifetime=5) as (xray, sts):
        for tenant, arn in arns.items():
            sts.allow(arn, EXTERNAL_IDS[tenant])
        backends = {tenant: fake_backend(xray, sts, role_arn=arn, external_id=EXTERNAL_IDS[tenant]) for tenant, arn in arns.items()}
        sent = {tenant: [] for tenant in arns}
        with Mobula(tmp_path, backends, routes=by_tenant(*arns), batch={"age": "100ms"}) as m:
            end = time.monotonic() + 17
            while time.monotonic() < end:
                for tenant, documents in sent.items():
                    documents += segments(tenant, 5)
                    m.send(*documents[-5:])
                time.sleep(0.05)
            check_balance(m.settled())
            assert m.metric("mobula_aws_credentials_renewals_total", identity=arns["a"]) >= 4
            assert not any(lane["dropped"] for lane in m.stop()["lanes"].values())
        for tenant, arn in arns.items():
            keys = {key.id for key in sts.issued_for(arn)}
            calls = [r for r in xray.requests if r.key_id in keys and r.documents]
            # Each tenant's documents once, signed by keys of the tenant's role, of several sessions.
            same([d for call in calls for d in call.documents], sent[tenant])
            assert len({call.key_id for call in calls}) >= 4


def test_a_chain_of_roles_with_tags(tmp_path):
    hub, target = writer(OWN, "hub"), writer(ACCOUNTS["a"])
    with fakes() as (xray, sts):
        sts.allow(hub, external_id="first", callers=[KEY[0]])
        sts.allow(target, external_id="second", callers=[hub])
        backend = fake_backend(xray, sts, via=[{"role_arn": hub, "external_id": "first", "session_name": "step-1"}], role_arn=target,
                               external_id="second", session_name="step-2", duration="15m", source_identity="mobula@e2e",
                               session_tags={"team": "orders @ sea +1", "stage": "prod"})
        with Mobula(tmp_path, {"aws": backend}) as m:
            document = segment()
            m.send(document)
            m.settled()
            m.stop()
        same(xray.documents, [document])
        (first,), (second,) = sts.calls_of(hub), sts.calls_of(target)
        assert first["RoleSessionName"] == "step-1" and first["DurationSeconds"] == "3600"
        assert (second["RoleSessionName"], second["DurationSeconds"], second["SourceIdentity"]) == ("step-2", "900", "mobula@e2e")
        tags = {second[f"Tags.member.{n}.Key"]: second[f"Tags.member.{n}.Value"] for n in (1, 2)}
        assert tags == {"team": "orders @ sea +1", "stage": "prod"}
        assert "TransitiveTagKeys.member.1" not in second


def test_equal_identities_share_one_session(tmp_path):
    role = writer(ACCOUNTS["a"])
    with fakes() as (xray, sts):
        sts.allow(role, external_id="x1")
        backends = {name: fake_backend(xray, sts, role_arn=role, external_id="x1") for name in ("one", "two")}
        with Mobula(tmp_path, backends) as m:
            m.send(segment())
            m.settled()
            m.stop()
        assert len(xray.documents) == 2 and len(sts.calls) == 1
