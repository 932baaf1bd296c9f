"""openapi.yaml and the program say the same: paths, verbs and answers; schemathesis tries them all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from admin import administered, front
from clients import SOCKS5, many, open_through, read_exactly
from contract import CONTRACT
from openapi_spec_validator import validate

METHODS = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW", "get"]
TOKEN = "a-token-for-schemathesis"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    from program import Programs

    programs = Programs(tmp_path_factory.mktemp("contract"))
    yield administered(programs, {"frontends": [front()]})
    programs.stop()


@pytest.fixture
def api(served):
    return served[1]


def test_the_contract_is_valid():
    validate(CONTRACT.document)


def media(value, place=""):
    """Everything in the document that has a schema and an example."""
    if isinstance(value, dict):
        if "schema" in value and "example" in value:
            yield pytest.param(value["schema"], value["example"], id=place)
        for name, inner in value.items():
            yield from media(inner, f"{place}/{name}")


@pytest.mark.parametrize(("schema", "example"), list(media(CONTRACT.document)))
def test_each_example_fits_its_schema(schema, example):
    CONTRACT.check_value(schema, example)


def test_each_operation_says_what_it_is_for():
    ids = []
    for path, item in CONTRACT.document["paths"].items():
        for method in item.keys() - {"parameters"}:
            operation = item[method]
            assert operation["summary"] and operation["tags"], (path, method)
            ids.append(operation["operationId"])
    assert len(set(ids)) == len(ids)


def test_the_program_serves_its_contract(api):
    answer = api.get("/openapi.yaml")
    assert answer.type == "application/yaml"
    assert answer.body == CONTRACT.text
    assert api.get("/openapi.yaml", If_None_Match=answer.tag).status == 304


def filled(path):
    name = "direct" if "transports" in path else "front"
    return path.replace("{name}", name).replace("{id}", "999999")


@pytest.mark.parametrize("path", CONTRACT.paths)
def test_each_path_takes_exactly_the_methods_of_the_contract(api, path):
    known = CONTRACT.paths[path]
    for method in METHODS:
        if path == "/v1/events" and method == "GET":
            with api.events():
                continue
        answer = api.request(method, filled(path))
        if method in known:
            assert answer.status != 405, f"{method} {path} is in the contract and not in the program"
        else:
            assert answer.status == 405, (
                f"{method} {path} is in the program and not in the contract: {answer}"
            )
            assert method == "HEAD" or answer.problem == "method-not-allowed"
            assert set(answer.headers["Allow"].replace(" ", "").split(",")) == known


@pytest.mark.parametrize("path", [path for path, methods in CONTRACT.paths.items() if "GET" in methods])
def test_head_answers_as_get_does(api, path):
    if path == "/v1/events":
        pytest.skip("has no end to compare with")
    get, head = api.get(filled(path)), api.request("HEAD", filled(path))
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert head.headers["ETag"] == get.headers["ETag"]


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/nothing", "/v2/status", "/V1/status", "/v1/config/nothing",
     "/v1/frontends/front/status", "/v1/sessions/1/events", "/metrics/x", "/openapi.json",
     "/debug", "/v1/frontends/../config/nothing"],
)  # fmt: skip
def test_nothing_is_at_another_path(api, path):
    for method in METHODS[:7]:
        answer = api.request(method, path)
        assert answer.status == 404, f"{method} {path}: {answer}"


@pytest.mark.parametrize("path", [path for path, methods in CONTRACT.paths.items() if "GET" in methods])
def test_an_unknown_query_parameter_is_told(api, path):
    for query in ("nonsense=1", "nonsense", "dry_rum=true"):
        answer = api.get(f"{filled(path)}?{query}")
        assert (answer.status, answer.problem) == (400, "bad-request"), answer
        assert query.split("=")[0] in answer.json["detail"]


@pytest.mark.parametrize("path", [path for path, methods in CONTRACT.paths.items() if "GET" in methods])
def test_what_nobody_wants_is_not_sent(api, path):
    if path == "/v1/sessions/{id}":
        pytest.skip("there is no session, which is told first")
    answer = api.get(filled(path), Accept="image/png")
    assert (answer.status, answer.problem) == (406, "not-acceptable"), answer
    answer = api.get(filled(path), Accept="image/png, */*;q=0.1") if path != "/v1/events" else None
    assert answer is None or answer.status in (200, 404)


# schemathesis

# Keeps what is sent from cutting the branch that it sits on: the admin listener stays as it is. A DELETE that
# says that it is none would look like one that did nothing.
HOOKS = """
import json
import os

import schemathesis

ADMIN = {"listen": os.environ["ADMIN_LISTEN"], "token": os.environ["ADMIN_TOKEN"]}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.operation.label == "PUT /v1/config" and isinstance(case.body, dict):
        case.body["admin"] = dict(ADMIN)
    if case.method == "DELETE" and case.query:
        case.query.pop("dry_run", None)


@schemathesis.hook
def filter_body(context, body):
    # A schema can bound the keys of one object, and not of all within it.
    return longest_key(body) <= 1024


def longest_key(value):
    if isinstance(value, dict):
        return max((max(len(json.dumps(key)), longest_key(inner)) for key, inner in value.items()), default=0)
    return max(map(longest_key, value), default=0) if isinstance(value, list) else 0
"""

SETTINGS = """
[checks]
# What a schema cannot say: that a file is there, that a name is known, which version is the last.
positive_data_acceptance.expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "412", "422", "428"]
negative_data_rejection.expected-statuses = \
["400", "401", "403", "404", "405", "406", "409", "412", "413", "415", "422", "428"]
missing_required_header.expected-statuses = ["400", "401", "403", "404", "406", "412", "415", "422", "428"]
"""


def schemathesis(programs, targets, examples, seed):
    config = {"frontends": [front("kept"), front("victim")], "transports": [{"name": "spare", "type": "tcp"}]}
    program, api = administered(programs, config, token=TOKEN)
    directory = programs.new_directory()
    (directory / "hooks.py").write_text(HOOKS)
    (directory / "schemathesis.toml").write_text(SETTINGS)
    # This program has a token, so it must be asked for.
    document = {**yaml.safe_load(api.get("/openapi.yaml").body), "security": [{"bearer": []}]}
    (directory / "openapi.json").write_text(json.dumps(document))
    pair = program.address("kept").pair
    # Sessions for it to look at, and to end.
    with many(40, lambda _: open_through(SOCKS5, pair, targets.host, targets.port)):
        ended = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"), "run", "openapi.json",
                "--url", f"http://{api.address}",
                "--header", f"Authorization: Bearer {TOKEN}",
                "--checks", "all",
                # Its answer has no end; test_admin_sessions.py reads it.
                "--exclude-path", "/v1/events",
                "--max-examples", str(examples),
                "--seed", str(seed),
                "--request-timeout", "30",
                "--generation-database", "none",
                "--continue-on-failure",
                "--no-color",
                "--output-truncate", "false",
            ],
            cwd=directory,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(directory),
                 "ADMIN_LISTEN": api.address, "ADMIN_TOKEN": TOKEN},
            capture_output=True,
            text=True,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-20000:] + ended.stderr[-4000:]
    return program, api


def still_serves(program, api, targets, key):
    """Whatever was sent: it answers, takes a config, and carries bytes."""
    assert not program.has_ended
    fresh = {"admin": {"listen": api.address, "token": TOKEN}, "frontends": [front("fresh")]}
    answer = api.put("/v1/config", fresh, tag="*")
    assert answer.status == 200, answer
    listen = api.status_of("/v1/frontends/fresh")["listen"]
    pair = ("127.0.0.1", int(listen.rsplit(":", 1)[1]))
    with open_through(SOCKS5, pair, targets.host, targets.port) as stream:
        stream.sendall(f"echo {key}\n.".encode())
        assert read_exactly(stream, 1) == b"."
    errors = [line for line in program.loud_lines() if line.split(" ")[1] in ("error", "critical")]
    assert all("config refused" in line for line in errors), errors[:10]


@pytest.mark.timeout(300)
def test_schemathesis_finds_nothing(programs, targets, key):
    program, api = schemathesis(programs, targets, 20, 1)
    still_serves(program, api, targets, key)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_schemathesis_finds_nothing_for_long(programs, targets, key, seed):
    program, api = schemathesis(programs, targets, 300, seed)
    still_serves(program, api, targets, key)
