"""What the adaptive transport chooses on paths of all kinds, and that its sessions notice nothing of it.

The path is an emulated link (Benchmarks/link). It needs root, or a user namespace; `make test` sees to that.
"""

import contextlib
import json
import socket
import struct
import threading

import pytest
from admin import administered
from chain import exit_frontend, tunnel
from clients import SOCKS5, open_through, read_exactly
from far_ends import FarEnd, relay_in_turns, server_context
from paths import QUIC, TLS, TRACE, Phase, Scenario, run_all
from program import eventually, magicalane

pytestmark = pytest.mark.timeout(240)

LOSSY = {"loss": 10}
HOLD = DWELL = 5
# How long a step back to the cheaper member may take beside what any choice may.
PATIENT = 15 + HOLD + DWELL

SCENARIOS = {
    "clean": Scenario([Phase(25, {}, TLS)]),
    "lossy path": Scenario([Phase(25, LOSSY, QUIC)], seed=2),
    "UDP loses": Scenario([Phase(25, {"loss_udp": 10}, TLS)], seed=3),
    "TCP loses": Scenario([Phase(25, {"loss_tcp": 10}, QUIC)], seed=4),
    "UDP is dropped": Scenario([Phase(25, {"loss_udp": 100}, TLS)]),
    "UDP is refused": Scenario([Phase(20, {}, TLS)], has_udp=False),
    # But for the first sessions, which took the member that is preferred while nothing is known.
    "UDP dies, unused": Scenario([Phase(18, {}, TLS), Phase(20, {"loss_udp": 100}, TLS)], dies_in=1),
    "UDP dies under sessions": Scenario(
        [Phase(20, LOSSY, QUIC), Phase(25, {"loss": 10, "loss_udp": 100}, TLS)],
        dies_in=1, most_switches=2, seed=5,
    ),
    "TCP dies under sessions": Scenario(
        [Phase(18, {}, TLS), Phase(20, {"loss_tcp": 100}, QUIC)], dies_in=1, most_switches=2
    ),
    "step": Scenario(
        [Phase(17, {}, TLS), Phase(20, LOSSY, QUIC), Phase(32, {}, TLS, within=PATIENT)],
        keys={"hold": f"{HOLD}s", "dwell": f"{DWELL}s"}, most_switches=3, seed=6,
    ),
    # A transport counts as used for ten seconds after its last session began.
    "idle": Scenario([Phase(14), Phase(60)], has_load=False),
    # So slow that nothing else of this machine is as long as a round trip.
    "first session, UDP dropped": Scenario([Phase(8, {"loss_udp": 100})], round_trip=1, has_load=False),
    "first session, UDP refused": Scenario([Phase(8)], round_trip=1, has_load=False, has_udp=False),
}

FLAPPING = {
    "path flaps": ({"loss": 10}, QUIC),
    "path flaps wildly": ({"loss": 20}, QUIC),
    "TCP flaps": ({"loss_tcp": 20}, QUIC),
    "UDP flaps": ({"loss_udp": 100}, TLS),
}
FLAPS = {
    # Where a member dies, the first sessions may have taken it, while nothing was known, and die with it.
    name: Scenario(
        [Phase(5), Phase(5, rules)] * 30,
        dies_in=1 if 100 in rules.values() else None,
        most_switches=6,
        seed=7 + index,
    )
    for index, (name, (rules, _)) in enumerate(FLAPPING.items())
}

MESSAGE = b"there and back"

loaded = pytest.mark.parametrize("name", [name for name, one in SCENARIOS.items() if one.has_load])


@pytest.fixture(scope="session")
def outcomes(certificates, tmp_path_factory):
    return run_all(SCENARIOS, tmp_path_factory.mktemp("adaptive"), certificates)


@loaded
def test_new_sessions_take_the_member_that_the_path_calls_for(name, outcomes):
    outcome = outcomes[name].result()
    for number, phase in enumerate(outcome.scenario.phases):
        took = outcome.settled(number)
        assert took <= phase.within, f"phase {number} took {took:.1f} s\n{outcome}"


@loaded
def test_no_session_fails_that_the_better_member_would_have_carried(name, outcomes):
    outcome = outcomes[name].result()
    assert len(outcome.sessions) > sum(phase.seconds for phase in outcome.scenario.phases)
    assert outcome.failed == [], str(outcome)


@loaded
def test_switches_are_as_few_as_the_path_calls_for(name, outcomes):
    outcome = outcomes[name].result()
    assert len(outcome.switches) <= outcome.scenario.most_switches, str(outcome)


@loaded
def test_a_replayed_trace_gives_the_same_decisions(name, outcomes):
    outcome = outcomes[name].result()
    [trace] = outcome.directory.glob(f"*/{TRACE}")
    ended = magicalane("explain", "--trace", trace, "--json", cwd=outcome.directory)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    replayed = [line["decision"] for line in lines if "decision" in line]
    assert replayed[: len(outcome.decisions)] == outcome.decisions


@pytest.mark.parametrize("name", ["UDP is dropped", "UDP is refused"])
def test_blocked_udp_costs_no_session_a_time_out(name, outcomes):
    outcome = outcomes[name].result()
    assert all(session.opened for session in outcome.sessions), str(outcome)
    # QUIC's `connect_timeout` is twice as long.
    assert max(session.opened - session.started for session in outcome.sessions) < 5, str(outcome)


@pytest.mark.parametrize("name", ["first session, UDP dropped", "first session, UDP refused"])
def test_with_udp_blocked_the_first_session_opens_after_the_head_start_and_one_tls_handshake(name, outcomes):
    """TCP, TLS and CONNECT take a round trip each; the one beyond is for the machine."""
    outcome = outcomes[name].result()
    [session] = outcome.sessions
    assert session.error is None
    assert session.opened - session.started <= 0.3 + 4 * outcome.scenario.round_trip, str(outcome)


def test_probing_an_idle_path_costs_less_than_10_kb_a_minute(outcomes):
    outcome = outcomes["idle"].result()
    _, before, after = outcome.carried
    assert all(session.error is None for session in outcome.sessions)
    assert after - before < 10_000, str(outcome)


def test_a_target_that_resets_a_session_is_not_asked_twice(programs, certificates):
    """The member is in order; to open the session again would send the request to the target once more."""
    members = {
        transport: programs.run({"frontends": [exit_frontend(transport, certificates)]}).address("exit")
        for transport in ("quic", "tls")
    }
    transports = [
        {**tunnel(transport, address, certificates), "name": transport}
        for transport, address in members.items()
    ]
    front = {"name": "front", "type": "socks5", "listen": "tcp://127.0.0.1:0", "transport": "both"}
    both = {"name": "both", "type": "adaptive", "members": list(members)}
    near = programs.run({"frontends": [front], "transports": [*transports, both]})
    asked = []

    def reset_each(listener):
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            if stream.recv(16):
                asked.append(stream)
            # RST, and no end of stream.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=reset_each, args=[listener], daemon=True).start()
        for _ in range(20):
            with socket.create_connection(near.address("front").pair, timeout=10) as stream:
                SOCKS5.open_over(stream, *listener.getsockname())
                stream.sendall(b"request")
                with contextlib.suppress(ConnectionResetError):
                    assert stream.recv(1) == b""
        listener.shutdown(socket.SHUT_RDWR)
    assert len(asked) == 20


def test_a_server_without_path_reports_is_used_all_the_same(programs, certificates):
    """Of such a member only failures and opening times are known."""
    far = programs.run({"frontends": [exit_frontend("quic", certificates)]}).address("exit")
    front = {"name": "front", "type": "socks5", "listen": "tcp://127.0.0.1:0", "transport": "both"}
    both = {"name": "both", "type": "adaptive", "members": ["old", "new"]}
    with echoing() as target:
        with FarEnd(relay_in_turns, server_context(certificates)) as server:
            # Without connections that wait, so that its end is one for sessions as well.
            old = {"type": "tls", "server": "%s:%d" % server.pair, "tls": certificates.trust, "warm": 0}
            transports = [{**old, "name": "old"}, {**tunnel("quic", far, certificates), "name": "new"}, both]
            near, api = administered(programs, {"frontends": [front], "transports": transports})

            def paths():
                return {path["member"]: path for path in api.get("/v1/transports/both/paths").json["paths"]}

            for _ in range(5):
                assert echo_through(near, target) == MESSAGE
            eventually(lambda: paths()["old"]["reports"] == "lacking", "it is known to lack them")
            assert paths()["old"]["chosen"]
            assert paths()["old"]["opened"] == 5
            assert sum(head.startswith(b"CONNECT") for head in server.heads) == 5
        for _ in range(5):
            assert echo_through(near, target) == MESSAGE
        assert paths()["new"]["opened"] == 5


def echo_through(program, target, message=MESSAGE):
    with open_through(SOCKS5, program.address("front").pair, *target) as stream:
        stream.sendall(message)
        return read_exactly(stream, len(message))


@contextlib.contextmanager
def echoing():
    """Gives the address of a target that sends back what comes."""

    def answer(stream):
        with stream, contextlib.suppress(OSError):
            while data := stream.recv(1 << 16):
                stream.sendall(data)

    def accept(listener):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=[listener], daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="session")
def flaps(certificates, tmp_path_factory):
    return run_all(FLAPS, tmp_path_factory.mktemp("flaps"), certificates)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FLAPS)
def test_a_path_that_flaps_is_not_followed(name, flaps):
    outcome = flaps[name].result()
    assert outcome.failed == [], str(outcome)
    assert len(outcome.switches) <= outcome.scenario.most_switches, str(outcome)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_better_member_alone_carries_all_sessions(certificates, tmp_path_factory):
    """Without it, that no session fails would ask too much."""
    better = {name: one.phases[-1].chosen for name, one in SCENARIOS.items() if one.phases[-1].chosen}
    better |= {name: member for name, (_, member) in FLAPPING.items()}
    scenarios = {name: {**SCENARIOS, **FLAPS}[name] for name in better}
    outcomes = run_all(scenarios, tmp_path_factory.mktemp("alone"), certificates, better)
    for name, future in outcomes.items():
        assert future.result().failed == [], name
