"""The config through the admin API: what is shown, what is taken, and what stays as it is when it is not."""

import json
import os
import signal
import socket
import stat
import threading
import time

import pytest
import yaml
from admin import JSON, NOTHING, YAML, Admin, administered, answers, free_port, front
from clients import SOCKS5, Refused, open_through, read_exactly
from program import eventually

REDACTED = "<redacted>"


@pytest.fixture
def running(programs):
    return administered(programs, {"frontends": [front()]})


@pytest.fixture
def api(running):
    return running[1]


@pytest.fixture
def program(running):
    return running[0]


def listen_pair(api, name="front"):
    host, port = api.status_of(f"/v1/frontends/{name}")["listen"].split("://")[1].rsplit(":", 1)
    return host, int(port)


def works(api, targets, key, name="front", credentials=None):
    """A session through the frontend carries bytes both ways."""
    with open_through(SOCKS5, listen_pair(api, name), targets.host, targets.port, credentials) as stream:
        stream.sendall(f"echo {key}\n.".encode())
        return read_exactly(stream, 1) == b"."


def with_frontend(config, **more):
    return {**config, "frontends": [*config["frontends"], {**front("more"), **more}]}


# What is shown, and in which form


def test_the_config_is_shown_as_written(api):
    config, tag = api.config()
    assert config["frontends"] == [front()]
    assert config["limits"] == {"drain_timeout": "200ms"}
    assert "transports" not in config
    answer = api.get("/v1/config", If_None_Match=tag)
    assert (answer.status, answer.tag) == (304, tag)
    assert api.get("/v1/config", If_None_Match='"other"').status == 200
    assert api.get("/v1/config", If_None_Match=f'"other", W/{tag}').status == 304


def test_yaml_and_json_say_the_same(api):
    answer = api.get("/v1/config", Accept=YAML)
    assert answer.type == YAML
    assert yaml.safe_load(answer.body) == api.config()[0]
    assert api.get("/v1/config", Accept=f"{YAML};q=0.5, {JSON};q=0.4").type == YAML
    assert api.get("/v1/config", Accept="*/*").type == JSON
    assert api.get("/v1/config", Accept="text/html").status == 406


def test_what_was_shown_can_be_sent_back(api):
    for kind in (JSON, YAML):
        answer = api.get("/v1/config", Accept=kind)
        generation = api.entry("/v1/status")["config"]["generation"]
        back = api.put("/v1/config", answer.body, kind, tag=answer.tag)
        assert back.status == 200, back
        assert back.json["changes"] == {"frontends": NOTHING, "transports": NOTHING, "sections": []}
        assert back.json["generation"] == generation, "nothing was changed"


@pytest.mark.parametrize(
    "name", ["\U0001f600", "a\u0000b", "é\u2028", '"\\', "\u65e5\u672c", "\ud83d"], ids=ascii
)
def test_text_of_any_script_comes_through(api, targets, key, name):
    """JSON escapes, surrogate pairs among them, and the same text in YAML."""
    config, tag = api.config()
    config["frontends"][0]["users"] = [{"name": name, "password": "p \U0001f511"}]
    text = json.dumps(config, ensure_ascii=True)
    assert "\\u" in text or name.isascii()
    answer = api.put("/v1/config", text, JSON, tag=tag)
    if name in ("\ud83d", "a\u0000b"):
        assert answer.status in (400, 422), answer
        return
    assert answer.status == 200, answer
    assert api.config()[0]["frontends"][0]["users"][0]["name"] == name
    assert yaml.safe_load(api.get("/v1/config", Accept=YAML).body) == api.config()[0]
    assert works(api, targets, key, credentials=(name, "p \U0001f511"))


# Secrets


@pytest.fixture
def secretive(programs):
    tunnel = {"name": "tunnel", "type": "tcp", "server": "127.0.0.1:1", "user": "u", "password": "${SECRET}"}
    users = [{"name": "a", "password": "hunter-a"}, {"name": "b", "password": "hunter-b"}]
    config = {"frontends": [front(users=users)], "transports": [tunnel]}
    return administered(programs, config, token="hunter-token", env={"SECRET": "hunter-env"})


def passwords(config):
    return [user["password"] for user in config["frontends"][0]["users"]]


def test_secrets_are_redacted_and_kept(secretive, targets, key):
    program, api = secretive
    config, tag = api.config()
    assert config["admin"]["token"] == REDACTED
    assert passwords(config) == [REDACTED, REDACTED]
    assert config["transports"][0]["password"] == "${SECRET}"
    assert api.entry("/v1/frontends/front")["users"][0]["password"] == REDACTED
    assert api.entry("/v1/transports/tunnel")["password"] == "${SECRET}"

    # Back as it was shown, but for another key and with the users in another order.
    config["frontends"][0]["users"].reverse()
    config["limits"]["idle_timeout"] = "4m"
    answer = api.put("/v1/config?persist=true", config, tag=tag)
    assert answer.status == 200, answer
    for user, password in (("a", "hunter-a"), ("b", "hunter-b")):
        assert works(api, targets, f"{key}/{user}", credentials=(user, password))
    with pytest.raises(Refused):
        works(api, targets, key, credentials=("a", REDACTED))
    written = yaml.safe_load((program.directory / "magicalane.yaml").read_text())
    assert passwords(written) == ["hunter-b", "hunter-a"]
    assert written["admin"]["token"] == "hunter-token"
    assert written["transports"][0]["password"] == "${SECRET}"


@pytest.mark.parametrize("verb", ["put", "patch"])
def test_an_entry_that_is_sent_back_keeps_its_secrets(secretive, targets, key, verb):
    _, api = secretive
    shown = api.get("/v1/frontends/front")
    if verb == "put":
        answer = api.put("/v1/frontends/front", {**shown.json, "idle_timeout": "4m"}, tag=shown.tag)
    else:
        users = [*shown.json["users"], {"name": "c", "password": "hunter-c"}]
        answer = api.patch("/v1/frontends/front", {"users": users}, tag=shown.tag)
        assert works(api, targets, f"{key}/c", credentials=("c", "hunter-c"))
    assert answer.status == 200, answer
    assert works(api, targets, key, credentials=("a", "hunter-a"))


def test_a_redacted_secret_that_was_never_there_is_refused(secretive):
    _, api = secretive
    shown = api.get("/v1/frontends/front")
    users = [*shown.json["users"], {"name": "new", "password": REDACTED}]
    answer = api.put("/v1/frontends/front", {**shown.json, "users": users}, tag=shown.tag)
    assert (answer.status, answer.json["step"]) == (422, "validate"), answer
    assert answer.pointers == ["#/users/2/password"]
    assert answer.json["errors"][0]["config_pointer"] == "#/frontends/0/users/2/password"


def test_a_variable_that_is_sent_is_replaced_and_shown_as_written(secretive, targets, key):
    _, api = secretive
    shown = api.get("/v1/frontends/front")
    users = [{"name": "a", "password": "${SECRET}"}]
    assert api.put("/v1/frontends/front", {**shown.json, "users": users}, tag=shown.tag).status == 200
    assert api.entry("/v1/frontends/front")["users"] == users
    assert works(api, targets, key, credentials=("a", "hunter-env"))
    shown = api.get("/v1/frontends/front")
    users[0]["password"] = "${NOT_SET_HERE}"
    answer = api.put("/v1/frontends/front", {**shown.json, "users": users}, tag=shown.tag)
    assert answer.status in (400, 422) and answer.pointers == ["#/users/0/password"], answer


# Versions


def test_a_change_needs_the_version_that_it_changes(api):
    config, tag = api.config()
    more = with_frontend(config)
    assert api.put("/v1/config", more).problem == "precondition-required"
    assert api.put("/v1/config", more, tag='"other"').problem == "precondition-failed"
    assert api.put("/v1/config", more, tag=f"W/{tag}").status == 412, "weak tags never match here"
    assert api.put("/v1/config", more, tag="other").status == 400
    assert api.config() == (config, tag)
    answer = api.put("/v1/config", more, tag=f'"other", {tag}')
    assert answer.status == 200
    assert answer.tag != tag and answer.tag == api.config()[1]
    assert api.put("/v1/config", config, tag=tag).status == 412, "a tag is of use once"
    assert api.put("/v1/config", config, tag="*").status == 200


def test_of_many_writers_one_wins(api):
    config, tag = api.config()
    answers = []

    def write(index):
        answers.append(api.put("/v1/config", with_frontend(config, name=f"of-{index}"), tag=tag))

    threads = [threading.Thread(target=write, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200] + [412] * 11
    [winner] = [answer.json for answer in answers if answer.status == 200]
    names = [entry["name"] for entry in api.entry("/v1/frontends")["frontends"]]
    assert names == ["front", *winner["changes"]["frontends"]["added"]]


def test_an_entry_has_a_version_of_its_own(api):
    shown = api.get("/v1/frontends/front")
    assert api.get("/v1/frontends/front", If_None_Match=shown.tag).status == 304
    assert api.put("/v1/frontends/other", {**front("other")}).status == 201
    assert api.get("/v1/frontends/front").tag == shown.tag, "another entry's change is not this one's"
    answer = api.patch("/v1/frontends/front", {"idle_timeout": "4m"}, tag=shown.tag)
    assert answer.status == 200
    assert answer.tag == api.get("/v1/frontends/front").tag != shown.tag


# Looking before leaping, and going back


def test_a_dry_run_changes_nothing(api, targets, key):
    config, tag = api.config()
    port = free_port()
    changed = with_frontend(config, listen=f"tcp://127.0.0.1:{port}")
    changed["frontends"][0] = front(idle_timeout="4m")
    changed["limits"] = {"drain_timeout": "300ms"}
    answer = api.put("/v1/config?dry_run=true", changed, tag=tag)
    assert answer.status == 200, answer
    assert answer.json["dry_run"] is True
    assert answer.json["changes"] == {
        "frontends": {"added": ["more"], "changed": ["front"], "removed": []},
        "transports": NOTHING,
        "sections": ["limits"],
    }
    assert answer.tag == tag and api.config() == (config, tag)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert works(api, targets, key)
    changed["frontends"][1]["type"] = "nothing"
    assert api.put("/v1/config?dry_run=true", changed, tag=tag).status == 422
    assert api.put("/v1/config?dry_run=false", config, tag=tag).json["dry_run"] is False
    assert api.put("/v1/config?dry_run=maybe", config, tag=tag).status == 400


def test_rollback_goes_back_step_by_step(api, targets, key):
    first, _ = api.config()
    for index in range(3):
        api.change(lambda config: with_frontend(config, name=f"more-{index}"))
    for index in (2, 1, 0):
        answer = api.post("/v1/config/rollback")
        assert answer.status == 200, answer
        assert answer.json["origin"] == "rollback"
        assert answer.json["changes"]["frontends"] == {**NOTHING, "removed": [f"more-{index}"]}
    assert api.config()[0] == first
    assert api.post("/v1/config/rollback").problem == "nothing-to-roll-back"
    assert works(api, targets, key)
    assert api.entry("/v1/status")["config"]["generation"] == 7


def test_rollback_can_be_tried_and_tied_to_a_version(api):
    api.change(with_frontend)
    _, tag = api.config()
    answer = api.post("/v1/config/rollback?dry_run=true")
    assert answer.json["changes"]["frontends"]["removed"] == ["more"] and api.config()[1] == tag
    assert api.post("/v1/config/rollback", If_Match='"other"').status == 412
    assert api.post("/v1/config/rollback", If_Match=tag).status == 200


# The file


def config_file(program):
    return program.directory / "magicalane.yaml"


def test_persist_writes_the_file_with_its_mode_through_its_link(programs, tmp_path, targets, key):
    program, api = administered(programs, {"frontends": [front()]})
    file, real = config_file(program), tmp_path / "real.yaml"
    # A link that comes later is a change of the file, so it is read again.
    os.rename(file, real)
    file.symlink_to(real)
    real.chmod(0o640)
    assert api.post("/v1/config/reload").status == 200
    config, tag = api.config()
    answer = api.put("/v1/config?persist=true", with_frontend(config), tag=tag)
    assert answer.status == 200, answer
    assert os.path.samefile(program.directory / answer.json["persisted_to"], real)
    assert file.is_symlink() and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert yaml.safe_load(real.read_text()) == api.config()[0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["real.yaml"]
    assert sorted(os.listdir(program.directory)) == ["magicalane.yaml", "stderr", "stdout"]
    # What was written is what runs.
    assert api.post("/v1/config/reload").json["changes"]["frontends"] == NOTHING
    # And again, now that the program knows the file as its own.
    assert api.post("/v1/config/rollback?persist=true").status == 200
    assert yaml.safe_load(real.read_text()) == api.config()[0] == config
    assert works(api, targets, key)


def test_persist_does_not_overwrite_what_somebody_else_wrote(api, program):
    theirs = config_file(program).read_text() + "\n"
    config_file(program).write_text(theirs)
    config, tag = api.config()
    answer = api.put("/v1/config?persist=true", with_frontend(config), tag=tag)
    assert (answer.status, answer.problem) == (409, "cannot-persist"), answer
    assert config_file(program).read_text() == theirs
    assert api.config() == (config, tag), "a change that cannot be kept is not made"
    assert api.post("/v1/config/reload").status == 200
    assert api.put("/v1/config?persist=true", with_frontend(config), tag=api.config()[1]).status == 200


def test_yaml_is_persisted_with_its_comments(api, program):
    _, tag = api.config()
    text = f"""\
# Ours, with comments.
admin: {{listen: '{api.address}'}}  # here
limits: {{drain_timeout: 200ms}}
frontends:
  - name: front
    type: socks5
    listen: tcp://127.0.0.1:0  # any port
"""
    answer = api.put("/v1/config?persist=true", text, YAML, tag=tag)
    assert answer.status == 200, answer
    assert config_file(program).read_text() == text


def test_a_change_that_is_refused_leaves_the_file(api, program):
    before = config_file(program).read_bytes(), os.stat(config_file(program)).st_ino
    config, tag = api.config()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bad = with_frontend(config, listen=f"tcp://127.0.0.1:{taken.getsockname()[1]}")
        assert api.put("/v1/config?persist=true", bad, tag=tag).status == 409
    assert api.put("/v1/config?persist=true&dry_run=true", with_frontend(config), tag=tag).status == 200
    assert before == (config_file(program).read_bytes(), os.stat(config_file(program)).st_ino)
    assert sorted(os.listdir(program.directory)) == ["magicalane.yaml", "stderr", "stdout"]


def test_without_a_file_there_is_nothing_to_persist_to(programs, targets, key):
    programs.start(["run"], listeners=2)
    api = Admin(("127.0.0.1", 9090))
    eventually(lambda: answers(api), "the admin API answers at its usual address")
    config, tag = api.config()
    answer = api.put("/v1/config?persist=true", with_frontend(config), tag=tag)
    assert (answer.status, answer.problem) == (409, "cannot-persist"), answer
    assert api.put("/v1/config", with_frontend(config), tag=tag).status == 200
    assert works(api, targets, key, "more")


# What is wrong, and where


def bad_entry(**more):
    return {**front("bad"), **more}


# What is wrong with a frontend: its keys, the status, the step and the pointer within the entry.
WRONG = {
    "an unknown type": (bad_entry(type="sock5"), 422, "validate", "/type"),
    "an unknown key": (bad_entry(lisen="x"), 422, "validate", "/lisen"),
    "a bad value": (bad_entry(idle_timeout="soon"), 422, "validate", "/idle_timeout"),
    "a bad value deep down": (
        bad_entry(users=[{"name": "a", "password": []}]),
        422,
        "validate",
        "/users/0/password",
    ),
    "a transport that is not there": (bad_entry(transport="nowhere"), 422, "validate", "/transport"),
    "an open proxy": (bad_entry(listen="tcp://0.0.0.0:0"), 422, "validate", "/listen"),
    "a missing key": ({"name": "bad", "type": "socks5"}, 422, "validate", "/listen"),
    "a missing certificate": (
        bad_entry(listen="tls://127.0.0.1:0", tls={"certificate": "nowhere.pem", "key": "nowhere.pem"}),
        422,
        "build",
        "/tls/certificate",
    ),
    "a port in use": (bad_entry(listen="tcp://127.0.0.1:{taken}"), 409, "bind", "/listen"),
    "a QUIC port in use": (bad_entry(listen="quic://127.0.0.1:{taken}", tls="{tls}"), 409, "bind", "/listen"),
    "an address of another host": (bad_entry(listen="tcp://192.0.2.1:1", open=True), 409, "bind", "/listen"),
}


@pytest.fixture
def taken():
    """A port that is taken, for TCP and UDP alike."""
    with socket.create_server(("127.0.0.1", 0)) as stream:
        port = stream.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("127.0.0.1", port))
            yield port


def filled(entry, taken, certificates):
    text = json.dumps(entry).replace("{taken}", str(taken))
    return json.loads(text.replace('"{tls}"', json.dumps(certificates.server)))


@pytest.mark.parametrize("what", WRONG)
def test_a_bad_config_is_refused_and_the_problem_names_the_key(api, what, taken, certificates, targets, key):
    entry, status, step, pointer = WRONG[what]
    config, tag = api.config()
    pair = listen_pair(api)
    with open_through(SOCKS5, pair, targets.host, targets.port) as stream:
        stream.sendall(f"echo {key}\n.".encode())
        assert read_exactly(stream, 1) == b"."
        # Together with good changes, none of which may be made.
        changed = {**config, "frontends": [front(idle_timeout="4m"), filled(entry, taken, certificates)]}
        changed["limits"] = {"drain_timeout": "1ms"}
        answer = api.put("/v1/config", changed, tag=tag)
        assert (answer.status, answer.problem, answer.json["step"]) == (status, "invalid-config", step), (
            answer
        )
        assert f"#/frontends/1{pointer}" in answer.pointers, answer
        assert api.config() == (config, tag)
        assert listen_pair(api) == pair and works(api, targets, f"{key}/new")
        stream.sendall(b"!")
        assert read_exactly(stream, 1) == b"!"


@pytest.mark.parametrize("what", WRONG)
def test_a_bad_entry_is_refused_and_the_problem_names_the_key(api, what, taken, certificates, targets, key):
    entry, status, step, pointer = WRONG[what]
    before = api.config()
    answer = api.put("/v1/frontends/bad", filled(entry, taken, certificates))
    assert (answer.status, answer.problem, answer.json["step"]) == (status, "invalid-config", step), answer
    assert f"#{pointer}" in answer.pointers, answer
    assert f"#/frontends/1{pointer}" in [error["config_pointer"] for error in answer.json["errors"]], answer
    assert api.config() == before
    assert api.get("/v1/frontends/bad").status == 404
    assert works(api, targets, key)


def test_all_that_is_wrong_is_told_at_once(api):
    config, tag = api.config()
    config["frontends"] += [bad_entry(type="nothing"), {**bad_entry(transport="nowhere"), "name": "b/d"}]
    config["limits"]["buffer"] = "1"
    config["nonsense"] = 1
    answer = api.put("/v1/config", config, tag=tag)
    assert answer.status == 422
    assert set(answer.pointers) == {
        "#/frontends/1/type",
        "#/frontends/2/name",
        "#/frontends/2/transport",
        "#/limits/buffer",
        "#/nonsense",
    }


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("frontends: [\n", YAML),
        ("a: b: c", YAML),
        ("\tx", YAML),
        ('{"frontends": [}', JSON),
        ("frontends: []", JSON),
        ('{"log": {}} x', JSON),
        ("", JSON),
        ("a: &a [*a]", YAML),
        ("a: *b", YAML),
        ("a: 1\n---\nb: 2\n", YAML),
        (b"log: {level: \xff}", YAML),
        (b'{"log": "\xff"}', JSON),
    ],
    ids=ascii,
)
def test_a_text_that_cannot_be_read(api, text, kind):
    before = api.config()
    answer = api.put("/v1/config", text, kind, tag=before[1])
    assert (answer.status, answer.json.get("step", "read")) == (400, "read"), answer
    assert api.config() == before


@pytest.mark.parametrize("value", ["", "null", "[]", "text", "3", "[{}]"])
def test_a_config_that_is_no_mapping(api, value):
    before = api.config()
    answer = api.put("/v1/config", value, YAML, tag=before[1])
    assert answer.status in (400, 422), answer
    assert api.config() == before


def bomb(head, tail):
    """Nine levels, each ten times the one below: a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 10):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{aliases}]")
    return "\n".join([*lines, head + "*a9" + tail, ""])


HOSTILE = {
    "aliases": bomb("b: ", ""),
    "aliases in a key": bomb("? [", "]\n: x"),
    "an alias as a key": bomb("", " : x"),
    "aliases in a mapping's keys": bomb("b: {? [", "] : x}"),
    "merge keys": "a0: &a0 {k: v}\n"
    + "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n  k{n}: v\n" for n in range(1, 30)),
    "depth": "a: " + "[" * 100_000,
    "closed depth": "a: " + "[" * 50_000 + "]" * 50_000,
    "depth of mappings": "{a: " * 50_000,
    "depth of blocks": "- " * 100_000,
    "many values": "a: [" + "x," * 1_000_000 + "]",
    "many keys": "\n".join(f"k{n}: v" for n in range(200_000)),
    "one key many times": "k: v\n" * 200_000,
    "a long scalar": "a: " + "x" * 3_900_000,
    "many anchors": "\n".join(f"k{n}: &a{n} v" for n in range(100_000)),
    "quotes that do not end": 'a: "' + "\\" * 3_000_000,
    "many documents": "---\n" * 500_000,
    "substitutions": "a: " + "${HOME}" * 400_000,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_text_is_refused_soon_and_costs_little(api, program, what, targets, key):
    before = api.config()
    memory = program.resident
    started = time.monotonic()
    answer = api.put("/v1/config", HOSTILE[what], YAML, tag=before[1])
    spent = time.monotonic() - started
    assert answer.status in (400, 422), answer
    assert len(answer.body) < 100_000, "a problem that is longer than anybody reads"
    # Not a measure: what is not bounded takes minutes, or all memory.
    assert spent < 20
    assert program.resident - memory < 1 << 30
    assert api.config() == before and works(api, targets, key)


# Entries


def test_an_entry_comes_and_goes(api, targets, key):
    answer = api.put("/v1/frontends/web", {"type": "http", "listen": "tcp://127.0.0.1:0"}, If_None_Match="*")
    assert answer.status == 201, answer
    assert answer.headers["Location"] == "/v1/frontends/web"
    assert answer.json["changes"]["frontends"] == {**NOTHING, "added": ["web"]}
    shown = api.get("/v1/frontends/web")
    assert shown.tag == answer.tag
    assert shown.json["status"]["state"] == "listening"
    assert not shown.json["status"]["listen"].endswith(":0"), "as bound"
    assert shown.json["listen"].endswith(":0"), "as written"
    pair = listen_pair(api, "web")

    assert api.put("/v1/frontends/web", front("web")).status == 428
    assert api.put("/v1/frontends/web", front("web"), If_None_Match="*").status == 412
    assert api.put("/v1/frontends/web", front("web"), tag='"other"').status == 412
    assert api.put("/v1/frontends/web", front("web"), tag=shown.tag, If_None_Match="*").status == 412
    answer = api.put(
        "/v1/frontends/web", {**front(), "name": "web", "status": {"state": "lies"}}, tag=shown.tag
    )
    assert answer.status == 200 and answer.json["changes"]["frontends"]["changed"] == ["web"], answer
    assert "status" not in api.config()[0]["frontends"][1]
    assert works(api, targets, key, "web")

    pair, tag = listen_pair(api, "web"), api.get("/v1/frontends/web").tag
    assert api.delete("/v1/frontends/web").status == 428
    assert api.delete("/v1/frontends/web", tag='"other"').status == 412
    assert api.delete("/v1/frontends/web?dry_run=true", tag=tag).json["changes"]["frontends"]["removed"] == [
        "web"
    ]
    answer = api.delete("/v1/frontends/web", tag=tag)
    assert answer.status == 200 and answer.json["changes"]["frontends"] == {**NOTHING, "removed": ["web"]}
    assert api.get("/v1/frontends/web").status == 404
    assert api.delete("/v1/frontends/web", tag=tag).status == 404
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(pair)


def test_a_name_in_the_body_is_that_of_the_path(api):
    answer = api.put("/v1/frontends/one", front("other"))
    assert (answer.status, answer.pointers) == (422, ["#/name"]), answer
    tag = api.get("/v1/frontends/front").tag
    answer = api.patch("/v1/frontends/front", {"name": "other"}, tag=tag)
    assert (answer.status, answer.pointers) == (422, ["#/name"]), answer


@pytest.mark.parametrize("name", ["a%2Fb", "a%20b", "%F0%9F%98%80", "a%00b", "%3Cx%3E"])
def test_a_name_that_cannot_be(api, name):
    answer = api.put(f"/v1/frontends/{name}", {"type": "socks5", "listen": "tcp://127.0.0.1:0"})
    assert answer.status in (400, 404, 422), answer
    assert [entry["name"] for entry in api.entry("/v1/frontends")["frontends"]] == ["front"]


def test_a_merge_patch_sets_and_takes_out_keys(api):
    tag = api.put(
        "/v1/transports/t", {"type": "tls", "server": "a:1", "tls": {"server_name": "a", "insecure": True}}
    ).tag
    answer = api.patch(
        "/v1/transports/t", {"server": "b:1", "tls": {"insecure": None, "server_name": "b"}}, tag=tag
    )
    assert answer.status == 200, answer
    shown = api.get("/v1/transports/t")
    del shown.json["status"]
    assert {key: shown.json[key] for key in ("name", "type", "server", "tls")} == {
        "name": "t",
        "type": "tls",
        "server": "b:1",
        "tls": {"server_name": "b"},
    }
    answer = api.patch("/v1/transports/t", {"tls": None, "password": None}, tag=shown.tag)
    assert answer.status == 200 and "tls" not in api.entry("/v1/transports/t")
    assert api.patch("/v1/transports/t", {"type": None}, tag=answer.tag).status == 422
    assert api.patch("/v1/transports/t", {"server": 7}, tag=answer.tag).pointers == ["#/server"]
    assert api.patch("/v1/transports/none", {}, tag="*").status == 404
    assert api.patch("/v1/transports/t", {}, tag=None).status == 428
    assert api.patch("/v1/transports/t", "[]", tag=answer.tag).status == 422
    answer = api.patch("/v1/transports/t", {}, type=JSON, tag=answer.tag)
    assert (answer.status, answer.headers["Accept-Patch"]) == (415, "application/merge-patch+json")


def test_direct_is_built_in(api):
    assert [entry["name"] for entry in api.entry("/v1/transports")["transports"]] == ["direct"]
    shown = api.get("/v1/transports/direct")
    answer = api.delete("/v1/transports/direct", tag=shown.tag)
    assert (answer.status, answer.problem) == (409, "built-in"), answer
    answer = api.patch("/v1/transports/direct", {"connect_timeout": "5s"}, tag=shown.tag)
    assert answer.status == 200, answer
    assert api.config()[0]["transports"] == [{"connect_timeout": "5s", "name": "direct", "type": "tcp"}]
    assert api.delete("/v1/transports/direct", tag=answer.tag).status == 200
    assert "connect_timeout" not in api.entry("/v1/transports/direct")


def test_a_transport_in_use_cannot_be_removed(api):
    tag = api.put("/v1/transports/t", {"type": "tcp"}).tag
    shown = api.get("/v1/frontends/front")
    assert api.patch("/v1/frontends/front", {"transport": "t"}, tag=shown.tag).status == 200
    assert api.status_of("/v1/transports/t")["frontends"] == ["front"]
    answer = api.delete("/v1/transports/t", tag=tag)
    assert (answer.status, answer.problem) == (422, "invalid-config"), answer
    assert answer.json["errors"][0]["config_pointer"] == "#/frontends/0/transport"
    shown = api.get("/v1/frontends/front")
    assert api.patch("/v1/frontends/front", {"transport": None}, tag=shown.tag).status == 200
    assert api.delete("/v1/transports/t", tag=tag).status == 200


# The other roads


def test_sighup_takes_the_same_road(api, program):
    before = api.entry("/v1/status")["config"]
    text = json.loads(config_file(program).read_text())
    with api.events() as events:
        text["frontends"].append(front("more"))
        config_file(program).write_text(json.dumps(text))
        program.signal(signal.SIGHUP)
        _, name, data = events.next()
        assert name == "config.applied" and data["change"]["origin"] == "reload"
        assert data["change"]["changes"]["frontends"] == {**NOTHING, "added": ["more"]}
        status = api.entry("/v1/status")["config"]
        assert (status["generation"], status["origin"]) == (before["generation"] + 1, "reload")
        assert data["change"]["generation"] == status["generation"] and status["tag"] != before["tag"]
        config_file(program).write_text("frontends: [")
        program.signal(signal.SIGHUP)
        _, name, data = events.next()
        assert (name, data["origin"]) == ("config.refused", "reload")
        assert api.entry("/v1/status")["config"] == status


def test_reload_reads_the_file_again(api, program):
    text = json.loads(config_file(program).read_text())
    text["frontends"].append(front("more"))
    config_file(program).write_text(json.dumps(text))
    assert api.post("/v1/config/reload?dry_run=true").json["changes"]["frontends"]["added"] == ["more"]
    answer = api.post("/v1/config/reload", If_Match=api.config()[1])
    assert answer.status == 200 and answer.json["changes"]["frontends"]["added"] == ["more"]
    config_file(program).write_text("frontends: 3")
    answer = api.post("/v1/config/reload")
    assert (answer.status, answer.problem) == (422, "invalid-config"), answer
    config_file(program).unlink()
    assert api.post("/v1/config/reload").status in (409, 422)
    assert [entry["name"] for entry in api.entry("/v1/frontends")["frontends"]] == ["front", "more"]


# The admin API changes itself


def is_gone(api):
    try:
        api.connect().close()
        return False
    except (ConnectionRefusedError, FileNotFoundError):
        return True


def test_the_admin_api_moves_by_a_request_to_itself(api, programs):
    new = Admin(("127.0.0.1", free_port()))
    change = api.change(lambda config: {**config, "admin": {"listen": new.address}})
    assert change["changes"]["sections"] == ["admin"]
    assert answers(new)
    eventually(lambda: is_gone(api), "the old address is closed")
    socket_path = programs.new_directory() / "a.sock"
    last = Admin(socket_path)
    new.change(lambda config: {**config, "admin": {"listen": last.address}})
    assert answers(last)
    eventually(lambda: is_gone(new), "the old address is closed")
    last.change(lambda config: {key: value for key, value in config.items() if key != "admin"})
    eventually(lambda: is_gone(last), "the socket is closed")
    assert not socket_path.exists()


def test_an_admin_address_that_is_taken_is_refused(api, taken):
    config, tag = api.config()
    config["admin"]["listen"] = f"127.0.0.1:{taken}"
    answer = api.put("/v1/config", config, tag=tag)
    assert (answer.status, answer.json["step"]) == (409, "bind"), answer
    assert answer.pointers == ["#/admin/listen"]
    assert api.config()[1] == tag


def test_the_admin_token_changes_by_a_request_to_itself(api):
    api.change(lambda config: config["admin"].update(token="first"))
    assert api.get("/v1/status").status == 401
    first = Admin(api.where, "first")
    first.change(lambda config: config["admin"].update(token="second"))
    assert first.get("/v1/status").status == 401
    second = Admin(api.where, "second")
    second.change(lambda config: config["admin"].pop("token") and config)
    assert api.get("/v1/status").status == 200


def test_an_admin_address_for_others_needs_a_token(api):
    config, tag = api.config()
    port = free_port()
    config["admin"]["listen"] = f"0.0.0.0:{port}"
    answer = api.put("/v1/config", config, tag=tag)
    assert (answer.status, answer.pointers) == (422, ["#/admin/listen"]), answer
    config["admin"]["token"] = "t"
    assert api.put("/v1/config", config, tag=tag).status == 200
    assert Admin(("127.0.0.1", port), "t").get("/v1/status").status == 200


# Requests as such


def test_bodies_come_in_chunks_and_of_one_megabyte(api):
    config, tag = api.config()
    text = json.dumps(with_frontend(config), indent=1).encode()
    pieces = iter([text[index : index + 7] for index in range(0, len(text), 7)])
    answer = api.put("/v1/config", pieces, JSON, tag=tag, Transfer_Encoding="chunked")
    assert answer.status == 200 and answer.json["changes"]["frontends"]["added"] == ["more"], answer
    long = "#" * (1 << 20) + "\n" + text.decode()
    assert api.put("/v1/config", long, YAML, tag=answer.tag).status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_long(api, chunked):
    _, tag = api.config()
    block = b"#" * 65536
    body = iter([block] * 80) if chunked else block * 80
    headers = {"Transfer_Encoding": "chunked"} if chunked else {}
    answer = api.put("/v1/config", body, YAML, tag=tag, **headers)
    assert (answer.status, answer.problem) == (413, "content-too-large"), answer
    assert api.config()[1] == tag


@pytest.mark.parametrize(
    "kind",
    [None, "text/plain", "application/x-www-form-urlencoded", "nonsense", "application/json; charset=latin1"],
)
def test_a_body_of_another_type(api, kind):
    config, tag = api.config()
    answer = api.put("/v1/config", json.dumps(config), kind, tag=tag)
    assert (answer.status, answer.problem) == (415, "unsupported-media-type"), answer
    assert JSON in answer.headers["Accept"] and YAML in answer.headers["Accept"]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/yaml;charset=UTF-8"]
)
def test_a_type_may_be_written_in_many_ways(api, kind):
    config, tag = api.config()
    assert api.put("/v1/config", json.dumps(config), kind, tag=tag).status == 200


def test_log_level(api, program):
    assert api.entry("/v1/log-level") == {"level": "debug"}
    assert api.put("/v1/log-level", {"level": "error"}).json == {"level": "error"}
    assert api.entry("/v1/log-level") == {"level": "error"}
    quiet = len(program.log)
    api.change(with_frontend)
    assert " debug " not in program.log[quiet:] and " info " not in program.log[quiet:]
    assert api.entry("/v1/log-level") == {"level": "error"}, "another section's change is not the log's"
    api.change(lambda config: config.update(log={"level": "info"}))
    assert api.entry("/v1/log-level") == {"level": "info"}
    for body in ({"level": "loud"}, {}, [], {"level": None}, {"level": "info", "more": 1}):
        assert api.put("/v1/log-level", body).status in (400, 422), body
    assert api.put("/v1/log-level", "{", JSON).status == 400
    assert api.put("/v1/log-level", "level: info", "text/plain").status == 415
    assert api.entry("/v1/log-level") == {"level": "info"}
