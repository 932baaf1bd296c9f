"""The TLS listener against OpenSSL and GnuTLS: their command-line clients, and OpenSSL inside Python."""

import socket
import ssl
import subprocess

import pytest
from bridge import tls_context
from clients import HTTP, connect, read_exactly, reset
from program import Programs, eventually

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory, certificates):
    programs = Programs(tmp_path_factory.mktemp("tls"))
    front = {"name": "front", "type": "http", "listen": "tls://127.0.0.1:0", "tls": certificates.server}
    demanding = {
        **front,
        "name": "demanding",
        "tls": {**certificates.server, "client_ca": str(certificates.ca)},
    }
    hasty = {**front, "name": "hasty", "handshake_timeout": "300ms"}
    yield programs.run({"frontends": [front, demanding, hasty]})
    programs.stop()


@pytest.fixture
def pair(program):
    return program.address("front").pair


def s_client(pair, certificates, *options, stdin=GET):
    """`openssl s_client`, which sends a request that the proxy answers with 405 and ends."""
    return subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{pair[1]}", "-servername", "localhost"]
        + ["-CAfile", certificates.ca, "-verify_return_error", "-ign_eof", *options],
        input=stdin,
        capture_output=True,
        timeout=30,
    )


def gnutls_cli(pair, certificates, *options):
    return subprocess.run(
        ["gnutls-cli", "--x509cafile", certificates.ca, "--port", str(pair[1]), "--sni-hostname", "localhost"]
        + ["--verify-hostname", "localhost", *options, "127.0.0.1"],
        input=GET,
        capture_output=True,
        timeout=30,
    )


def test_openssl_gets_tls_1_3_and_http_1_1(pair, certificates):
    ended = s_client(pair, certificates, "-alpn", "h2,http/1.1")
    assert ended.returncode == 0, ended.stderr
    assert b"TLSv1.3" in ended.stdout
    assert b"ALPN protocol: http/1.1" in ended.stdout
    assert b"Verification: OK" in ended.stdout
    assert b"HTTP/1.1 405 " in ended.stdout


def test_openssl_without_alpn_is_served(pair, certificates):
    ended = s_client(pair, certificates)
    assert b"No ALPN negotiated" in ended.stdout and b"HTTP/1.1 405 " in ended.stdout


def test_a_client_that_speaks_no_http_1_1_is_refused(pair, certificates):
    ended = s_client(pair, certificates, "-alpn", "h2")
    assert b"HTTP/1.1" not in ended.stdout
    assert b"no application protocol" in ended.stderr, ended.stderr


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1", "-tls1_2"])
def test_older_versions_are_refused(version, pair, certificates):
    ended = s_client(pair, certificates, version, "-cipher", "DEFAULT@SECLEVEL=0")
    assert ended.returncode != 0
    assert b"HTTP/1.1" not in ended.stdout
    assert b"alert" in ended.stderr, ended.stderr


def test_openssl_resumes_a_session(pair, certificates, tmp_path):
    saved = tmp_path / "session"
    first = s_client(pair, certificates, "-sess_out", saved)
    assert b"New, TLSv1.3" in first.stdout
    assert saved.exists(), "no session ticket came"
    again = s_client(pair, certificates, "-sess_in", saved)
    assert b"Reused, TLSv1.3" in again.stdout, again.stdout
    assert b"HTTP/1.1 405 " in again.stdout


def test_gnutls_gets_tls_1_3_and_http_1_1(pair, certificates):
    ended = gnutls_cli(pair, certificates, "--alpn", "http/1.1")
    assert ended.returncode == 0, ended.stdout
    assert b"(TLS1.3-" in ended.stdout
    assert b"Application protocol: http/1.1" in ended.stdout
    assert b"HTTP/1.1 405 " in ended.stdout


def test_gnutls_resumes_a_session(pair, certificates):
    ended = gnutls_cli(pair, certificates, "--resume", "--waitresumption")
    assert b"This is a resumed session" in ended.stdout, ended.stdout


def test_gnutls_older_versions_are_refused(pair, certificates):
    ended = gnutls_cli(pair, certificates, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2")
    assert ended.returncode != 0
    assert b"HTTP/1.1" not in ended.stdout


def test_client_certificates(program, certificates):
    pair = program.address("demanding").pair
    shown = lambda cert, key: s_client(pair, certificates, "-cert", cert, "-key", key)
    assert b"HTTP/1.1" not in s_client(pair, certificates).stdout
    assert b"HTTP/1.1" not in shown(certificates.stranger_certificate, certificates.stranger_key).stdout
    assert b"HTTP/1.1 405 " in shown(certificates.client_certificate, certificates.client_key).stdout


def tls_connect(pair, certificates):
    return tls_context(certificates.ca).wrap_socket(connect(pair), server_hostname="localhost")


def test_a_tls_stream_that_is_cut_is_an_error_for_the_target(pair, certificates, targets, key):
    for ending in ("FIN", "RST"):
        stream = tls_connect(pair, certificates)
        HTTP.open_over(stream, targets.host, targets.port)
        stream.sendall(f"echo {key}/{ending}\n.".encode())
        assert read_exactly(stream, 1) == b"."
        plain = socket.socket(fileno=stream.detach())
        plain.close() if ending == "FIN" else reset(plain)
        assert targets.outcome(f"{key}/{ending}")["end"] == "reset"


def test_a_close_notify_is_a_clean_end_for_the_target(pair, certificates, targets, key):
    stream = tls_connect(pair, certificates)
    HTTP.open_over(stream, targets.host, targets.port)
    stream.sendall(f"sink {key}\n".encode() + b"x" * 100_000)
    try:
        stream.unwrap()
    except ssl.SSLError as error:  # the answer comes where Python waits for a close_notify only
        assert error.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
    stream.close()
    seen = targets.outcome(key)
    assert (seen["bytes"], seen["end"]) == (100_000, "clean")


def test_a_key_update_by_the_client_is_taken(pair, certificates):
    """`K` on a line of its own makes s_client update both keys before the request goes out."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{pair[1]}", "-CAfile", certificates.ca]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as client:
        shown = b""
        while b"Verify return code" not in shown:
            line = client.stdout.readline()
            assert line, client.stderr.read()
            shown += line
        client.stdin.write(b"K\n")
        client.stdin.flush()
        eventually(lambda: b"KEYUPDATE" in client.stderr.readline(), "the keys are updated")
        client.stdin.write(GET + b"\n")
        client.stdin.flush()
        # s_client leaves at the end of its input, answer or no answer; so that comes after.
        eventually(lambda: b"HTTP/1.1 405 " in client.stdout.readline(), "the request is answered")
        client.stdin.close()
        client.wait(timeout=20)


def test_tls_handshakes_byte_by_byte_are_understood(pair, certificates, targets, key):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = tls_context(certificates.ca).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with connect(pair) as stream:

        def send():
            for byte in outgoing.read():
                stream.sendall(bytes([byte]))

        def until_done(step):
            while True:
                try:
                    result = step()
                    send()
                    return result
                except ssl.SSLWantReadError:
                    send()
                    data = stream.recv(65536)
                    assert data, "the connection ended"
                    incoming.write(data)

        until_done(tls.do_handshake)
        until_done(lambda: tls.write(HTTP.opening(targets.host, targets.port)))
        assert until_done(lambda: tls.read(1000)).startswith(b"HTTP/1.1 200 ")
        until_done(lambda: tls.write(f"echo {key}\n.".encode()))
        assert until_done(lambda: tls.read(1)) == b"."


def test_a_tls_handshake_that_stops_is_cut_off(program, certificates):
    outgoing = ssl.MemoryBIO()
    tls = tls_context(certificates.ca).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    for start in (b"", hello[:1], hello[:-1], hello):
        with connect(program.address("hasty").pair) as stream:
            stream.sendall(start)
            try:
                stream.makefile("rb").read()
            except ConnectionResetError:
                pass
