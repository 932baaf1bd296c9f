"""Clients that people use: curl, PySocks and python-socks, with a plain HTTP server behind the proxy."""

import asyncio
import base64
import contextlib
import hashlib
import http.client
import http.server
import random
import threading

import pytest
import socks
from chain import CONNECTS, exit_frontend, tunnel, users
from clients import curl
from program import Programs
from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy

MiB = 1 << 20
USER = ("alice", "p:ss word")


class Files(http.server.SimpleHTTPRequestHandler):
    """The standard library's file server, which also takes uploads and answers with their checksum."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        total, left = hashlib.sha256(), int(self.headers["Content-Length"])
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        while left and (data := self.rfile.read(min(left, MiB))):
            total.update(data)
            left -= len(data)
        answer = total.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server with `large` (64 MiB) and `small`; gives its port and the checksum of each file."""
    folder = tmp_path_factory.mktemp("site")
    sums = {}
    for name, size in (("large", 64 * MiB), ("small", 1000)):
        data = random.Random(name).randbytes(MiB) * (size // MiB) or random.Random(name).randbytes(size)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.sha256(data).hexdigest()
    handler = lambda *arguments: Files(*arguments, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.folder, server.sums = folder, sums
        yield server
        server.shutdown()


@pytest.fixture(scope="module", params=CONNECTS)
def proxy(request, tmp_path_factory, certificates):
    """socks5 and http on tcp and http on tls, all with a password, through each transport."""
    programs = Programs(tmp_path_factory.mktemp(f"proxy-{request.param}"))
    fronts = [
        {"name": "socks", "type": "socks5", "listen": "tcp://127.0.0.1:0"},
        {"name": "web", "type": "http", "listen": "tcp://127.0.0.1:0"},
        {"name": "secure", "type": "http", "listen": "tls://127.0.0.1:0", "tls": certificates.server},
    ]
    config = {"frontends": [{**front, "users": users(USER)} for front in fronts]}
    if request.param != "direct":
        far = programs.run({"frontends": [exit_frontend(request.param, certificates)]})
        config["transports"] = [tunnel(request.param, far.address("exit"), certificates)]
        for front in config["frontends"]:
            front["transport"] = "tunnel"
    yield programs.run(config)
    programs.stop()


def proxy_options(proxy, certificates, kind, user=USER):
    address = proxy.address({"socks5": "socks", "socks5h": "socks", "http": "web", "https": "secure"}[kind])
    options = [
        "--proxy",
        f"{kind}://localhost:{address.port}",
        "--proxy-user",
        ":".join(user),
        "--noproxy",
        "",
    ]
    if kind.startswith("http"):
        options += ["--proxytunnel", "--proxy-cacert", certificates.ca]
    return options


KINDS = ["socks5", "socks5h", "http", "https"]


@pytest.mark.parametrize("kind", KINDS)
def test_curl_downloads_and_uploads(kind, proxy, site, certificates):
    options = proxy_options(proxy, certificates, kind)
    url = f"http://localhost:{site.server_port}"
    got = curl(*options, f"{url}/large")
    assert got.returncode == 0, got.stderr
    assert hashlib.sha256(got.stdout).hexdigest() == site.sums["large"]
    put = curl(*options, "--upload-file", site.folder / "large", f"{url}/put")
    assert put.returncode == 0, put.stderr
    assert put.stdout.decode() == site.sums["large"]


@pytest.mark.parametrize("kind", KINDS)
def test_curl_with_a_wrong_password_is_refused(kind, proxy, site, certificates):
    got = curl(
        *proxy_options(proxy, certificates, kind, ("alice", "wrong")),
        f"http://localhost:{site.server_port}/small",
    )
    assert got.returncode == (97 if kind.startswith("socks") else 56), got.stderr
    assert got.stdout == b""


def test_curl_reuses_its_proxy_for_many_urls(proxy, site, certificates):
    url = f"http://localhost:{site.server_port}/small"
    got = curl(*proxy_options(proxy, certificates, "https"), *[url] * 20)
    assert got.returncode == 0, got.stderr
    assert hashlib.sha256(got.stdout[:1000]).hexdigest() == site.sums["small"] and len(got.stdout) == 20_000


def test_curl_does_not_trust_a_proxy_that_it_cannot_verify(proxy, site, certificates):
    options = proxy_options(proxy, certificates, "https")
    options[-1] = certificates.other_ca
    assert curl(*options, f"http://localhost:{site.server_port}/small").returncode == 60


@pytest.mark.parametrize("remote_names", [True, False])
def test_pysocks_fetches(remote_names, proxy, site):
    address = proxy.address("socks")
    stream = socks.socksocket()
    stream.set_proxy(socks.SOCKS5, address.host, address.port, remote_names, *USER)
    stream.connect(("localhost" if remote_names else "127.0.0.1", site.server_port))
    connection = http.client.HTTPConnection("localhost", site.server_port)
    connection.sock = stream
    with contextlib.closing(connection):
        connection.request("GET", "/large")
        assert hashlib.sha256(connection.getresponse().read()).hexdigest() == site.sums["large"]


def test_pysocks_names_the_cause_of_a_refusal(proxy, targets):
    address = proxy.address("socks")
    for host, port, words in (
        ("127.0.0.1", targets.refusing_port, "0x05: Connection refused"),
        ("no-such-name.invalid", 80, "0x04: Host unreachable"),
    ):
        with socks.socksocket() as stream, pytest.raises(socks.ProxyError, match=words):
            stream.set_proxy(socks.SOCKS5, address.host, address.port, True, *USER)
            stream.connect((host, port))


def test_http_client_opens_a_tunnel(proxy, site):
    address = proxy.address("web")
    connection = http.client.HTTPConnection(address.host, address.port)
    token = base64.b64encode(":".join(USER).encode()).decode()
    connection.set_tunnel("localhost", site.server_port, {"Proxy-Authorization": f"Basic {token}"})
    with contextlib.closing(connection):
        connection.request("GET", "/small")
        assert hashlib.sha256(connection.getresponse().read()).hexdigest() == site.sums["small"]


@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_python_socks_opens_many_streams_at_once(kind, proxy, targets, key):
    address = proxy.address({"socks5": "socks", "http": "web"}[kind])

    def client(password=USER[1]):
        return Proxy.create(
            proxy_type=ProxyType[kind.upper()],
            host=address.host,
            port=address.port,
            username=USER[0],
            password=password,
            rdns=True,
        )

    async def one(index):
        stream = await client().connect("localhost", targets.port)
        reader, writer = await asyncio.open_connection(sock=stream)
        writer.write(f"echo {key}/{index}\n{index:06}".encode())
        assert await reader.readexactly(6) == f"{index:06}".encode()
        writer.close()

    async def run():
        await asyncio.gather(*(one(index) for index in range(50)))
        with pytest.raises(ProxyError):
            await client("wrong").connect("localhost", targets.port)

    asyncio.run(run())
