"""moto_server as a peer: an AWS of somebody else's that verifies signatures and permissions, with several accounts."""
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request

import boto3
from mobula import free_port, wait_for

REGION = "us-east-1"
EVERYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})


def trust(external_id):
    """A trust policy that lets in whoever brings this external id."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}}}]})


class Moto:
    """moto_server with one user who may do everything and the roles of `set_up`; from then on each call must be signed
    rightly and permitted."""

    def __init__(self, folder, set_up=lambda moto: None):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        server = os.path.join(os.path.dirname(sys.executable), "moto_server")
        self.log = open(os.path.join(folder, "moto.txt"), "wb")
        self.process = subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(self.port)], stdout=self.log, stderr=self.log,
                                        env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "1000"})
        wait_for(self.answers, "moto", 30)
        iam = self.client("iam", ("any", "any"))
        iam.create_user(UserName="agent")
        iam.put_user_policy(UserName="agent", PolicyName="all", PolicyDocument=EVERYTHING)
        key = iam.create_access_key(UserName="agent")["AccessKey"]
        self.id, self.secret = key["AccessKeyId"], key["SecretAccessKey"]
        set_up(self)
        self.request("/moto-api/reset-auth", b"0")

    def client(self, service, keys=None):
        """`keys` are the arguments of a boto3 client that say who asks; without them it is the user."""
        id_, secret, *token = keys or (self.id, self.secret)
        return boto3.client(service, region_name=REGION, endpoint_url=self.url, aws_access_key_id=id_, aws_secret_access_key=secret,
                            aws_session_token=token[0] if token else None)

    def session(self, role_arn):
        """Keys of a role in any account."""
        c = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="test")["Credentials"]
        return c["AccessKeyId"], c["SecretAccessKey"], c["SessionToken"]

    def role(self, account, name, trusts=None, policy=EVERYTHING):
        """Makes a role, while calls are not checked yet; returns its ARN."""
        iam = self.client("iam", self.session(f"arn:aws:iam::{account}:role/maker"))
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trusts or trust("any"))["Role"]["Arn"]
        if policy:
            iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=policy)
        return arn

    def request(self, path, data=None):
        request = urllib.request.Request(self.url + path, data=data, headers={"Content-Type": "text/plain"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def answers(self):
        with contextlib.suppress(OSError):
            return bool(self.request("/moto-api/data.json"))
        return False

    def documents(self, trace_ids, keys=None):
        """Everything stored under these traces in the account of `keys`, as moto was given it."""
        xray, found, wanted = self.client("xray", keys), [], sorted(trace_ids)
        for begin in range(0, len(wanted), 5):
            for trace in xray.batch_get_traces(TraceIds=wanted[begin : begin + 5])["Traces"]:
                found += [s["Document"] for s in trace["Segments"]]
        return found

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Relay:
    """Passes TCP connections on and keeps what clients said on them."""

    def __init__(self, port):
        self.target, self.said = ("127.0.0.1", port), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                said = bytearray()
                self.said.append(said)
                server = socket.create_connection(self.target)
                threading.Thread(target=self.pass_on, args=(client, server, said), daemon=True).start()
                threading.Thread(target=self.pass_on, args=(server, client, None), daemon=True).start()

    @staticmethod
    def pass_on(source, target, said):
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65536):
                if said is not None:
                    said += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def text(self):
        return b"".join(bytes(said) for said in self.said).decode()
