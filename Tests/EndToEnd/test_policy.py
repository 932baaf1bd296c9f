"""Who may ask for what: requests from other hosts, and targets that only this host may reach."""

import socket

import pytest
from chain import users
from clients import PROTOCOLS, SOCKS5, Refused, open_through, read_exactly
from other_host import OtherHost

USER = ("bob", "secret")

# All of these lead to this host, or to its link.
LOCAL = [
    "127.0.0.1",
    "127.8.9.10",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "::1",
    "::ffff:127.0.0.1",
    "0.0.0.0",
    "::",
    "169.254.169.254",
    "fe80::1",
    "2130706433",
    "127.1",
    "0x7f.0.0.1",
    "0177.0.0.1",
]


@pytest.fixture(scope="module")
def other_host():
    host = OtherHost()
    yield host
    host.close()


def start(programs, other_host, transport=None, **more):
    fronts = [
        {"name": name, "type": name, "listen": f"tcp://{other_host.here}:0", "users": users(USER), **more}
        for name in PROTOCOLS
    ]
    return programs.run({"frontends": fronts})


def ask(other_host, program, protocol, host, port):
    """A request from the other host."""
    stream = other_host.connect(program.address(protocol.name).pair)
    try:
        protocol.open_over(stream, host, port, USER)
    except BaseException:
        stream.close()
        raise
    return stream


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_other_hosts_reach_no_local_target(protocol, programs, other_host, targets):
    program = start(programs, other_host)
    opened = {}
    for host in LOCAL:
        with pytest.raises(Refused) as refusal:
            ask(other_host, program, protocol, host, targets.port).close()
        opened[host] = refusal.value.code
    # A name that means nothing to the resolver may be called unknown; what is an address is not allowed.
    assert {host: code for host, code in opened.items() if code not in protocol.not_allowed} == {}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_other_hosts_reach_other_targets(protocol, programs, other_host):
    program = start(programs, other_host)
    with other_host.listen() as listener:
        with ask(other_host, program, protocol, *listener.getsockname()) as stream:
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"hello")
                assert read_exactly(stream, 5) == b"hello"


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_local_targets_can_be_allowed(protocol, programs, other_host, targets, key):
    program = start(programs, other_host, allow_local_targets=True)
    with ask(other_host, program, protocol, "127.0.0.1", targets.port) as stream:
        stream.sendall(f"echo {key}\n.".encode())
        assert read_exactly(stream, 1) == b"."


def test_this_host_reaches_local_targets_through_the_same_frontend(programs, targets, key):
    front = {"name": "front", "type": "socks5", "listen": "tcp://0.0.0.0:0", "users": users(USER)}
    port = programs.run({"frontends": [front]}).address("front").port
    with open_through(SOCKS5, ("127.0.0.1", port), "localhost", targets.port, USER) as stream:
        stream.sendall(f"echo {key}\n.".encode())
        assert read_exactly(stream, 1) == b"."


def test_a_tunnel_does_not_make_a_local_target_reachable(programs, other_host, certificates, targets):
    """The far end sees requests from its own neighbour and lets local targets pass: the near end must not."""
    far = {"name": "exit", "type": "http", "listen": "tcp://127.0.0.1:0", "users": users(USER)}
    server = programs.run({"frontends": [far]}).address("exit")
    near = {"name": "socks5", "type": "socks5", "listen": f"tcp://{other_host.here}:0", "users": users(USER)}
    tunnel = {
        "name": "t",
        "type": "tcp",
        "server": f"127.0.0.1:{server.port}",
        "user": USER[0],
        "password": USER[1],
    }
    program = programs.run({"frontends": [{**near, "transport": "t"}], "transports": [tunnel]})
    for host in ("127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1"):
        with pytest.raises(Refused) as refusal:
            ask(other_host, program, SOCKS5, host, targets.port).close()
        assert refusal.value.code in SOCKS5.not_allowed


@pytest.mark.parametrize("bound", ["0.0.0.0", "10.213.77.1"])
def test_other_hosts_do_not_reach_the_admin_listener(bound, programs, other_host):
    with (
        socket.create_server((other_host.here, 0)) as free,
        socket.create_server((other_host.here, 0)) as open_one,
    ):
        admin_port = free.getsockname()[1]
        free.close()
        front = {
            "name": "socks5",
            "type": "socks5",
            "listen": f"tcp://{other_host.here}:0",
            "users": users(USER),
        }
        admin = {"listen": f"{bound}:{admin_port}", "token": "a token"}
        program = programs.run({"frontends": [front], "admin": admin})
        with pytest.raises(Refused) as refusal:
            ask(other_host, program, SOCKS5, other_host.here, admin_port).close()
        assert refusal.value.code in SOCKS5.not_allowed
        ask(other_host, program, SOCKS5, *open_one.getsockname()).close()


def test_an_open_proxy_can_be_asked_for(programs, other_host):
    front = {"name": "front", "type": "socks5", "listen": f"tcp://{other_host.here}:0", "open": True}
    program = programs.run({"frontends": [front]})
    with other_host.listen() as listener:
        stream = other_host.connect(program.address("front").pair)
        with stream:
            SOCKS5.open_over(stream, *listener.getsockname())
