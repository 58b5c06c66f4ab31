"""Tests of the fakes of STS, instance metadata and the container endpoint: botocore must be content with them, and they
with botocore; what is wrong must be refused."""
import http.client
import json
import os
import sys
import tempfile
import time
import unittest

try:
    import botocore.config
    import botocore.exceptions
    import botocore.parsers
    import botocore.session
    from botocore.utils import ContainerMetadataFetcher, InstanceMetadataFetcher
except ImportError:
    print("botocore is missing: run tools/setup --test")
    sys.exit(77)  # Meson: skipped

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fake_aws import FakeContainer, FakeImds, FakeSts  # noqa: E402
from fake_xray import FakeXray, Key  # noqa: E402

ROLE, OTHER = "arn:aws:iam::111111111111:role/writer", "arn:aws:iam::222222222222:role/path/other"


def client(service, url, key):
    session = botocore.session.Session()
    if key:
        session.set_credentials(key.id, key.secret, key.token)
    return session.create_client(service, "us-west-2", endpoint_url=url, verify=False, config=botocore.config.Config(
        retries={"total_max_attempts": 1}, read_timeout=5, proxies={}, signature_version=None if key else botocore.UNSIGNED))


def key_of(credentials):
    return Key(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])


def ask(fake, method, target, headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", fake.port, timeout=5)
    try:
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class FakeAwsTest(unittest.TestCase):
    def code_of(self, call):
        with self.assertRaises(botocore.exceptions.ClientError) as caught:
            call()
        return caught.exception.response["Error"]["Code"]

    def test_roles_are_assumed_and_their_keys_work_until_they_expire(self):
        with FakeXray() as xray, FakeSts(services=[xray], lifetime=3) as sts:
            sts.allow(ROLE, external_id="tenant:a/1")
            sts.allow(OTHER, callers=[ROLE])
            first = client("sts", sts.url, Key())
            self.assertEqual(first.get_caller_identity()["Account"], "123456789012")
            answer = first.assume_role(RoleArn=ROLE, RoleSessionName="s-1", ExternalId="tenant:a/1", SourceIdentity="me",
                                       Tags=[{"Key": "team", "Value": "ä b"}, {"Key": "x", "Value": ""}], TransitiveTagKeys=["x"])
            self.assertEqual(answer["AssumedRoleUser"]["Arn"], "arn:aws:sts::111111111111:assumed-role/writer/s-1")
            self.assertEqual(sts.calls_of(ROLE)[0]["Tags.member.1.Value"], "ä b")
            key = key_of(answer["Credentials"])
            chained = client("sts", sts.url, key)
            self.assertEqual(self.code_of(lambda: chained.assume_role(RoleArn=OTHER, RoleSessionName="s-2", DurationSeconds=7200)),
                             "ValidationError")
            sts.problems.clear()
            chained.assume_role(RoleArn=OTHER, RoleSessionName="s-2")
            put = {"TraceSegmentDocuments": ["{}"]}
            client("xray", xray.url, key).put_trace_segments(**put)
            self.assertEqual((sts.problems, len(xray.documents)), ([], 1))
            time.sleep(max(0, answer["Credentials"]["Expiration"].timestamp() - time.time()))
            self.assertEqual(self.code_of(lambda: client("xray", xray.url, key).put_trace_segments(**put)), "ExpiredTokenException")
            self.assertEqual(self.code_of(lambda: chained.assume_role(RoleArn=OTHER, RoleSessionName="s-2")), "ExpiredToken")
            sts.revoke(sts.issued[1])
            self.assertEqual(self.code_of(lambda: client("sts", sts.url, sts.issued[1]).get_caller_identity()), "InvalidClientTokenId")

    def test_refuses_who_may_not(self):
        with FakeSts() as sts:
            sts.allow(ROLE, external_id="tenant")
            sts.allow(OTHER, callers=["AKIDOTHER"])
            good = client("sts", sts.url, Key())
            for role, more in ((ROLE, {}), (ROLE, {"ExternalId": "wrong"}), (OTHER, {}), (OTHER + "x", {})):
                self.assertEqual(self.code_of(lambda: good.assume_role(RoleArn=role, RoleSessionName="s-1", **more)), "AccessDenied")
            forger = client("sts", sts.url, Key(secret="wrong"))
            self.assertEqual(self.code_of(lambda: forger.assume_role(RoleArn=ROLE, RoleSessionName="s-1")), "SignatureDoesNotMatch")
            self.assertEqual(self.code_of(lambda: good.assume_role(RoleArn=ROLE, RoleSessionName="no spaces")), "ValidationError")
            self.assertEqual(self.code_of(lambda: good.get_session_token()), "InvalidAction")
            self.assertEqual(len(sts.problems), 7)
            self.assertEqual(sts.issued, [])
            sts.problems.clear()
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            ask(sts, "POST", "/", form, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&Surplus=1&Surplus=2")
            self.assertTrue(any("Surplus" in p for p in sts.problems) and any("twice" in p for p in sts.problems), sts.problems)

    def test_web_identity(self):
        with FakeSts(tokens=["first.token"]) as sts:
            sts.allow(ROLE)
            c = client("sts", sts.url, None)
            call = {"RoleArn": ROLE, "RoleSessionName": "pod"}
            c.assume_role_with_web_identity(WebIdentityToken="first.token", **call)
            self.assertEqual(sts.problems, [])
            sts.tokens = {"second.token"}
            self.assertEqual(self.code_of(lambda: c.assume_role_with_web_identity(WebIdentityToken="first.token", **call)),
                             "ExpiredTokenException")

    def test_fails_as_scripted(self):
        with FakeSts() as sts:
            sts.allow(ROLE)
            c = client("sts", sts.url, Key())

            def assume():
                return c.assume_role(RoleArn=ROLE, RoleSessionName="s-1")

            sts.next({"status": 400, "code": "Throttling"}, None, {"reset": True}, {"body": "<Assume"}, {"raw": "nonsense\r\n\r\n"}, {"cut": 40})
            self.assertEqual(self.code_of(assume), "Throttling")
            assume()
            for _ in range(4):
                with self.assertRaises((botocore.exceptions.BotoCoreError, botocore.parsers.ResponseParserError)):
                    assume()
            sts.fail(redirect="http://127.0.0.1:1/")
            self.assertEqual(ask(sts, "GET", "/")[0], 307)
            sts.fail(endless=True)
            connection = http.client.HTTPConnection("127.0.0.1", sts.port, timeout=5)
            connection.request("GET", "/")
            self.assertEqual(len(connection.getresponse().read(1 << 20)), 1 << 20)
            connection.close()
            sts.heal()
            assume()

    def test_instance_metadata_takes_version_2_only(self):
        with FakeXray(keys=[Key()]) as xray, FakeImds(services=[xray]) as imds:
            found = InstanceMetadataFetcher(base_url=imds.url, num_attempts=1).retrieve_iam_role_credentials()
            self.assertEqual(found["role_name"], "instance-role")
            self.assertEqual(imds.problems, [])
            client("xray", xray.url, Key(found["access_key"], found["secret_key"], found["token"])).put_trace_segments(
                TraceSegmentDocuments=["{}"])
            path = "/latest/meta-data/instance-id"
            self.assertEqual(ask(imds, "GET", path)[0], 401)
            self.assertEqual(ask(imds, "GET", path, {"X-aws-ec2-metadata-token": "made-up"})[0], 401)
            for ttl in ("", "0", "21601"):
                self.assertEqual(ask(imds, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": ttl})[0], 400)
            ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
            self.assertEqual(ask(imds, "PUT", "/latest/api/token", dict(ttl, **{"X-Forwarded-For": "10.0.0.1"}))[0], 403)
            status, token = ask(imds, "PUT", "/latest/api/token", ttl)
            self.assertEqual(status, 200)
            self.assertEqual(ask(imds, "GET", path, {"X-aws-ec2-metadata-token": token}), (200, "i-0123456789abcdef0"))
            imds.tokens[token] = 0
            self.assertEqual(ask(imds, "GET", path, {"X-aws-ec2-metadata-token": token})[0], 401)

    def test_the_container_endpoint_wants_the_files_content(self):
        with tempfile.NamedTemporaryFile("w") as file, FakeContainer(token_file=file.name) as container:
            file.write("eyJ.one")
            file.flush()
            fetch = ContainerMetadataFetcher()
            answer = fetch.retrieve_full_uri(container.full_uri, headers={"Authorization": "eyJ.one"})
            self.assertEqual(answer["AccessKeyId"], container.issued[0].id)
            self.assertEqual(container.problems, [])
            file.seek(0)
            file.write("eyJ.two")
            file.flush()
            self.assertEqual(ask(container, "GET", container.path, {"Authorization": "eyJ.one"})[0], 401)
            status, body = ask(container, "GET", container.path, {"Authorization": "eyJ.two"})
            self.assertEqual((status, "Expiration" in json.loads(body)), (200, True))
            self.assertEqual(len(container.problems), 1)


if __name__ == "__main__":
    unittest.main()
