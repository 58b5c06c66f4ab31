"""Strict stand-ins, on loopback, for the places that AWS credentials come from: STS, EC2 instance metadata, and the
container endpoint of ECS and EKS. Each records what was asked (`requests`) and everything about it that the real
service, or its documentation, would object to (`problems`), and fails in whatever way a test asks for.

    with FakeXray(keys=[]) as xray, FakeSts(services=[xray], lifetime=5) as sts:
        sts.allow("arn:aws:iam::111111111111:role/writer", external_id="tenant-a")
        ... sts.url ...; sts.fail(status=503); sts.heal(); sts.next({"reset": True}, None)
        sts.calls, sts.issued, sts.problems

Keys that are issued are known to `services` (FakeXray) at once, and refused by them when they have expired.

A fault is a dict of: status, code, message (an error of the service), headers (dict), body (text instead of the
answer's), raw (text instead of the whole answer), delay (s), hang, reset, cut (bytes of the body before the
connection closes), endless (a body without an end), redirect (a URL), date_offset (s the Date header is off, and the
clock that signatures are held against).
"""
import collections
import datetime
import email.utils
import http.server
import json
import os
import re
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

from fake_xray import Key, Refused, Request, SignatureCheck

BODY_BYTES_MAX = 64 << 10
# Where an endless body ends after all, so that a client that reads on does not fill the machine.
ENDLESS_BYTES_MAX = 64 << 20


def iso_time(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class TemporaryKey(Key):
    """Keys with an end. `expired` may also be set by hand."""

    count = 0

    def __init__(self, lifetime, origin=""):
        TemporaryKey.count += 1
        super().__init__("ASIA%016d" % TemporaryKey.count, os.urandom(24).hex() + "/+", "token/+==" + os.urandom(300).hex())
        self.origin = origin
        self.issued = time.time()
        # Answers tell whole seconds.
        self.expires = int(self.issued + lifetime)

    @property
    def expired(self):
        return self._expired or time.time() >= self.expires

    @expired.setter
    def expired(self, value):
        self._expired = value

    def document(self):
        """As container endpoints and EC2 tell it."""
        return {"AccessKeyId": self.id, "SecretAccessKey": self.secret, "Token": self.token, "Expiration": iso_time(self.expires)}


class Answer(Exception):
    """Ends a request early with this answer."""

    def __init__(self, status, body, headers=None):
        super().__init__("%d %s" % (status, body))
        self.status, self.body, self.headers = status, body, headers or {}


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # connections that clients or scripts break are part of the tests


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _any(self):
        self.server.fake.serve(self)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

    def log_message(self, *_):
        pass


class Fake:
    """What the three have in common: life, scripts, faults, records."""

    content_type = "application/json"

    def __init__(self, services=(), lifetime=3600.0, port=0, tls=None):
        self.services, self.lifetime, self.port, self.tls = list(services), lifetime, port, tls
        self.lock = threading.Lock()
        self.requests, self.problems, self.issued = [], [], []
        self.script, self.fault = collections.deque(), None
        self.healed = threading.Event()
        self.endless_bytes = 0  # of endless bodies, taken by clients
        self.server = None

    # steering -----------------------------------------------------------------------------------------------
    def next(self, *faults):
        with self.lock:
            self.script.extend(faults)

    def fail(self, **fault):
        with self.lock:
            self.fault = fault

    def heal(self):
        with self.lock:
            self.fault = None
            self.healed.set()
            self.healed = threading.Event()

    def problem(self, text):
        with self.lock:
            self.problems.append(text)

    def issue(self, origin=""):
        """New keys, known to the services from now on."""
        key = TemporaryKey(self.lifetime, origin)
        for service in self.services:
            service.check.keys[key.id] = key
        with self.lock:
            self.issued.append(key)
        return key

    def revoke(self, key):
        """The services know the key no more."""
        for service in self.services:
            service.check.keys.pop(key.id, None)

    # life ---------------------------------------------------------------------------------------------------
    @property
    def url(self):
        return "%s://127.0.0.1:%d" % ("https" if self.tls else "http", self.port)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Listens. A port once taken is kept over stop and start."""
        self.server = _Server(("127.0.0.1", self.port), _Handler)
        self.server.fake = self
        self.port = self.server.server_port
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            # The handshake is the connection's own thread's.
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        if self.server is None:
            return
        self.heal()
        self.server.shutdown()
        self.server.server_close()
        self.server = None

    # one request --------------------------------------------------------------------------------------------
    def serve(self, handler):
        headers = [(name, value.strip()) for name, value in handler.headers.items()]
        request = Request(handler.command, handler.path, headers, b"", handler.client_address[1])
        handler.close_connection = True  # unless all goes well
        size = request.header("Content-Length")
        if handler.request_version != "HTTP/1.1" or request.header("Transfer-Encoding") or \
                not re.fullmatch(r"\d{1,6}", size or "0") or int(size or 0) > BODY_BYTES_MAX:
            return self.problem("strange request: %s %s" % (handler.requestline, headers))
        request.body = handler.rfile.read(int(size or 0))
        if request.header("Host") not in ("127.0.0.1:%d" % self.port, "localhost:%d" % self.port):
            self.problem("Host %r" % request.header("Host"))
        with self.lock:
            fault = (self.script.popleft() if self.script else self.fault) or {}
            healed = self.healed
        if fault.get("delay"):
            time.sleep(fault["delay"])
        if fault.get("hang"):
            self._record(request, None)
            healed.wait(120)
            return None
        if fault.get("reset"):
            self._record(request, None)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(handler.connection.detach())
            return None
        status, body, more = self._judge(request, fault)
        more = dict(more, **fault.get("headers", {}))
        self._record(request, status)
        if "raw" in fault:
            handler.wfile.write(fault["raw"].encode())
        elif fault.get("endless"):
            self._endless(handler, status, body)
        else:
            self._answer(handler, status, fault.get("body", body).encode(), more, fault)
        return None

    def _record(self, request, status):
        request.status = status
        with self.lock:
            self.requests.append(request)

    def _judge(self, request, fault):
        """What the service says: (status, body, headers)."""
        if "redirect" in fault:
            return fault.get("status", 307), "", {"Location": fault["redirect"]}
        if "status" in fault or "code" in fault:
            status = fault.get("status", 400)
            return status, self.error(status, fault.get("code", "InternalFailure"), fault.get("message", "scripted by a test")), {}
        try:
            return 200, self.answer(request, fault), {}
        except Answer as a:
            self.problem("%s %s: %s" % (request.method, request.target, a))
            return a.status, a.body, a.headers

    def _head(self, status, headers):
        lines = {"Date": email.utils.formatdate(time.time(), usegmt=True), "Content-Type": self.content_type, **headers}
        return ("HTTP/1.1 %d Word\r\n%s\r\n" % (status, "".join("%s: %s\r\n" % line for line in lines.items()))).encode("latin-1")

    def _answer(self, handler, status, body, headers, fault):
        date = email.utils.formatdate(time.time() + fault.get("date_offset", 0), usegmt=True)
        head = self._head(status, {"Content-Length": str(len(body)), "Date": date, **headers})
        handler.wfile.write(head + body[:fault.get("cut", len(body))])
        handler.close_connection = "cut" in fault or (handler.headers.get("Connection") or "").lower() == "close"

    def _endless(self, handler, status, body):
        handler.wfile.write(self._head(status, {"Connection": "close"}) + body.encode())
        chunk = b" " * 65536
        while self.endless_bytes < ENDLESS_BYTES_MAX:
            handler.wfile.write(chunk)
            with self.lock:
                self.endless_bytes += len(chunk)

    # for the services ---------------------------------------------------------------------------------------
    def answer(self, request, fault):
        raise NotImplementedError

    def error(self, status, code, message):
        return json.dumps({"code": code, "message": message})


class FakeSts(Fake):
    """STS: AssumeRole and GetCallerIdentity, signed, and AssumeRoleWithWebIdentity, which must not be.

    `keys` are those that callers may sign with, besides the ones that were issued here. Only roles that were allowed
    can be assumed, and only web identity tokens in `tokens`.
    """

    content_type = "text/xml"
    NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
    FIELDS = {"Action", "Version", "RoleArn", "RoleSessionName", "DurationSeconds"}
    ASSUME = FIELDS | {"ExternalId", "SourceIdentity"}
    FORMS = {"RoleArn": r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}", "RoleSessionName": r"[\w+=,.@-]{2,64}",
             "ExternalId": r"[\w+=,.@:/-]{2,1224}", "SourceIdentity": r"[\w+=,.@-]{2,64}", "DurationSeconds": r"\d{3,5}",
             "WebIdentityToken": r"[\s\S]{4,20000}", "Version": "2011-06-15"}
    TAG = re.compile(r"Tags\.member\.(\d+)\.(Key|Value)|TransitiveTagKeys\.member\.(\d+)")

    def __init__(self, keys=None, region="us-west-2", services=(), lifetime=3600.0, port=0, tls=None, tokens=()):
        super().__init__(services, lifetime, port, tls)
        self.check = SignatureCheck([Key()] if keys is None else keys, region, "sts")
        self.services.append(self)  # roles can be chained
        self.roles = {}
        self.tokens = set(tokens)
        self.calls = []  # the forms, each with "key": the id of the key that signed it

    def allow(self, role_arn, external_id=None, callers=None, duration_max=43200):
        """The role may be assumed: with this external id (None: whatever is sent), and if `callers` is given only by
        keys whose id, or whose role, is in it."""
        self.roles[role_arn] = {"external_id": external_id, "callers": callers, "duration_max": duration_max}

    def calls_of(self, role_arn):
        with self.lock:
            return [call for call in self.calls if call.get("RoleArn") == role_arn]

    def issued_for(self, role_arn):
        with self.lock:
            return [key for key in self.issued if key.origin == role_arn]

    def error(self, status, code, message):
        return ('<ErrorResponse xmlns="%s"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error>'
                "<RequestId>00000000-fake</RequestId></ErrorResponse>" % (self.NAMESPACE, escape(code), escape(message)))

    def refuse(self, status, code, message):
        raise Answer(status, self.error(status, code, message))

    def answer(self, request, fault):
        form = self.form(request)
        action = form.get("Action")
        signed = action != "AssumeRoleWithWebIdentity"
        if signed:
            try:
                form["key"] = self.check(request, time.time() + fault.get("date_offset", 0))
            except Refused as e:
                self.refuse(e.status, {"UnrecognizedClientException": "InvalidClientTokenId", "ExpiredTokenException": "ExpiredToken",
                                       "InvalidSignatureException": "SignatureDoesNotMatch"}.get(e.code, e.code), str(e))
        elif request.header("Authorization") or request.header("X-Amz-Security-Token"):
            self.problem("AssumeRoleWithWebIdentity is not signed")
        with self.lock:
            self.calls.append(form)
        if action == "GetCallerIdentity":
            return self.result(action, "<Arn>arn:aws:iam::123456789012:user/agent</Arn><UserId>AIDAFAKE</UserId><Account>123456789012</Account>")
        if action not in ("AssumeRole", "AssumeRoleWithWebIdentity"):
            self.refuse(400, "InvalidAction", "Could not find operation %s for version %s" % (action, form.get("Version")))
        self.authorize(form, signed)
        key = self.issue(form["RoleArn"])
        account, name = form["RoleArn"].split(":")[4], form["RoleArn"].rsplit("/", 1)[1]
        return self.result(action, (
            "<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken>"
            "<Expiration>%s</Expiration></Credentials><AssumedRoleUser><AssumedRoleId>AROAFAKE:%s</AssumedRoleId>"
            "<Arn>arn:aws:sts::%s:assumed-role/%s/%s</Arn></AssumedRoleUser><PackedPolicySize>6</PackedPolicySize>")
            % (key.id, key.secret, key.token, iso_time(key.expires), form["RoleSessionName"], account, name, form["RoleSessionName"]))

    def result(self, action, inner):
        return ('<%sResponse xmlns="%s"><%sResult>%s</%sResult><ResponseMetadata><RequestId>00000000-fake</RequestId></ResponseMetadata>'
                "</%sResponse>" % (action, self.NAMESPACE, action, inner, action, action))

    def form(self, request):
        """The fields of a request, each checked."""
        if request.method != "POST" or request.target != "/":
            self.refuse(404, "InvalidAction", "%s %s" % (request.method, request.target))
        if not re.fullmatch(r"application/x-www-form-urlencoded(; ?charset=utf-8)?", request.header("Content-Type") or "", re.I):
            self.problem("Content-Type %r" % request.header("Content-Type"))
        if request.header("Content-Length") is None:
            self.problem("no Content-Length")
        try:
            pairs = urllib.parse.parse_qsl(request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
        except ValueError:
            self.refuse(400, "MalformedInput", "not a form")
        form = dict(pairs)
        if len(form) != len(pairs):
            self.problem("a field came twice: %s" % sorted(name for name, _ in pairs))
        known = {"GetCallerIdentity": {"Action", "Version"}, "AssumeRole": self.ASSUME,
                 "AssumeRoleWithWebIdentity": self.FIELDS | {"WebIdentityToken"}}.get(form.get("Action"), set(form))
        numbers = collections.defaultdict(set)
        for name, value in form.items():
            tag = self.TAG.fullmatch(name) if form["Action"] == "AssumeRole" else None
            if tag:
                numbers[tag[2] or "transitive"].add(int(tag[1] or tag[3]))
            elif name not in known:
                self.problem("unknown field %s" % name)
            if name in self.FORMS and not re.fullmatch(self.FORMS[name], value):
                self.refuse(400, "ValidationError", "%s %r" % (name, value[:100]))
        for kind, seen in numbers.items():
            if seen != set(range(1, len(seen) + 1)) or len(seen) > 50:
                self.problem("tags are not numbered 1 to n: %s %s" % (kind, sorted(seen)))
        if numbers["Key"] != numbers["Value"]:
            self.problem("tags without key or value")
        if form.get("Version") != "2011-06-15":
            self.refuse(400, "InvalidAction", "Version %r" % form.get("Version"))
        return form

    def authorize(self, form, signed):
        """Refuses a caller who may not have the role."""
        for field in ("RoleArn", "RoleSessionName") + (() if signed else ("WebIdentityToken",)):
            if field not in form:
                self.refuse(400, "ValidationError", "%s is missing" % field)
        duration, caller = int(form.get("DurationSeconds", 3600)), self.check.keys.get(form.get("key"))
        if not 900 <= duration <= 43200:
            self.refuse(400, "ValidationError", "DurationSeconds %d" % duration)
        if isinstance(caller, TemporaryKey) and duration > 3600:
            self.refuse(400, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
        if not signed and form["WebIdentityToken"] not in self.tokens:
            self.refuse(400, "ExpiredTokenException", "Token expired")
        role = self.roles.get(form["RoleArn"])
        denied = role is None or role["external_id"] not in (None, form.get("ExternalId"))
        if role and role["callers"] is not None and signed:
            denied = denied or not {form["key"], getattr(caller, "origin", None)} & set(role["callers"])
        if denied:
            self.refuse(403, "AccessDenied", "User is not authorized to perform: sts:%s on resource: %s" % (form["Action"], form["RoleArn"]))
        if duration > role["duration_max"]:
            self.refuse(400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")


class FakeImds(Fake):
    """EC2 instance metadata, version 2 only: without a token of its own every question is answered 401."""

    def __init__(self, services=(), lifetime=3600.0, port=0, role="instance-role", region="us-west-2", v2=True):
        super().__init__(services, lifetime, port)
        self.role, self.region, self.v2 = role, region, v2
        self.tokens = {}  # each with its end
        self.key = None
        self.pages = {
            "/latest/meta-data/hostname": "ip-10-0-0-7.us-west-2.compute.internal",
            "/latest/meta-data/local-hostname": "ip-10-0-0-7.us-west-2.compute.internal",
            "/latest/meta-data/instance-id": "i-0123456789abcdef0",
            "/latest/meta-data/placement/region": region,
            "/latest/meta-data/placement/availability-zone": region + "a",
            "/latest/dynamic/instance-identity/document": json.dumps({
                "accountId": "123456789012", "architecture": "x86_64", "availabilityZone": region + "a", "imageId": "ami-0fake",
                "instanceId": "i-0123456789abcdef0", "instanceType": "m7i.large", "privateIp": "10.0.0.7", "region": region,
                "version": "2017-09-30"}),
        }

    content_type = "text/plain"

    def refuse(self, status, text):
        raise Answer(status, text)

    def answer(self, request, fault):
        if request.body:
            self.problem("a body: %r" % request.body[:100])
        if request.header("Authorization"):
            self.problem("Authorization is none of its business")
        if request.header("X-Forwarded-For"):
            self.refuse(403, "Forbidden")
        token = request.header("X-aws-ec2-metadata-token")
        if request.target == "/latest/api/token":
            ttl = request.header("X-aws-ec2-metadata-token-ttl-seconds") or ""
            if request.method != "PUT" or not self.v2:
                self.refuse(405, "Not allowed")
            if not re.fullmatch(r"\d{1,5}", ttl) or not 1 <= int(ttl) <= 21600:
                self.refuse(400, "TTL %r" % ttl)
            token = "AQA" + os.urandom(30).hex() + "=="
            with self.lock:
                self.tokens[token] = time.time() + int(ttl)
            return token
        if request.method != "GET":
            self.refuse(405, "Not allowed")
        if self.v2 and self.tokens.get(token, 0) < time.time():
            self.refuse(401, "Unauthorized")
        folder = "/latest/meta-data/iam/security-credentials/"
        if request.target == folder:
            if self.role:
                return self.role
        elif self.role and request.target == folder + self.role:
            # The same keys until half of their life is over, as EC2 does.
            if self.key is None or self.key.expired or time.time() > (self.key.issued + self.key.expires) / 2:
                self.key = self.issue(self.role)
            return json.dumps({"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": iso_time(self.key.issued), **self.key.document()})
        elif request.target in self.pages:
            return self.pages[request.target]
        raise Answer(404, "Not Found")


class FakeContainer(Fake):
    """The container endpoint. With `token_file`, Authorization must be what that file holds now, as the EKS Pod
    Identity agent demands, or `token`, or there must be none."""

    path = "/v1/credentials"

    def __init__(self, services=(), lifetime=3600.0, port=0, token=None, token_file=None):
        super().__init__(services, lifetime, port)
        self.token, self.token_file = token, token_file

    @property
    def full_uri(self):
        return self.url + self.path

    def refuse(self, status, code, message):
        raise Answer(status, self.error(status, code, message))

    def answer(self, request, fault):
        expected = self.token
        if self.token_file:
            with open(self.token_file, encoding="utf-8") as f:
                expected = f.read()
        if request.method != "GET" or request.target != self.path:
            self.refuse(404, "NotFound", "%s %s" % (request.method, request.target))
        if request.header("Authorization") != expected:
            self.refuse(401, "AccessDenied", "Authorization is not that of the container")
        if request.body:
            self.problem("a body: %r" % request.body[:100])
        return json.dumps({**self.issue("container").document(), "AccountId": "123456789012"})
