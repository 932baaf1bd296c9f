"""The contracts of the config file and the command line: what is refused, where, in which words."""

import json
import re
import socket

import pytest
from cryptography import x509
from program import magicalane

FRONT = """\
frontends:
  - name: front
    type: socks5
    listen: tcp://127.0.0.1:0
"""

# What is wrong, the file, and for each problem its place and the words that must be in its message.
# A wrong value is pointed at itself, a wrong key at the key, a missing key at the mapping that lacks it.
WRONG = [
    (
        "an unknown key of an entry",
        FRONT.replace("listen:", "lisen:"),
        [("2:5", []), ("4:5", ["lisen", "listen"])],
    ),
    ("an unknown key at the top", "frontend: []\n" + FRONT, [("1:1", ["frontend", "frontends"])]),
    ("an unknown key of a section", FRONT + "log: {levle: info}\n", [("5:7", ["levle", "level"])]),
    (
        "an unknown key of a transport",
        FRONT + "transports:\n  - {name: t, type: tcp, sever: 'a:1'}\n",
        [("6:26", ["sever", "server"])],
    ),
    (
        "a key of another transport's listener",
        FRONT + "    tls: {certificate: a, key: b}\n",
        [("5:5", ["tls"])],
    ),
    ("an unknown type", FRONT.replace("socks5", "sock5"), [("3:11", ["sock5", "socks5", "http"])]),
    ("an unknown scheme", FRONT.replace("tcp:", "tpc:"), [("4:13", ["tpc", "tcp"])]),
    ("a listen address without a port", FRONT.replace("127.0.0.1:0", "127.0.0.1"), [("4:13", ["port"])]),
    ("a port that is none", FRONT.replace(":0", ":65536"), [("4:13", ["65536"])]),
    ("a wrong type", "frontends: 3\n", [("1:12", ["frontends", "list"])]),
    ("a wrong type within an entry", FRONT + "    open: maybe\n", [("5:11", ["open", "maybe"])]),
    ("a size that is none", FRONT + "    buffer: 4MB4\n", [("5:13", ["buffer", "4MB4"])]),
    ("a duration that is none", FRONT + "    idle_timeout: soon\n", [("5:19", ["idle_timeout", "soon"])]),
    (
        "a dangling name",
        FRONT + "    transport: tokio\ntransports:\n  - {name: tokyo, type: tcp, server: 'a:1'}\n",
        [("5:16", ["tokio", "tokyo"])],
    ),
    ("a doubled name", FRONT + FRONT.split("\n", 1)[1], [("5:11", ["front"])]),
    ("a doubled key", FRONT + "    type: http\n", [("5:5", ["type"])]),
    (
        "a missing variable",
        FRONT + "    users: [{name: a, password: '${NOT_SET_HERE}'}]\n",
        [("5:34", ["NOT_SET_HERE"])],
    ),
    ("an open proxy", FRONT.replace("127.0.0.1", "0.0.0.0"), [("4:13", ["users", "open"])]),
    (
        "an open proxy on IPv6",
        FRONT.replace("127.0.0.1", '"[::]"').replace('"[::]":0', '"[::]:0"').replace('tcp://"', '"tcp://'),
        [("4:13", ["users", "open"])],
    ),
    ("a tls listener without a certificate", FRONT.replace("tcp:", "tls:"), [("2:5", ["tls"])]),
    ("a log level that is none", FRONT + "log: {level: loud}\n", [("5:14", ["loud"])]),
    ("an admin listener open to others", FRONT + "admin: {listen: '0.0.0.0:9090'}\n", [("5:17", ["token"])]),
    ("text that is no YAML", "frontends: [\n", [("2:1", [])]),
    (
        "several problems are all reported",
        "log: {level: loud}\nnonsense: 1\n" + FRONT.replace("socks5", "nothing") + "    transport: nowhere\n",
        [("1:14", ["loud"]), ("2:1", ["nonsense"]), ("5:11", ["nothing"]), ("7:16", ["nowhere"])],
    ),
]


def problems(text):
    """The lines `magicalane.yaml:LINE:COLUMN: message` of an output."""
    return re.findall(r"^magicalane\.yaml:(\d+:\d+): (.+)$", text, re.MULTILINE)


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_wrong_config_is_reported_where_it_is_wrong(command, text, expected, tmp_path):
    (tmp_path / "magicalane.yaml").write_text(text)
    ended = magicalane(command, "-c", "magicalane.yaml", cwd=tmp_path)
    assert ended.returncode == 2, ended
    found = problems(ended.stderr)
    assert "listens on" not in ended.stderr
    assert [place for place, _ in found] == [place for place, _ in expected], ended.stderr
    for (place, message), (_, words) in zip(found, expected):
        for word in words:
            assert word in message, f"{place} does not speak of {word}: {message}"


def test_a_secret_from_the_environment_is_in_no_message(tmp_path):
    (tmp_path / "magicalane.yaml").write_text(FRONT.replace("socks5", "${SECRET}") + "    open: ${SECRET}\n")
    ended = magicalane("check", "-c", "magicalane.yaml", cwd=tmp_path, env={"SECRET": "hunter2"})
    assert ended.returncode == 2
    assert "hunter2" not in ended.stderr + ended.stdout


def test_check_accepts_a_good_config_and_starts_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "magicalane.yaml").write_text(FRONT.replace(":0", f":{port}"))
        ended = magicalane("check", "-c", "magicalane.yaml", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "missing", ["certificate", "key", "swapped", "key of another"], ids=lambda what: what.replace(" ", "-")
)
def test_check_reads_the_files_that_a_config_names(missing, tmp_path, certificates):
    files = {
        "certificate": {"certificate": "nowhere", "key": str(certificates.key)},
        "key": {"certificate": str(certificates.certificate), "key": "nowhere"},
        "swapped": {"certificate": str(certificates.key), "key": str(certificates.certificate)},
        "key of another": {"certificate": str(certificates.certificate), "key": str(certificates.client_key)},
    }[missing]
    front = {"name": "front", "type": "http", "listen": "tls://127.0.0.1:0", "tls": files}
    (tmp_path / "magicalane.yaml").write_text(json.dumps({"frontends": [front]}))
    ended = magicalane("check", "-c", "magicalane.yaml", cwd=tmp_path)
    assert ended.returncode == 2, ended
    assert problems(ended.stderr), ended.stderr


def test_files_are_looked_for_beside_the_config(tmp_path, certificates):
    (tmp_path / "etc").mkdir()
    for name, source in (("c.pem", certificates.certificate), ("k.pem", certificates.key)):
        (tmp_path / "etc" / name).write_bytes(source.read_bytes())
    text = FRONT.replace("tcp:", "tls:") + "    tls: {certificate: c.pem, key: k.pem}\n"
    (tmp_path / "etc/magicalane.yaml").write_text(text)
    ended = magicalane("check", "-c", "etc/magicalane.yaml", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_environment_variables_and_json_are_read(programs, targets, key):
    from clients import SOCKS5, open_through, read_exactly

    front = {"name": "front", "type": "socks5", "listen": "tcp://127.0.0.1:0"}
    front["users"] = [{"name": "${WHO}", "password": "a${SECRET}z"}]
    program = programs.run({"frontends": [front]}, env={"WHO": "eve", "SECRET": "#: x"})
    proxy = program.address("front").pair
    with open_through(SOCKS5, proxy, targets.host, targets.port, ("eve", "a#: xz")) as stream:
        stream.sendall(f"echo {key}\n.".encode())
        assert read_exactly(stream, 1) == b"."
    assert "#: x" not in program.log


def test_a_config_that_is_not_there_is_named(tmp_path):
    ended = magicalane("run", "-c", "nowhere.yaml", cwd=tmp_path)
    assert ended.returncode == 2
    assert "nowhere.yaml" in ended.stderr


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["nonsense"], ["cert"], ["cert", "--host", "a b", "--out", "."]]
)
def test_bad_usage_exits_with_2(arguments, tmp_path):
    ended = magicalane(*arguments, cwd=tmp_path)
    assert ended.returncode == 2, ended
    assert "sage" in ended.stderr


def test_version_and_help_exit_with_0(tmp_path):
    version = magicalane("version", cwd=tmp_path)
    assert version.returncode == 0
    assert re.fullmatch(r"magicalane \d+\.\d+\.\d+\n", version.stdout)
    ended = magicalane("--help", cwd=tmp_path)
    assert ended.returncode == 0
    for command in ("run", "check", "demo", "cert", "version"):
        assert command in ended.stdout


def test_the_search_order_without_c(tmp_path):
    """./magicalane.yaml, then $XDG_CONFIG_HOME/magicalane/config.yaml; each is told by its own mistake."""
    home = tmp_path / "xdg/magicalane"
    home.mkdir(parents=True)
    (home / "config.yaml").write_text("from_home: 1\n")
    (tmp_path / "magicalane.yaml").write_text("from_here: 1\n")
    assert "from_here" in magicalane("check", cwd=tmp_path).stderr
    (tmp_path / "magicalane.yaml").unlink()
    assert "from_home" in magicalane("check", cwd=tmp_path).stderr


def test_cert_makes_a_certificate_for_its_hosts(tmp_path):
    out = tmp_path / "new"
    ended = magicalane("cert", "--host", "proxy.example.com", "--host", "::1", "--out", out, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    certificate = x509.load_pem_x509_certificate((out / "cert.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["proxy.example.com"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["::1"]
    assert (out / "key.pem").stat().st_mode & 0o077 == 0, "the key is readable for others"


def test_cert_does_not_overwrite_a_key(tmp_path):
    magicalane("cert", "--host", "localhost", "--out", ".", cwd=tmp_path)
    key = (tmp_path / "key.pem").read_bytes()
    ended = magicalane("cert", "--host", "localhost", "--out", ".", cwd=tmp_path)
    assert ended.returncode != 0
    assert (tmp_path / "key.pem").read_bytes() == key


def test_a_key_that_does_not_fit_another_program_is_refused_before_it_listens(tmp_path):
    """`run` checks all that `check` does: with one bad frontend the good one is not started either."""
    bad = FRONT.split("\n", 1)[1].replace("front", "bad").replace("tcp:", "tls:")
    (tmp_path / "magicalane.yaml").write_text(FRONT + bad + "    tls: {certificate: nowhere, key: nowhere}\n")
    ended = magicalane("run", "-c", "magicalane.yaml", cwd=tmp_path)
    assert ended.returncode == 2
    assert "listens on" not in ended.stderr
