"""A tunnel of our own across an emulated link, with a load at its left end and the load's target at its right."""

import http.client
import json
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "link"))

from link import Link  # noqa: E402
from loadtool import Target  # noqa: E402
from peers import NAME, PASSWORD, Contender, MAGICALANE, Place  # noqa: E402
from running import TIMEOUT, Running  # noqa: E402

LEFT, RIGHT = "10.99.0.1", "10.99.0.2"
MEMBERS = {"quic": "far-quic", "tls": "far-tls"}
ADAPTIVE = "far"


class Tunnel(Contender):
    """Both programs. `through` is `adaptive`, `quic` or `tls`; the server listens on both but for `refuses_udp`."""

    def __init__(self, through, keys=(), refuses_udp=False, binary=MAGICALANE):
        super().__init__(through, f"magicalane {through}")
        self.binary = Path(binary)
        self.keys, self.refuses_udp = list(keys), refuses_udp

    def start(self, place):
        listeners = [scheme for scheme in MEMBERS if scheme != "quic" or not self.refuses_udp]
        fronts = "".join(f"""  - name: {scheme}
    type: http
    listen: {scheme}://{place.server}
    tls: {{certificate: "{place.certificate.file}", key: "{place.certificate.key}"}}
    users: [{{name: {NAME}, password: {PASSWORD}}}]
    allow_local_targets: true
""" for scheme in listeners)
        self.server_program = place.run_server(
            [self.binary, "run", "-c", place.write("server.yaml", f"log: {{level: warning}}\nfrontends:\n{fronts}")]
        )
        self.client_config = place.write("client.yaml", self.client(place))
        return [self.server_program, self.start_client(place)]

    def start_client(self, place):
        return place.run_client([self.binary, "run", "-c", self.client_config])

    def client(self, place):
        transports = "".join(f"""  - name: {name}
    type: {type}
    server: {place.server}
    user: {NAME}
    password: {PASSWORD}
    tls: {{pin_sha256: "{place.certificate.pin}"}}
""" for type, name in MEMBERS.items())
        if self.path == "adaptive":
            keys = "".join(f", {key}" for key in self.keys)
            members = ", ".join(MEMBERS.values())
            transports += f"  - {{name: {ADAPTIVE}, type: adaptive, members: [{members}]{keys}}}\n"
        return f"""log: {{level: warning}}
admin: {{listen: "unix:{place.folder}/admin"}}
frontends:
  - name: socks
    type: socks5
    listen: "tcp://{place.client_host}:{place.entry_port}"
    transport: {MEMBERS.get(self.path, ADAPTIVE)}
transports:
{transports}"""


class Crossing:
    """A link, a target beyond it, and a tunnel that is up and answers; a context manager."""

    def __init__(self, tunnel, folder, certificate, rules, congestion=None):
        self.tunnel, self.folder = tunnel, Path(folder)
        self.link = Link(**rules)
        self._open = [self.link]
        try:
            if congestion:
                self.link.use_congestion_control(congestion)
            self.target = Target(RIGHT, self.link.right.prefix)
            self._open.append(self.target)
            prefixes = self.link.left.prefix, self.link.right.prefix
            self.place = Place(self.folder, self.target.address, certificate, ("127.0.0.1", RIGHT), prefixes)
            self.running = Running(tunnel, self.place)
            self._open.append(self.running)
        except BaseException:
            self.close()
            raise

    def echo(self, seconds, streams):
        """Round trips in milliseconds, of sessions that are opened for it."""
        result = self.running.entry.run("echo", seconds=seconds, timeout=TIMEOUT, streams=streams, each=1)
        return result["each_ms"]

    def download(self, seconds):
        """Bytes of one session that is opened for it, seconds, and processor time of both programs."""
        before = self.running.cpu_seconds()
        result = self.running.entry.run("download", seconds=seconds, timeout=TIMEOUT)
        # What was on its way when the load ended is worked off, and counted.
        time.sleep(0.3)
        return result["bytes"], result["seconds"], self.running.cpu_seconds() - before

    def chosen(self):
        """The type of the member that new sessions take."""
        if self.tunnel.path != "adaptive":
            return self.tunnel.path
        paths = ask(self.folder / "admin", f"/v1/transports/{ADAPTIVE}/paths")["paths"]
        return next(path["type"] for path in paths if path["chosen"])

    def switches(self):
        decisions = ask(self.folder / "admin", f"/v1/transports/{ADAPTIVE}/decisions")["decisions"]
        return [one for one in decisions if one.get("previous") not in (None, one["chosen"])]

    def close(self):
        for part in reversed(self._open):
            part.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def ask(path, target):
    """What the admin API on a Unix socket answers to a GET."""
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"GET {target}: {response.status} {body[:200]}")
    return json.loads(body)


def share(values, part):
    """The value that this part of all does not exceed; None where there is none."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)] if values else None
