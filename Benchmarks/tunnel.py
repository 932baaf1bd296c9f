"""A tunnel of two magicalanes across an emulated link: the client at its left end, the server at its right."""

import os
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path

BINARY = Path(os.environ.get("MAGICALANE", Path(__file__).resolve().parents[1] / ".build/release/magicalane"))

SERVER = """
log: {{level: {level}}}
frontends:
  - name: edge
    type: http
    listen: "{transport}://{address}:4433"
    tls: {{certificate: cert.pem, key: key.pem}}
    users: [{{name: bench, password: bench}}]
    allow_local_targets: true{keys}
"""
CLIENT = """
log: {{level: {level}}}
frontends:
  - {{name: socks, type: socks5, listen: "tcp://127.0.0.1:1080", transport: far}}
transports:
  - name: far
    type: {transport}
    server: {address}:4433
    user: bench
    password: bench
    tls: {{pin_sha256: "{pin}"}}{keys}
"""


class Tunnel:
    """Both programs; a context manager. `keys` are set on the frontend and on the transport alike."""

    def __init__(self, link, transport="quic", level="warning", **keys):
        self.link = link
        self._directory = tempfile.TemporaryDirectory(prefix="magicalane-bench-")
        self._processes = []
        folder = Path(self._directory.name)
        made = subprocess.run(
            [BINARY, "cert", "--host", link.right.address, "--out", folder],
            check=True, capture_output=True, text=True,
        )
        words = {
            "transport": transport,
            "level": level,
            "address": link.right.address,
            "pin": re.search(r'pin_sha256: "?([^"\s}]+)', made.stdout + made.stderr)[1],
            "keys": "".join(f"\n    {name}: {value}" for name, value in keys.items()),
        }
        self.logs = [folder / "server.log", folder / "client.log"]
        try:
            self._start(link.right, folder / "server.yaml", SERVER.format(**words), self.logs[0])
            self._start(link.left, folder / "client.yaml", CLIENT.format(**words), self.logs[1])
        except BaseException:
            self.close()
            raise

    def _start(self, end, config, text, log):
        config.write_text(text)
        with open(log, "wb") as output:
            command = [*end.prefix, BINARY, "run", "-c", config]
            process = subprocess.Popen(
                command, cwd=config.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._processes.append(process)
        deadline = time.monotonic() + 20
        while b" listens on " not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{config.name}: does not listen:\n{log.read_text()}")
            time.sleep(0.02)

    def open(self, target, timeout=60):
        """A socket to the target, through the SOCKS5 frontend (RFC 1928)."""
        stream = self.link.left.connect(("127.0.0.1", 1080), timeout)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host, port = target
        stream.sendall(b"\x05\x01\x00")
        receive(stream, 2)
        stream.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(host) + port.to_bytes(2, "big"))
        reply = receive(stream, 10)
        if reply[1] != 0:
            stream.close()
            raise ConnectionError(f"SOCKS5 reply {reply[1]}")
        return stream

    def cpu_seconds(self):
        """Processor time of server and client so far."""
        tick = os.sysconf("SC_CLK_TCK")
        stats = [Path(f"/proc/{process.pid}/stat").read_text() for process in self._processes]
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        return [(int(field[11]) + int(field[12])) / tick for field in fields]

    def close(self):
        for process in self._processes:
            process.kill()
            process.wait()
        self._directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def receive(stream, count):
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise ConnectionError("the stream ended early")
        data += more
    return data
