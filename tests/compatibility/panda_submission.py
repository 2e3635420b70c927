"""`hpo submit --backend panda` and the real client of PanDA submit the same task to a local HTTPS server, which checks them alike.

    python panda_submission.py HPO

Both show a proxy certificate, which the server verifies, or a token. Stood in for: the look at the proxy (`voms-proxy-info`) and
the nickname that it tells.
"""

import base64
import email
import gzip
import http.server
import io
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.parse

HPO = pathlib.Path(sys.argv[1]).resolve()
ROOM = pathlib.Path(tempfile.mkdtemp())
KEYS = ROOM / "keys"
AUTHORITIES = KEYS / "authorities"
AUTHORITIES.mkdir(parents=True)


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=KEYS)


openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
for name, subject, extension in [
    ("server", "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
    ("user", "/DC=test/CN=me", "extendedKeyUsage=clientAuth"),
]:
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.csr")
    (KEYS / "extension").write_text(extension)
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile",
            "extension", "-out", f"{name}.pem")
proxy = KEYS / "proxy"
proxy.write_text("".join((KEYS / name).read_text() for name in ["user.pem", "user.key", "ca.pem"]))
(AUTHORITIES / "ca.pem").write_text((KEYS / "ca.pem").read_text())
openssl("rehash", AUTHORITIES)


def token_for(seconds):
    claims = json.dumps({"exp": int(time.time()) + seconds, "name": "me"}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.x"


class Server(http.server.BaseHTTPRequestHandler):
    """Keeps what it is asked, and answers as PanDA does."""

    protocol_version = "HTTP/1.1"
    requests = []
    known = None
    refuse = None
    # Of the identity provider: what it is asked, and how often it says that nobody has signed in yet.
    dialogue = []
    pending = 0
    lifetime = 3600

    def do_GET(self):
        Server.dialogue.append((self.path, None))
        self.answer(200, {
            "/auth/wlcg_auth_config.json": {"oidc_config_url": f"{url}/about", "client_id": "me", "client_secret": "s&t", "audience": "panda",
                                            "jwt_profile": "wlcg"},
            "/about": {"token_endpoint": f"{url}/token", "device_authorization_endpoint": f"{url}/device"},
        }[self.path])

    def sign_in(self, form):
        Server.dialogue.append((self.path, form))
        if self.path == "/device":
            return 200, {"device_code": "code", "user_code": "AB", "verification_uri_complete": f"{url}/page?AB", "expires_in": 60, "interval": 0}
        if Server.pending:
            Server.pending -= 1
            return 400, {"error": "authorization_pending"}
        return 200, {"id_token": token_for(Server.lifetime), "refresh_token": "again", "token_type": "Bearer"}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path in ("/device", "/token"):
            return self.answer(*self.sign_in(urllib.parse.parse_qs(body.decode(), strict_parsing=True)))
        subject = (self.connection.getpeercert() or {}).get("subject")
        Server.requests.append((self.path, dict(self.headers), body, subject))
        answer = {"success": True, "message": "", "data": None}
        if self.path.endswith("validate_cache_file"):
            answer = {"success": Server.known is not None, "message": f"FOUND:localhost:{Server.known}" if Server.known else "NOT_FOUND"}
        if self.path.endswith("task/submit"):
            answer["message"] = "succeeded. new jediTaskID=4711"
            if Server.refuse:
                answer = {"success": False, "message": Server.refuse, "data": 2}
        self.answer(200, answer)

    def answer(self, status, document):
        text = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(KEYS / "server.pem", KEYS / "server.key")
context.load_verify_locations(KEYS / "ca.pem")
context.verify_mode = ssl.CERT_OPTIONAL
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"https://localhost:{server.server_port}"

work = ROOM / "work"
(work / "deeper").mkdir(parents=True)
(work / "space.json").write_text('{"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}}')
(work / "deeper/train.py").write_text("pass\n")
(work / "ignored.txt").write_text("not this\n")
OPTIONS = ["--outDS", "user.me.test", "--evaluationContainer", "docker://a/b", "--evaluationExec", "python deeper/train.py",
           "--steeringExec", "run a steering -n %NUM_POINTS", "--searchSpaceFile", "space.json", "--maxPoints", "3"]
PLAIN = {key: value for key, value in os.environ.items() if not key.startswith(("PANDA", "OIDC", "X509", "HTTP", "http"))}
COMMON = {**PLAIN, "PANDA_URL": f"{url}/server/panda", "PANDA_URL_SSL": f"{url}/server/panda", "PANDACACHE_URL": f"{url}/server/panda",
          "PANDA_BEHIND_REAL_LB": "1", "X509_CERT_DIR": str(AUTHORITIES)}
WITH_PROXY = {**COMMON, "X509_USER_PROXY": str(proxy)}
WITH_TOKEN = {**COMMON, "PANDA_AUTH": "oidc", "PANDA_AUTH_VO": "wlcg", "PANDA_AUTH_ID_TOKEN": "the.to.ken"}
THEIRS = """
import builtins, sys
builtins.input = lambda *_: "y"
from pandaclient import PhpoScript, PsubUtils
PsubUtils.check_proxy = lambda *_, **__: True
PsubUtils.getNickname = lambda *_, **__: "me"
sys.argv = ["phpo"]
PhpoScript.main(False, sys.stdin.read().split("\\0"))
"""


def ours(environment, *more):
    Server.requests.clear()
    done = subprocess.run([HPO, "submit", "--backend", "panda", *OPTIONS, *more], cwd=work, env=environment, capture_output=True, text=True)
    return done, list(Server.requests)


def theirs(environment):
    Server.requests.clear()
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", THEIRS], input="\0".join(OPTIONS), cwd=work, env=environment,
                          capture_output=True, text=True)
    global LAST
    LAST = done
    assert done.returncode == 0, done.stdout + done.stderr
    return list(Server.requests)


def files_of(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        return {member.name.removeprefix("./"): packed.extractfile(member).read() for member in packed if member.isfile()}


def essence(requests):
    """What must be equal: the random names, the command line and the compression of the archive are not."""
    found = []
    for path, headers, body, subject in requests:
        kept = {key.lower(): value for key, value in headers.items() if key.lower() in ("content-type", "authorization", "origin", "accept")}
        if path.endswith("upload_cache_file"):
            message = email.message_from_bytes(b"Content-Type: " + headers[next(k for k in headers if k.lower() == "content-type")].encode()
                                               + b"\r\n\r\n" + body)
            [part] = message.get_payload()
            kept["content-type"] = message.get_content_type()
            archive = part.get_payload(decode=True)
            name = part.get_filename()
            assert re.fullmatch(r"jobO\.[0-9a-f-]{36}\.tar", name), name
            content = (part.get_param("name", header="content-disposition"), part.get_content_type(), files_of(archive))
        else:
            content = json.loads(body)
            if path.endswith("validate_cache_file"):
                assert set(content) == {"file_size", "checksum"}, content
                content = sorted(content)
            else:
                text = re.sub(r"jobO\.[0-9a-f-]{36}\.tar", "ARCHIVE", json.dumps(content))
                content = json.loads(text)
                del content["task_parameters"]["cliParams"]
        # Without a preference the client of Python asks for anything.
        found.append((path, kept, subject, content))
    return found


for name, environment in [("proxy certificate", WITH_PROXY), ("token", WITH_TOKEN)]:
    done, mine = ours(environment)
    assert done.returncode == 0, done.stderr
    assert "jediTaskID=4711" in done.stdout, done.stdout
    expected = theirs(environment)
    assert len(mine) == len(expected), ([path for path, *_ in mine], [path for path, *_ in expected], LAST.stdout, LAST.stderr)
    for one, other in zip(essence(mine), essence(expected), strict=True):
        assert one == other, f"{name}:\nours   {one}\ntheirs {other}"
    assert all((subject is not None) == (environment is WITH_PROXY) for *_, subject in mine)
    # The checksum is the one by which the server knows the archive: that of what is packed, and the size of the packed.
    question, upload = json.loads(mine[0][2]), mine[1][2]
    archive = upload.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
    import zlib
    assert question == {"file_size": len(archive), "checksum": zlib.crc32(gzip.decompress(archive))}, question

Server.known = "jobO.known.tar"
done, mine = ours(WITH_PROXY)
assert [path.rsplit("/", 1)[1] for path, *_ in mine] == ["validate_cache_file", "submit"], mine
assert "-a jobO.known.tar" in mine[1][2].decode()
Server.known = None

Server.refuse = "duplicated task"
done, _ = ours(WITH_PROXY, "--dumpJson", "dump.json")
assert (done.returncode, "the server refuses the task: duplicated task" in done.stderr) == (1, True), done
assert json.loads((work / "dump.json").read_text())["returnCode"] == 1
(work / "dump.json").unlink()
Server.refuse = None

done, mine = ours({**COMMON, "X509_USER_PROXY": "/nowhere"})
assert (done.returncode, mine) == (2, []) and "there is no proxy certificate" in done.stderr, done
done, mine = ours({**WITH_PROXY, "X509_CERT_DIR": str(ROOM)})
assert (done.returncode, mine) == (3, []) and "certificate" in done.stderr, "a server that nobody vouches for must not be trusted"
done, _ = ours({**WITH_PROXY, "X509_CERT_DIR": str(ROOM), "PANDA_VERIFY_HOST": "off"})
assert done.returncode == 0, done.stderr

# The dialogue for a token: the same questions, to which the provider gives the same answers.
def in_dialogue(client, root):
    Server.dialogue.clear()
    environment = {**COMMON, "PANDA_AUTH": "oidc", "PANDA_AUTH_VO": "wlcg", "PANDA_CONFIG_ROOT": str(root), "SSL_CERT_FILE": str(KEYS / "ca.pem")}
    made = client(environment)
    asked = [(path, form and {key: [" ".join(value.split()) for value in values] for key, values in form.items()})
             for path, form in Server.dialogue]
    return made, asked


def tokens(requests):
    return {{key.lower(): value for key, value in headers.items()}.get("authorization") for _, headers, *_ in requests}


OURS, OTHERS = ROOM / "ours", ROOM / "theirs"
Server.pending = 1
(done, mine), asked = in_dialogue(ours, OURS)
assert done.returncode == 0, done.stderr
assert f"sign in at {url}/page?AB" in done.stderr, done.stderr
Server.pending = 1
made, expected = in_dialogue(theirs, OTHERS)
assert asked == expected, f"ours   {asked}\ntheirs {expected}"
assert [path for path, _ in asked] == ["/auth/wlcg_auth_config.json", "/about", "/device", "/token", "/token"], asked
for one, other in zip(essence(mine), essence(made), strict=True):
    one[1].pop("authorization"), other[1].pop("authorization")  # the tokens of the two end at different times
    assert one == other, f"ours   {one}\ntheirs {other}"
kept = [json.loads((root / ".token").read_text()) for root in (OURS, OTHERS)]
assert tokens(mine) == {f"Bearer {kept[0]['id_token']}"} and kept[0].keys() == kept[1].keys(), kept
assert (OURS / ".token").stat().st_mode & 0o777 == 0o600

# Each goes on with the token of the other, and renews it when it is about to run out.
for client, root, token in ((ours, OTHERS, kept[1]), (theirs, OURS, kept[0])):
    made, asked = in_dialogue(client, root)
    made = made[1] if client is ours else made
    assert asked == [] and tokens(made) == {f"Bearer {token['id_token']}"}, (asked, tokens(made))
for root in (OURS, OTHERS):
    (root / ".token").write_text(json.dumps({"id_token": token_for(200), "refresh_token": "again"}))
    for page in root.glob(".page_cache_*"):
        page.unlink()
(done, mine), asked = in_dialogue(ours, OTHERS)
made, expected = in_dialogue(theirs, OURS)
assert (done.returncode, asked) == (0, expected), (done, asked, expected)
assert asked[-1] == ("/token", {"client_id": ["me"], "client_secret": ["s&t"], "grant_type": ["refresh_token"], "refresh_token": ["again"]}), asked

print("panda: both clients send the same requests, by proxy certificate, by token and by a dialogue for one; refusals, missing credentials and strangers are noticed")
