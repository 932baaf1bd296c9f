"""The live view, the events, the metrics and the command line, against sessions whose every byte is known."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest
from admin import Admin, administered, front
from chain import exit_frontend, tunnel, users
from clients import HTTP, SOCKS5, Refused, connect, many, open_through, read_exactly, reset
from program import REPOSITORY, eventually, magicalane

KiB = 1 << 10
# `make test` unpacks it there: its Debian package would start a server.
PROMTOOL = shutil.which("promtool") or REPOSITORY / ".venv/debian/usr/bin/promtool"


@pytest.fixture
def running(programs):
    entries = [front(), {**front("web"), "type": "http", "users": users(("alice", "secret"))}]
    return administered(programs, {"frontends": entries})


@pytest.fixture
def api(running):
    return running[1]


@pytest.fixture
def open_session(running, targets):
    """Opens a session through a frontend that has sent and received exactly these bytes."""
    program, _ = running
    opened = []

    def open_session(key, up=0, down=0, name="front"):
        protocol, login = (SOCKS5, None) if name == "front" else (HTTP, ("alice", "secret"))
        stream = open_through(protocol, program.address(name).pair, targets.host, targets.port, login)
        opened.append(stream)
        # `source` reads what comes: its first line counts too.
        line = f"source {key} {down} 1 ".ljust(up - 1).encode() + b"\n" if up else b""
        stream.sendall(line)
        read_exactly(stream, down)
        return stream

    yield open_session
    for stream in opened:
        stream.close()


def session(api, **wanted):
    """The one live session with these values, once there is one."""

    def found():
        fitting = [one for one in api.sessions() if wanted.items() <= one.items()]
        return fitting[0] if len(fitting) == 1 else None

    return eventually(found, f"one session with {wanted}")


# The live view


def test_a_session_shows_what_it_does(api, open_session, targets, key):
    assert api.sessions() == []
    stream = open_session(key, up=100, down=70_000)
    shown = session(api, bytes_up=100, bytes_down=70_000)
    host, port = stream.getsockname()
    assert {name: shown[name] for name in shown if name not in ("id", "started", "age_seconds")} == {
        "state": "open",
        "frontend": "front",
        "transport": "direct",
        "member": None,
        "client": f"{host}:{port}",
        "user": None,
        "target": f"{targets.host}:{targets.port}",
        "bytes_up": 100,
        "bytes_down": 70_000,
        "waiting_up": 0,
        "waiting_down": 0,
        "copy": "buffer",
    }
    again = api.entry(f"/v1/sessions/{shown['id']}")
    assert again["age_seconds"] >= shown["age_seconds"] and again["started"] == shown["started"]
    stream.close()
    eventually(lambda: api.sessions() == [], "the session is over")
    assert api.get(f"/v1/sessions/{shown['id']}").status == 404


def test_a_session_shows_its_user_and_its_state(api, running, open_session, targets, key):
    program, _ = running
    open_session(key, up=100, name="web")
    assert session(api, frontend="web", state="open")["user"] == "alice"
    with connect(program.address("front").pair) as silent:
        shown = session(api, frontend="front", state="handshake")
        assert (shown["target"], shown["user"]) == (None, None)
        silent.sendall(SOCKS5.greeting())
        read_exactly(silent, 2)
        silent.sendall(SOCKS5.request(targets.host, targets.black_hole_port))
        shown = session(api, frontend="front", state="opening")
        assert shown["target"] == f"{targets.host}:{targets.black_hole_port}"
        reset(silent)
    eventually(lambda: len(api.sessions()) == 1, "the session is over")


def test_waiting_bytes_are_counted(api, open_session, targets, key):
    """What a client does not read waits in the program, as far as kernels do not take it."""
    stream = open_session(key)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream.sendall(f"source {key} {64 << 20} 1\n".encode())
    eventually(lambda: api.sessions()[0]["waiting_down"] > 500_000, "bytes wait")
    assert api.sessions()[0]["waiting_up"] == 0


@pytest.fixture
def several(api, open_session, key):
    """Five sessions: three through `front`, two through `web`, each with other counts."""
    for index in range(5):
        open_session(f"{key}/{index}", 100 + index, (4 - index) * KiB, "web" if index % 2 else "front")
    return eventually(
        lambda: (
            lambda all: (
                all if sum(one["bytes_up"] + one["bytes_down"] for one in all) == 510 + 10 * KiB else None
            )
        )(api.sessions()),
        "all bytes are counted",
    )


def test_sessions_are_filtered(api, several, targets):
    def count(query):
        answer = api.entry(f"/v1/sessions?{query}")
        assert answer["total"] == len(answer["sessions"])
        return answer["total"]

    assert count("frontend=front") == 3 and count("frontend=web") == 2 and count("frontend=we") == 0
    assert count("transport=direct") == 5 and count("transport=other") == 0
    assert count("user=alice") == 2 and count("user=alic") == 0
    assert count(f"target={targets.host}%3A{targets.port}") == 5 and count(f"target=:{targets.port}") == 5
    assert count("target=nowhere") == 0
    assert count("state=open") == 5 and count("state=opening") == 0
    one = several[0]
    assert count(f"client={one['client'].replace(':', '%3A')}") == 1 and count("client=127.0.0.1") == 5
    assert count("frontend=web&state=open&user=alice") == 2


@pytest.mark.parametrize("sort", ["id", "age", "bytes", "bytes_up", "bytes_down"])
def test_sessions_are_sorted(api, several, sort):
    value = {
        "id": lambda one: one["id"],
        "age": lambda one: -one["id"],
        "bytes": lambda one: one["bytes_up"] + one["bytes_down"],
        "bytes_up": lambda one: one["bytes_up"],
        "bytes_down": lambda one: one["bytes_down"],
    }[sort]
    rising = [one["id"] for one in sorted(several, key=value)]
    assert [one["id"] for one in api.sessions(f"?sort={sort}")] == rising
    assert [one["id"] for one in api.sessions(f"?sort=-{sort}")] == rising[::-1]


def test_sessions_come_in_pages(api, several):
    ids = [one["id"] for one in several]
    assert ids == sorted(ids), "by id where nothing else is asked for"
    for offset in range(0, 7, 2):
        page = api.entry(f"/v1/sessions?limit=2&offset={offset}")
        assert [one["id"] for one in page["sessions"]] == ids[offset : offset + 2]
        assert (page["total"], page["limit"], page["offset"]) == (5, 2, offset)
    page = api.entry("/v1/sessions?frontend=front&limit=1&sort=-id")
    assert (page["total"], len(page["sessions"])) == (3, 1)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=", "offset=-1", "offset=1e3", "sort=name", "sort=--id",
     "state=none", "nonsense=1", "limit=1&limit=2", "limit=99999999999999999999"],
)  # fmt: skip
def test_a_query_that_cannot_be(api, query):
    answer = api.get(f"/v1/sessions?{query}")
    assert (answer.status, answer.problem) == (400, "bad-request"), answer
    assert query.split("=")[0] in answer.json["detail"]


@pytest.mark.parametrize("id", ["0", "-1", "x", "1x", "99999999999999999999999", "1.0", "%31%20"])
def test_a_session_that_cannot_be(api, id):
    assert api.get(f"/v1/sessions/{id}").status in (400, 404)
    assert api.delete(f"/v1/sessions/{id}").status in (400, 404)


def test_ending_a_session_breaks_it_off(api, running, open_session, targets, key):
    kept = open_session(f"{key}/kept", 100, KiB)
    ended = open_through(SOCKS5, running[0].address("front").pair, targets.host, targets.port)
    ended.sendall(f"echo {key}/ended\n".ljust(200).encode())
    read_exactly(ended, 200 - len(f"echo {key}/ended\n"))
    id = session(api, bytes_up=200)["id"]
    assert api.delete(f"/v1/sessions/{id}").status == 204
    with pytest.raises(ConnectionResetError):
        assert ended.recv(1) != b"", "a clean end of a session that was broken off"
    ended.close()
    assert targets.outcome(f"{key}/ended")["end"] == "reset"
    assert api.delete(f"/v1/sessions/{id}").status == 404
    kept.sendall(b"more")
    session(api, bytes_up=104)


def test_ending_a_thousand_sessions(api, running, targets, key):
    program, _ = running
    pair = program.address("front").pair
    with many(300, lambda _: open_through(SOCKS5, pair, targets.host, targets.port)):
        ids = [one["id"] for one in eventually(
            lambda: (lambda all: all if len(all) == 300 else None)(api.sessions("?limit=1000&state=open")),
            "all are open",
        )]  # fmt: skip
        for id in ids:
            assert api.delete(f"/v1/sessions/{id}").status == 204
        eventually(lambda: api.sessions() == [], "all are over")


# Events


def test_events_tell_what_happens(api, open_session, targets, key):
    with api.events() as events:
        stream = open_session(key, 100, KiB)
        _, name, data = events.next("session.opened", "session.closed")
        assert name == "session.opened"
        opened = data["session"]
        assert (opened["frontend"], opened["target"]) == ("front", f"{targets.host}:{targets.port}")
        session(api, bytes_up=100, bytes_down=KiB)
        stream.close()
        _, name, data = events.next("session.opened", "session.closed")
        assert (name, data["session"]["id"]) == ("session.closed", opened["id"])
        assert (data["session"]["bytes_up"], data["session"]["bytes_down"]) == (100, KiB)
        assert data["reason"]
        api.change(lambda config: config["limits"].update(idle_timeout="4m"))
        _, _, data = events.next("config.applied")
        assert data["change"]["changes"]["sections"] == ["limits"]
        config, tag = api.config()
        assert api.put("/v1/config", {**config, "nonsense": 1}, tag=tag).status == 422
        _, _, data = events.next("config.refused")
        assert data["origin"] == "api" and "nonsense" in data["reason"]


def test_events_of_some_types_alone(api, open_session, key):
    with api.events(types="session.closed,config.applied") as events:
        open_session(key, 100).close()
        assert events.next()[1] == "session.closed"
        api.change(lambda config: config["limits"].update(idle_timeout="4m"))
        assert events.next()[1] == "config.applied"
    for types in ("nothing", "session.opened,nothing", ""):
        assert api.get(f"/v1/events?types={types}").status == 400, types


def test_events_go_on_where_they_were_left(api, open_session, key):
    with api.events(types="session.opened") as events:
        open_session(f"{key}/0", 100)
        last, _, data = events.next()
        first = data["session"]["id"]
    for index in (1, 2, 3):
        open_session(f"{key}/{index}", 100)
    with api.events(types="session.opened", last=last) as events:
        ids = []
        for _ in range(3):
            last, _, data = events.next()
            ids.append(data["session"]["id"])
        assert ids == sorted(ids) and ids[0] > first and len(set(ids)) == 3
    with api.events(types="session.opened", last=last) as events:
        open_session(f"{key}/4", 100)
        assert events.next()[2]["session"]["id"] > ids[-1], "an event came twice"


def test_who_comes_too_late_is_told_how_much_was_missed(api, running, targets, key):
    """More events than are kept, in little sessions."""
    program, _ = running
    with api.events(types="session.opened") as events:
        open_through(SOCKS5, program.address("front").pair, targets.host, targets.port).close()
        last = events.next()[0]
    before = api.status_of("/v1/frontends/front")["sessions_total"]
    for _ in range(5):
        with many(
            450, lambda _: open_through(SOCKS5, program.address("front").pair, targets.host, targets.port)
        ):
            pass
    eventually(lambda: api.sessions() == [], "all are over")
    assert api.status_of("/v1/frontends/front")["sessions_total"] == before + 2250
    with api.events(last=last) as events:
        _, name, data = events.next()
        assert name == "events.missed"
        # Each session opens and closes; the first one's end may have come before or after its event was read.
        left = 4501 - data["count"]
        assert 0 < left <= 4500, data
        seen = [events.next()[1] for _ in range(left)]
        assert set(seen) == {"session.opened", "session.closed"}


def test_an_id_of_another_program_starts_anew(api, open_session, key):
    for last in ("other-1", "nonsense", "1", "-", "x" * 1000):
        with api.events(last=last) as events:
            open_session(f"{key}/{last[:9]}", 100)
            name = events.next("events.missed", "session.opened")[1]
            assert name in ("events.missed", "session.opened")


def test_a_transport_goes_up_and_down(programs, certificates, targets):
    far = programs.run({"frontends": [exit_frontend("tcp", certificates)]})
    config = {
        "frontends": [front(transport="tunnel")],
        "transports": [tunnel("tcp", far.address("exit"), certificates)],
    }
    program, api = administered(programs, config)
    pair = program.address("front").pair
    assert api.status_of("/v1/transports/tunnel")["health"] == "unknown"
    with api.events(types="transport.up,transport.down") as events:
        open_through(SOCKS5, pair, targets.host, targets.port).close()
        assert events.next()[1:][0] == "transport.up"
        assert api.status_of("/v1/transports/tunnel")["health"] == "up"
        far.stop()
        programs.forget(far)
        with pytest.raises(Refused):
            open_through(SOCKS5, pair, targets.host, targets.port)
        _, name, data = events.next()
        assert (name, data["transport"]) == ("transport.down", "tunnel") and data["reason"]
    status = api.status_of("/v1/transports/tunnel")
    assert status["health"] == "down" and status["failed_total"] == 1
    assert status["last_error"]["message"] and status["frontends"] == ["front"]
    assert api.status_of("/v1/frontends/front")["last_error"]["message"]


def test_the_stream_ends_when_the_program_does(running, api, programs):
    program, _ = running
    with api.events() as events:
        program.signal(signal.SIGTERM)
        assert events.next() is None
        assert program.wait() == 0
        programs.forget(program)


def test_readiness_ends_with_draining(programs, targets):
    program, api = administered(programs, {"frontends": [front()], "limits": {"drain_timeout": "1m"}})
    assert api.entry("/readyz") == {"status": "ready", "reasons": []}
    with open_through(SOCKS5, program.address("front").pair, targets.host, targets.port):
        program.signal(signal.SIGTERM)
        answer = eventually(
            lambda: (lambda answer: answer if answer.status == 503 else None)(api.get("/readyz")), "not ready"
        )
        assert answer.json["status"] == "not_ready" and answer.json["reasons"]
        assert api.get("/healthz").status == 200
        assert api.entry("/v1/status")["state"] == "draining"
        assert api.post("/v1/config/reload").problem == "draining"
    assert program.wait() == 0
    programs.forget(program)


# Metrics


def promtool(api):
    text = api.get("/metrics").body
    ended = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b""), ended


def test_metrics_are_clean(api, open_session, targets, key):
    answer = api.get("/metrics")
    assert answer.headers["Content-Type"].replace(" ", "") == "text/plain;version=0.0.4;charset=utf-8"
    promtool(api)
    open_session(key, 100, KiB)
    api.change(lambda config: config["limits"].update(idle_timeout="4m"))
    promtool(api)
    for name in api.metrics():
        assert name.startswith("magicalane_"), name


def test_a_name_is_asked_for_once_in_its_time_and_a_reload_sets_the_time(programs, targets, key):
    config = {"frontends": [front()], "resolver": {"cache": "10m"}}
    program, api = administered(programs, config)

    def looked_up(sessions):
        """How often a name was looked up, and how often it was known, in so many sessions to one."""
        names = "magicalane_names_total"
        before = api.metrics()
        for _ in range(sessions):
            with open_through(SOCKS5, program.address("front").pair, "localhost", targets.port) as stream:
                stream.sendall(f"echo {key}\nx".encode())
                assert read_exactly(stream, 1) == b"x"
        after = api.metrics()
        return [
            total(after, names, answer=answer) - total(before, names, answer=answer)
            for answer in ("asked", "cached")
        ]

    assert looked_up(3) == [1, 2]
    assert looked_up(2) == [0, 2]
    api.change(lambda config: config["resolver"].update(cache="0s"))
    assert looked_up(3) == [3, 0]
    api.change(lambda config: config["resolver"].update(cache="1h"))
    assert looked_up(3) == [1, 2]


def total(metrics, name, **labels):
    """The sum of the samples of this name whose labels fit."""
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    return sum(
        value
        for sample, value in metrics.items()
        if re.split("[{ ]", sample)[0] == name and wanted <= set(re.findall(r'\w+="[^"]*"', sample))
    )


def test_metrics_count_what_a_script_did(api, running, open_session, targets, key):
    program, _ = running
    pair = program.address("front").pair
    before = api.metrics()

    for index in range(4):
        open_session(f"{key}/{index}", 100, KiB).close()
    live = [open_session(f"{key}/live/{index}", 50, 2 * KiB, "web") for index in range(3)]
    for _ in range(2):
        with pytest.raises(Refused):
            open_through(SOCKS5, pair, targets.host, targets.refusing_port)
    with pytest.raises(Refused):
        open_through(HTTP, program.address("web").pair, targets.host, targets.port, ("alice", "wrong"))
    eventually(lambda: len(api.sessions()) == 3, "the others are over")
    session_bytes = eventually(
        lambda: sum(one["bytes_down"] for one in api.sessions()) == 6 * KiB, "all bytes are counted"
    )
    assert session_bytes
    after = api.metrics()

    def rise(name, **labels):
        return total(after, name, **labels) - total(before, name, **labels)

    for name in ("front", "web"):
        status = api.status_of(f"/v1/frontends/{name}")
        assert rise("magicalane_sessions_started_total", frontend=name) == status["sessions_total"]
        assert total(after, "magicalane_sessions_active", frontend=name) == status["sessions"]
        assert rise("magicalane_bytes_total", frontend=name, direction="up") == status["bytes_up"]
        assert rise("magicalane_bytes_total", frontend=name, direction="down") == status["bytes_down"]
    assert api.status_of("/v1/frontends/front") | {"last_error": 0, "listen": 0} == {
        "state": "listening",
        "listen": 0,
        "transport": "direct",
        "sessions": 0,
        "sessions_total": 6,
        "failed_total": 2,
        "bytes_up": 400,
        "bytes_down": 4 * KiB,
        "last_error": 0,
    }
    assert "refused" in api.status_of("/v1/frontends/front")["last_error"]["message"].lower()
    assert api.status_of("/v1/frontends/web")["sessions"] == 3
    assert api.status_of("/v1/frontends/web")["sessions_total"] == 4
    assert rise("magicalane_sessions_finished_total", frontend="front") == 6
    assert rise("magicalane_open_duration_seconds_count", frontend="front") == 4
    for stream in live:
        stream.close()
    eventually(lambda: total(api.metrics(), "magicalane_sessions_active") == 0, "the gauge goes back to 0")


def test_labels_hold_nothing_that_a_client_says(api, running, open_session, targets, key):
    program, _ = running
    names = len(api.metrics())
    for index in range(30):
        with pytest.raises(Refused):
            open_through(SOCKS5, program.address("front").pair, f"x{index}.invalid", 1)
        api.get(f"/v1/nothing-{index}")
        api.get(f"/v1/frontends/nothing-{index}")
        api.request(f"BREW{index}", "/v1/status")
    text = api.get("/metrics").body.decode()
    assert ".invalid" not in text and "nothing-" not in text and "BREW" not in text
    assert len(api.metrics()) - names < 60


def test_requests_of_the_admin_api_are_counted(api):
    before = total(api.metrics(), "magicalane_admin_requests_total")
    for _ in range(7):
        api.get("/v1/status")
    assert total(api.metrics(), "magicalane_admin_requests_total") == before + 8


def test_the_process_is_measured(api, running):
    program, _ = running
    metrics = api.metrics()
    assert 0 < metrics["magicalane_process_resident_memory_bytes"] < 1 << 30
    assert metrics["magicalane_process_cpu_seconds_total"] >= 0
    assert 0 < metrics["magicalane_process_open_fds"] <= program.descriptors + 8
    assert metrics["magicalane_process_start_time_seconds"] > 1.6e9


# The command line


def cli(api, *arguments, directory, env=None, status=0):
    ended = magicalane(*arguments, "--admin", api.address, cwd=directory, env=env)
    assert ended.returncode == status, ended
    return ended


def test_the_command_line_shows_the_status(running, api, tmp_path):
    shown = json.loads(cli(api, "status", "--json", directory=tmp_path).stdout)
    assert [entry["name"] for entry in shown["frontends"]] == ["front", "web"]
    assert [entry["name"] for entry in shown["transports"]] == ["direct"]
    status = shown["status"]
    known = api.entry("/v1/status")
    assert {key: status[key] for key in ("version", "started", "config", "state")} == {
        key: known[key] for key in ("version", "started", "config", "state")
    }
    text = cli(api, "status", directory=tmp_path).stdout
    assert known["version"] in text and "running" in text


def test_the_command_line_shows_sessions(running, api, open_session, targets, tmp_path, key):
    open_session(key, 100, KiB)
    session(api, bytes_up=100, bytes_down=KiB)
    listed = json.loads(cli(api, "sessions", "--json", directory=tmp_path).stdout)
    assert [one["bytes_down"] for one in listed["sessions"]] == [KiB]
    text = cli(api, "sessions", directory=tmp_path).stdout
    assert "front" in text and f"{targets.host}:{targets.port}" in text


def test_the_command_line_reloads(running, api, tmp_path):
    program, _ = running
    file = program.directory / "magicalane.yaml"
    config = json.loads(file.read_text())
    config["frontends"].append(front("more"))
    file.write_text(json.dumps(config))
    change = json.loads(cli(api, "reload", "--json", directory=tmp_path).stdout)
    assert change["changes"]["frontends"]["added"] == ["more"] and change["origin"] == "reload"
    file.write_text(json.dumps({**config, "nonsense": 1}))
    ended = cli(api, "reload", directory=tmp_path, status=1)
    assert "nonsense" in ended.stderr and not ended.stdout


def test_the_command_line_gives_its_token(programs, tmp_path):
    directory = programs.new_directory()
    path = directory / "a.sock"
    config = {"admin": {"listen": f"unix:{path}", "token": "sesame"}, "frontends": [front()]}
    programs.run(config)
    api = Admin(path, "sesame")
    (tmp_path / "token").write_text("sesame\n")
    assert cli(api, "status", "--token-file", tmp_path / "token", directory=tmp_path).stdout
    assert cli(api, "status", directory=tmp_path, env={"MAGICALANE_ADMIN_TOKEN": "sesame"}).stdout
    ended = cli(api, "status", directory=tmp_path, status=1)
    assert "token" in ended.stderr.lower()
    ended = cli(api, "status", directory=tmp_path, env={"MAGICALANE_ADMIN_TOKEN": "guess-7"}, status=1)
    assert "guess-7" not in ended.stderr + ended.stdout


def test_the_command_line_says_that_nobody_is_there(tmp_path):
    ended = magicalane("status", "--admin", "127.0.0.1:1", cwd=tmp_path)
    assert ended.returncode == 1 and "127.0.0.1:1" in ended.stderr, ended
    assert magicalane("status", "--admin", "nonsense", cwd=tmp_path).returncode == 2


def test_the_command_line_watches(running, api, open_session, tmp_path, key):
    """`--watch` shows again and again until it is ended."""
    from program import BINARY, environment

    open_session(key, 100)
    with subprocess.Popen(
        [BINARY, "sessions", "--watch", "--admin", api.address],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        seen = b""
        while seen.count(b"front") < 2:
            more = os.read(process.stdout.fileno(), 65536)
            assert more, process.stderr.read()
            seen += more
        process.send_signal(signal.SIGINT)
        process.wait(10)
