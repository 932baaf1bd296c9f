"""`magicalane demo` does what it says: each command that it prints works."""

import http.server
import re
import shlex
import ssl
import subprocess
import threading

import pytest
from clients import SOCKS5, curl, download, open_through
from program import BINARY, Programs


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    programs = Programs(tmp_path_factory.mktemp("demo"))
    yield programs.start(["demo"], listeners=3)
    programs.stop()


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"it works")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(certificates):
    """The site that stands for example.com, with and without TLS; gives the port of each."""
    servers = {}
    for scheme in ("http", "https"):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        if scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.certificate, certificates.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers[scheme] = server
    yield {scheme: server.server_port for scheme, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


def test_the_demo_listens_where_it_should(demo):
    addresses = {str(address) for address in demo.listening.values()}
    assert {"tcp://127.0.0.1:1080", "tcp://127.0.0.1:8080"} <= addresses
    assert sum(address.startswith("quic://127.0.0.1:") for address in addresses) == 1


def test_the_commands_that_the_demo_prints_work(demo, site, certificates):
    """With example.com replaced by a server of ours: tests leave no host."""
    commands = [line.strip() for line in demo.output.splitlines() if line.startswith("  ")]
    outward = [line for line in commands if "example.com" in line]
    assert len(outward) >= 2
    for line in set(commands) - set(outward) - {"magicalane sessions --watch"}:
        arguments = shlex.split(line)
        assert arguments[0] in ["curl", "magicalane"]
        program = str(BINARY) if arguments[0] == "magicalane" else "curl"
        assert subprocess.run([program, *arguments[1:]], capture_output=True, timeout=20).returncode == 0
    for line in outward:
        ours = re.sub(
            r"(https?)://example\.com", lambda match: f"{match[1]}://localhost:{site[match[1]]}", line
        )
        assert ours != line, line
        got = curl(*shlex.split(ours)[1:], "--noproxy", "", "--cacert", certificates.ca)
        assert (got.returncode, got.stdout) == (0, b"it works"), f"{ours}: {got.stderr}"


def test_the_demo_carries_bulk(demo, targets, key):
    with open_through(SOCKS5, ("127.0.0.1", 1080), targets.host, targets.port) as stream:
        download(stream, key, 32 << 20)
