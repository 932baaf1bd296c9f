"""Who may speak to the admin API, what it tells nobody, and how it takes requests that are made to harm."""

import contextlib
import os
import re
import socket
import stat
import time

import pytest
from admin import Admin, administered, answers, front, read_all
from clients import SOCKS5, Refused, open_through
from program import eventually, magicalane

TOKEN = "a-token-of-some-length-0123456789"
OPEN = ["/healthz", "/readyz"]
CLOSED = [
    "/metrics",
    "/openapi.yaml",
    "/v1/status",
    "/v1/config",
    "/v1/frontends",
    "/v1/sessions",
    "/v1/nothing",
]


@pytest.fixture
def guarded(programs):
    return administered(programs, {"frontends": [front()]}, token=TOKEN)


@pytest.fixture
def api(programs):
    return administered(programs, {"frontends": [front()]})[1]


# The token


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        TOKEN,
    ],
    ids=lambda given: str(given).replace(TOKEN, "TOKEN"),
)
def test_without_the_token_only_probes_are_answered(guarded, given):
    api = Admin(guarded[1].where)
    headers = {} if given is None else {"Authorization": given}
    for path in OPEN:
        assert api.get(path, **headers).status == 200
    for path in CLOSED:
        answer = api.get(path, **headers)
        assert (answer.status, answer.problem) == (401, "unauthorized"), f"{path}: {answer}"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for method in ("PUT", "PATCH", "POST", "DELETE"):
        assert api.request(method, "/v1/frontends/front", b"{}", "application/json", **headers).status == 401


def test_with_the_token_all_is_answered(guarded):
    _, api = guarded
    assert api.get("/v1/status").status == 200
    assert api.get("/v1/status", Authorization=f"bearer  {TOKEN}").status == 200
    assert api.get("/v1/nothing").status == 404


def test_the_token_may_come_from_the_environment(programs):
    _, api = administered(
        programs, {"frontends": [front()]}, token="${ADMIN_TOKEN}", env={"ADMIN_TOKEN": TOKEN}
    )
    assert api.get("/v1/status").status == 200
    assert api.config()[0]["admin"]["token"] == "${ADMIN_TOKEN}"


# Browsers


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:9090"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
def test_a_request_for_another_site_is_refused(api, headers):
    for method in ("GET", "POST"):
        answer = api.request(method, "/v1/config/reload" if method == "POST" else "/v1/status", **headers)
        assert (answer.status, answer.problem) == (403, "forbidden"), answer
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_what_comes_from_the_site_itself_is_answered(api):
    host, port = api.where
    for headers in (
        {"Host": f"localhost:{port}"},
        {"Host": f"LOCALHOST:{port}"},
        {"Host": f"[::1]:{port}"},
        {"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}"},
        {"Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none"},
    ):
        assert api.get("/v1/status", **headers).status == 200, headers


def test_with_a_token_any_host_name_leads_here(guarded):
    _, api = guarded
    assert api.get("/v1/status", Host="admin.example:9090").status == 200
    assert api.get("/v1/status", Origin="https://evil.example").status == 403


def test_a_preflight_is_not_granted(api):
    answer = api.request(
        "OPTIONS", "/v1/config", Origin="https://evil.example", Access_Control_Request_Method="PUT"
    )
    assert answer.status in (403, 405)
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_answers_are_neither_stored_nor_guessed_at(api):
    for path in ("/v1/config", "/metrics", "/v1/status", "/v1/nothing"):
        answer = api.get(path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert "no-store" in (answer.headers["Cache-Control"] or ""), path


# The socket


def test_a_unix_socket_is_for_its_owner_alone(programs):
    directory = programs.new_directory()
    path = directory / "a.sock"
    program = programs.run({"admin": {"listen": f"unix:{path}"}, "frontends": [front()]})
    api = Admin(path)
    eventually(lambda: path.exists() and answers(api), "the socket is there")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert api.get("/v1/status").status == 200
    assert api.get("/v1/status", Host="anything.example").status == 200
    program.stop()
    programs.forget(program)
    assert not path.exists(), "the socket is left behind"


def test_a_unix_socket_that_a_dead_program_left_is_taken_over(programs):
    directory = programs.new_directory()
    path = directory / "a.sock"
    config = {"admin": {"listen": f"unix:{path}"}, "frontends": [front()]}
    programs.forget(programs.run(config))  # killed
    assert path.exists()
    programs.run(config)
    assert answers(Admin(path))


def test_a_unix_socket_that_is_in_use_is_not_taken_over(programs, tmp_path):
    directory = programs.new_directory()
    path = directory / "a.sock"
    config = {"admin": {"listen": f"unix:{path}"}, "frontends": [front()]}
    programs.run(config)
    second = programs.new_directory()
    (second / "magicalane.yaml").write_text(
        f"admin: {{listen: 'unix:{path}'}}\nfrontends: [{{name: f, type: socks5, listen: 'tcp://127.0.0.1:0'}}]\n"
    )
    ended = magicalane("run", cwd=second)
    assert ended.returncode == 1 and "another process" in ended.stderr, ended
    assert answers(Admin(path))


def test_a_file_in_the_place_of_the_socket_is_left(tmp_path):
    path = tmp_path / "precious"
    path.write_text("precious")
    (tmp_path / "magicalane.yaml").write_text(
        f"admin: {{listen: 'unix:{path}'}}\nfrontends: [{{name: f, type: socks5, listen: 'tcp://127.0.0.1:0'}}]\n"
    )
    ended = magicalane("run", cwd=tmp_path)
    assert ended.returncode == 1 and str(path) in ended.stderr, ended
    assert path.read_text() == "precious"


def test_a_port_that_is_taken_is_a_clear_failure(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "magicalane.yaml").write_text(
            f"admin: {{listen: '{address}'}}\n"
            "frontends: [{name: f, type: socks5, listen: 'tcp://127.0.0.1:0'}]\n"
        )
        ended = magicalane("run", cwd=tmp_path)
    assert ended.returncode == 1, ended
    assert "admin" in ended.stderr and address in ended.stderr and "in use" in ended.stderr.lower(), (
        ended.stderr
    )
    assert "listens on" not in ended.stderr


# Requests that are made to harm


def status_of(answer):
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(match.group(1)) if match else None


HEAD = "Host: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "request_text",
    [
        f"POST /v1/config/reload HTTP/1.1\r\n{HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\n",
        f"POST /v1/config/reload HTTP/1.1\r\n{HEAD}Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
        f"POST /v1/config/reload HTTP/1.1\r\n{HEAD}Content-Length: +5\r\n\r\nhello",
        f"POST /v1/config/reload HTTP/1.1\r\n{HEAD}Content-Length: -5\r\n\r\nhello",
        f"POST /v1/config/reload HTTP/1.1\r\n{HEAD}Content-Length: 99999999999999999999\r\n\r\n",
        f"POST /v1/config/reload HTTP/1.1\r\n{HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        f"POST /v1/config/reload HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
        f"GET /v1/status HTTP/1.1\r\n{HEAD}Host: evil.example\r\n\r\n",
        "GET /v1/status HTTP/1.1\r\n\r\n",
        f"GET /v1/status HTTP/1.1\r\n{HEAD}Long: {'x' * 100_000}\r\n\r\n",
        f"GET /{'x' * 100_000} HTTP/1.1\r\n{HEAD}\r\n",
        f"GET /v1/status%zz HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00" * 100,
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        f"GET /v1/status HTTP/9.9\r\n{HEAD}\r\n",
    ],
    ids=lambda text: ascii(text[:60]),
)
def test_a_malformed_request_is_refused_and_the_connection_closed(api, request_text):
    with api.connect() as stream:
        # It may answer, and close, before it has all.
        with contextlib.suppress(OSError):
            stream.sendall(request_text.encode("latin1"))
            stream.shutdown(socket.SHUT_WR)
        answer = read_all(stream)
    assert status_of(answer) is None or 400 <= status_of(answer) <= 505, answer
    # libmicrohttpd 0.9.75 sends the head of its own refusals twice, so they cannot be counted.
    assert b"HTTP/1.1 2" not in answer, "what follows was taken for another request"
    assert answers(api)


def test_what_is_smuggled_is_not_followed(api):
    """Length and chunks side by side: the second request must never be one."""
    smuggled = (
        f"POST /v1/config/reload HTTP/1.1\r\n{HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        f"0\r\n\r\nGET /v1/status HTTP/1.1\r\n{HEAD}\r\n"
    )
    answer = api.raw(smuggled.encode())
    assert status_of(answer) == 400, answer
    assert answer.count(b"HTTP/1.1") == 1 and b"uptime" not in answer


def test_requests_behind_each_other_are_answered_in_order(api):
    text = "".join(f"GET {path} HTTP/1.1\r\n{HEAD}\r\n" for path in ("/healthz", "/v1/log-level", "/readyz"))
    last = f"GET /v1/nothing HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n"
    answer = api.raw((text + last).encode())
    found = [status_of(part) for part in re.split(rb"(?=HTTP/1\.1 )", answer) if part]
    assert found == [200, 200, 200, 404], answer


def test_who_never_finishes_a_request_is_cut_off(api):
    """One byte a while, for as long as it takes: an idle time-out alone would wait for ever."""
    begun = {
        "nothing": b"",
        "no request": b"\x00" * 100 + b"\r\n\r\n",
        "a head": f"GET /v1/status HTTP/1.1\r\n{HEAD}X: ".encode(),
        "a body": f"PUT /v1/config HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\n"
        f"If-Match: *\r\nContent-Length: 100000\r\n\r\n".encode(),
    }
    open_still = {}
    for what, data in begun.items():
        stream = open_still[what] = api.connect()
        stream.sendall(data)
        stream.setblocking(False)

    def is_cut(what):
        try:
            if what != "nothing":
                open_still[what].send(b" ")
            while open_still[what].recv(65536):
                pass
            return True
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    deadline = time.monotonic() + 60
    while open_still:
        assert time.monotonic() < deadline, f"{list(open_still)} may wait for ever"
        for what in [what for what in open_still if is_cut(what)]:
            open_still.pop(what).close()
        time.sleep(0.2)
    assert answers(api)


def test_who_reads_nothing_costs_no_one_else(api):
    """Many requests whose answers are never read."""
    request = f"GET /openapi.yaml HTTP/1.1\r\n{HEAD}\r\n".encode()
    stalled = []
    for _ in range(20):
        stream = api.connect()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.setblocking(False)
        try:
            for _ in range(200):
                stream.send(request)
        except BlockingIOError:
            pass
        stalled.append(stream)
    for _ in range(20):
        assert api.get("/v1/status").status == 200
    for stream in stalled:
        stream.close()


# What nobody is told


def test_a_secret_is_in_no_answer_and_no_log(programs, targets, key):
    """Each kind of secret, each endpoint, good and bad requests, and then a look at all that was said."""
    secrets = ["sesame-user", "sesame-tunnel", "sesame-env", "sesame-token", "sesame-new"]
    tunnel = {"name": "t", "type": "tcp", "server": "127.0.0.1:1", "user": "u", "password": "sesame-tunnel"}
    config = {
        "frontends": [front(users=[{"name": "a", "password": "sesame-user"}])],
        "transports": [tunnel, {**tunnel, "name": "e", "password": "${SECRET}"}],
        "log": {"level": "trace"},
    }
    program, api = administered(programs, config, token="sesame-token", env={"SECRET": "sesame-env"})
    pair = program.address("front").pair
    with api.events() as events:
        open_through(SOCKS5, pair, targets.host, targets.port, ("a", "sesame-user")).close()
        with pytest.raises(Refused):
            open_through(SOCKS5, pair, targets.host, targets.port, ("a", "sesame-new"))
        for path in ("/v1/config", "/v1/frontends", "/v1/transports", "/v1/status", "/v1/sessions",
                     "/metrics",
                     "/v1/frontends/front", "/v1/transports/t", "/v1/transports/e", "/readyz"):  # fmt: skip
            assert api.get(path).status == 200
        api.get("/v1/config", Accept="application/yaml")
        api.get("/v1/status", Authorization="Bearer sesame-new")
        shown, tag = api.config()
        # Secrets in places where they are wrong, so that a message may speak of them.
        users = [{"name": "a", "password": "sesame-new"}, {"name": "a", "password": "sesame-user"}]
        assert api.put("/v1/config", {**shown, "frontends": [front(users=users)]}, tag=tag).status == 422
        for wrong in (
            {"password": ["sesame-new"]},
            {"password": {"sesame": "sesame-new"}},
            {"server": "${SECRET}", "password": "sesame-new"},
            {"type": "${SECRET}"},
            {"password": "sesame-new", "nonsense": 1},
        ):
            body = {"type": "tcp", "server": "127.0.0.1:1", "user": "u", **wrong}
            assert api.put("/v1/transports/new", body).status in (400, 422), wrong
        broken = '{"password": "sesame-new", "users": [{"password": "sesame-user"'
        assert api.put("/v1/transports/new", broken, "application/json").status == 400
        assert api.put("/v1/transports/new", broken + "\n\t- x: :", "application/yaml").status == 400
        entry = api.get("/v1/frontends/front")
        changed = [{"name": "a", "password": "sesame-new"}]
        assert api.patch("/v1/frontends/front", {"users": changed}, tag=entry.tag).status == 200
        _, _, data = events.next("config.applied")
        assert api.post("/v1/config/rollback").status == 200
        assert api.post("/v1/config/reload").status == 200
        said = repr(api.said) + repr(data)
        while not events.queue.empty():
            said += repr(events.next())
    program.stop()
    programs.forget(program)
    for secret in secrets:
        assert secret not in said, f"{secret} in an answer"
        assert secret not in program.log + program.output, f"{secret} in the log"
