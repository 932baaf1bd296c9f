"""Starting, reloading and ending: ports, signals and exit codes."""

import json
import os
import signal
import socket
import subprocess

import pytest
from chain import CONNECTS, Chain
from clients import SOCKS5, Refused, connect, open_through, read_exactly, receive_digest
from far_ends import FarEnd, says
from program import BINARY, environment, eventually, magicalane
from targets import digest

MiB = 1 << 20


def front(name="front", port=0, **more):
    return {"name": name, "type": "socks5", "listen": f"tcp://127.0.0.1:{port}", **more}


def works(program, name, targets, key):
    with open_through(SOCKS5, program.address(name).pair, targets.host, targets.port) as stream:
        stream.sendall(f"echo {key}\n.".encode())
        return read_exactly(stream, 1) == b"."


def is_refused(pair):
    try:
        connect(pair).close()
        return False
    except ConnectionRefusedError:
        return True


def running_session(chain, targets, key):
    """A session with bytes passed, which goes on until its end is asked for."""
    stream = chain.open(targets.host, targets.port)
    stream.sendall(f"echo {key}\n.".encode())
    assert read_exactly(stream, 1) == b"."
    return stream


def test_without_a_config_socks5_and_http_listen_on_their_usual_ports(programs, targets, key):
    # /etc/magicalane/config.yaml would come first in the search.
    assert not os.path.exists("/etc/magicalane/config.yaml"), "this test needs a host without that file"
    program = programs.start(["run"], listeners=2)
    listening = sorted((address.scheme, *address.pair) for address in program.listening.values())
    assert listening == [("tcp", "127.0.0.1", 1080), ("tcp", "127.0.0.1", 8080)]
    with open_through(SOCKS5, ("127.0.0.1", 1080), targets.host, targets.port) as stream:
        stream.sendall(f"echo {key}\n.".encode())
        assert read_exactly(stream, 1) == b"."


@pytest.mark.parametrize("scheme", ["tcp", "tls", "quic"])
def test_a_port_in_use_is_a_clear_failure(scheme, tmp_path, certificates):
    kind = socket.SOCK_DGRAM if scheme == "quic" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        bad = {"name": "bad", "type": "http", "listen": f"{scheme}://127.0.0.1:{port}"}
        if scheme != "tcp":
            bad["tls"] = certificates.server
        (tmp_path / "magicalane.yaml").write_text(json.dumps({"frontends": [front(), bad]}))
        ended = magicalane("run", "-c", "magicalane.yaml", cwd=tmp_path)
    assert ended.returncode == 1, ended
    assert "bad" in ended.stderr and "in use" in ended.stderr.lower(), ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_program_ends_at_once(number, programs):
    program = programs.run({"frontends": [front()], "limits": {"drain_timeout": "10m"}})
    program.signal(number)
    assert program.wait() == 0
    programs.forget(program)


def test_a_signal_right_behind_the_start_is_not_lost(tmp_path):
    """As soon as it says that it listens, it follows signals."""
    (tmp_path / "magicalane.yaml").write_text(json.dumps({"frontends": [front()]}))
    for _ in range(15):
        with subprocess.Popen(
            [BINARY, "run"], cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE
        ) as process:
            assert b"listens on" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


@pytest.mark.parametrize("connect_by", CONNECTS)
def test_sigterm_lets_sessions_finish_and_takes_no_new_ones(connect_by, tmp_path, certificates, targets, key):
    """Both programs drain while a download runs; its bytes are all there, and both exit with 0."""
    size = 8 * MiB
    limits = {"drain_timeout": "1m", "buffer": "64KiB"}
    with Chain(tmp_path, certificates, "socks5", "tcp", connect_by, limits) as chain:
        download = chain.open(targets.host, targets.port)
        download.sendall(f"source {key} {size} 1\n".encode())
        first = download.recv(1, socket.MSG_PEEK)
        draining = [program for program in (chain.near, chain.far) if program]
        for program in draining:
            program.signal(signal.SIGTERM)
        eventually(lambda: is_refused(chain.proxy), "the listener closes")
        assert first and not any(program.has_ended for program in draining)
        assert receive_digest(download) == (size, digest(size, 1))
        download.close()
        for program in draining:
            assert program.wait() == 0
            chain.programs.forget(program)


@pytest.mark.parametrize("connect_by", CONNECTS)
def test_sessions_that_outlive_the_drain_time_are_broken_off(
    connect_by, tmp_path, certificates, targets, key
):
    with Chain(tmp_path, certificates, "socks5", "tcp", connect_by, {"drain_timeout": "300ms"}) as chain:
        stream = running_session(chain, targets, key)
        chain.near.signal(signal.SIGTERM)
        assert chain.near.wait() == 0
        chain.programs.forget(chain.near)
        with pytest.raises(ConnectionResetError):
            assert stream.recv(1) != b"", "a clean end of a session that was broken off"
        assert targets.outcome(key)["end"] == "reset"
        stream.close()


def test_a_second_signal_ends_it_at_once(tmp_path, certificates, targets, key):
    with Chain(tmp_path, certificates, limits={"drain_timeout": "10m"}) as chain:
        with running_session(chain, targets, key):
            chain.near.signal(signal.SIGTERM)
            eventually(lambda: is_refused(chain.proxy), "the listener closes")
            assert not chain.near.has_ended
            chain.near.signal(signal.SIGTERM)
            chain.near.wait()
        chain.programs.forget(chain.near)


def rewrite(program, config):
    text = config if isinstance(config, str) else json.dumps(config)
    (program.directory / "magicalane.yaml").write_text(text)
    program.signal(signal.SIGHUP)


def test_sighup_adds_and_removes_frontends_and_leaves_the_others_alone(programs, targets, key):
    program = programs.run({"frontends": [front("kept"), front("removed")]})
    kept, removed = program.address("kept").pair, program.address("removed").pair
    with open_through(SOCKS5, kept, targets.host, targets.port) as running:
        running.sendall(f"echo {key}\n.".encode())
        assert read_exactly(running, 1) == b"."
        rewrite(program, {"frontends": [front("kept"), front("added")], "limits": {"drain_timeout": "5s"}})
        eventually(lambda: "added" in program.listening, "the new frontend listens")
        eventually(lambda: is_refused(removed), "the removed frontend is gone")
        assert works(program, "added", targets, key)
        assert program.address("kept").pair == kept and works(program, "kept", targets, key)
        running.sendall(b"!")
        assert read_exactly(running, 1) == b"!", "a reload broke a running session"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_sighup_changes_users_in_place(programs, targets, key):
    """The frontend that is replaced keeps its port, and its running sessions."""
    port = free_port()
    program = programs.run({"frontends": [front(port=port, users=[{"name": "a", "password": "1"}])]})
    with open_through(SOCKS5, ("127.0.0.1", port), targets.host, targets.port, ("a", "1")) as running:
        changed = front(port=port, users=[{"name": "a", "password": "2"}])
        rewrite(program, {"frontends": [changed], "limits": {"drain_timeout": "5s"}})

        def is_in_force():
            try:
                open_through(SOCKS5, ("127.0.0.1", port), targets.host, targets.port, ("a", "2")).close()
                return True
            except (Refused, OSError):
                return False

        eventually(is_in_force, "the new password works")
        with pytest.raises(Refused):
            open_through(SOCKS5, ("127.0.0.1", port), targets.host, targets.port, ("a", "1"))
        running.sendall(f"echo {key}\n.".encode())
        assert read_exactly(running, 1) == b"."


def test_sighup_changes_where_requests_go(programs, targets, key):
    with FarEnd(says(b"HTTP/1.1 200 OK\r\n\r\nelsewhere")) as far:
        program = programs.run({"frontends": [front()]})
        proxy = program.address("front").pair
        tunnel = {"name": "tunnel", "type": "tcp", "server": f"127.0.0.1:{far.pair[1]}"}
        rewrite(program, {"frontends": [front(transport="tunnel")], "transports": [tunnel]})
        eventually(lambda: "requests go to tunnel" in program.log, "the reload is said")
        assert program.address("front").pair == proxy, "the same frontend keeps the port that it was given"
        with open_through(SOCKS5, proxy, targets.host, targets.port) as stream:
            assert stream.makefile("rb").read() == b"elsewhere"


@pytest.mark.parametrize("bad", ["syntax", "unknown key", "port in use", "no file"])
def test_a_bad_reload_leaves_what_runs(bad, programs, targets, key):
    port = free_port()
    program = programs.run({"frontends": [front(port=port)]})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_port = taken.getsockname()[1]
        if bad == "no file":
            (program.directory / "magicalane.yaml").unlink()
            program.signal(signal.SIGHUP)
        else:
            rewrite(
                program,
                {
                    "syntax": "frontends: [",
                    "unknown key": {"frontends": [front("other", lisen="x")]},
                    # The first would take over the port of what runs; the second cannot be bound.
                    "port in use": {"frontends": [front("heir", port), front("other", taken_port)]},
                }[bad],
            )
        eventually(
            lambda: any(" error " in line for line in program.loud_lines()), "the log says what is wrong"
        )
        assert program.address("front").port == port and works(program, "front", targets, key)
    # It still takes a good one.
    rewrite(program, {"frontends": [front("next")], "limits": {"drain_timeout": "5s"}})
    eventually(lambda: "next" in program.listening, "a good config after a bad one")


def test_json_logs_hold_one_object_a_line(programs, targets, key):
    program = programs.run({"frontends": [front()], "log": {"level": "debug", "format": "json"}})
    assert works(program, "front", targets, key)
    lines = eventually(
        lambda: [line for line in program.log.splitlines() if "session" in line and line.startswith("{")],
        "a session is logged",
    )
    for line in lines:
        assert {"time", "level", "message"} <= json.loads(line).keys()
