"""Client, near magicalane, far magicalane, target: the chain that the matrix and others run through.

A new plugin gets the whole matrix by one line in one of the three lists below.
"""

from bridge import Bridge
from clients import PROTOCOLS, open_through
from program import Programs

# type of the frontend
FRONTENDS = ["socks5", "http"]
# scheme of the listener: (wants `tls:`, bridge that leads a TCP client into it)
LISTENERS = {"tcp": (False, None), "tls": (True, "tls"), "quic": (True, "quic")}
# type of the transport: trusts a certificate
TRANSPORTS = {"tcp": False, "tls": True, "quic": True}

# `direct` connects to the target itself: there is no far magicalane.
CONNECTS = ["direct", *TRANSPORTS]

FRONT_USER = ("bob", "a secret: with a colon")
TUNNEL_USER = ("alice", "another")


def users(user):
    return [{"name": user[0], "password": user[1]}]


def exit_frontend(transport, certificates, **more):
    """The frontend of a far magicalane that a tunnel of this type leads to."""
    entry = {
        "name": "exit",
        "type": "http",
        "listen": f"{transport}://127.0.0.1:0",
        "users": users(TUNNEL_USER),
        **more,
    }
    if LISTENERS[transport][0]:
        entry["tls"] = certificates.server
    return entry


def tunnel(transport, address, certificates, user=TUNNEL_USER, **more):
    """The transport that leads to a far magicalane."""
    entry = {
        "name": "tunnel",
        "type": transport,
        "server": f"{address.host}:{address.port}",
        "user": user[0],
        "password": user[1],
        **more,
    }
    if TRANSPORTS[transport] and "tls" not in more:
        entry["tls"] = certificates.trust
    return entry


class Chain:
    """The programs of one cell: this frontend, on this listener, through this transport."""

    def __init__(
        self, directory, certificates, frontend="socks5", listener="tcp", connect="direct", limits=None
    ):
        self.certificates = certificates
        self.protocol, self.listener, self.connect = PROTOCOLS[frontend], listener, connect
        self.programs = Programs(directory)
        self.bridges = []
        self.far = None
        try:
            self._start(frontend, limits or {})
        except BaseException:
            self.close()
            raise

    def _start(self, frontend, limits):
        wants_tls, way_in = LISTENERS[self.listener]
        front = {
            "name": "front",
            "type": frontend,
            "listen": f"{self.listener}://127.0.0.1:0",
            "users": users(FRONT_USER),
        }
        if wants_tls:
            front["tls"] = self.certificates.server
        config = {"frontends": [front], "limits": limits}
        if self.connect != "direct":
            far = {"frontends": [exit_frontend(self.connect, self.certificates)], "limits": limits}
            self.far = self.programs.run(far)
            config["transports"] = [tunnel(self.connect, self.far.address("exit"), self.certificates)]
            front["transport"] = "tunnel"
        self.near = self.programs.run(config)
        self.proxy = self.bridged(way_in, self.near.address("front").pair)

    def bridged(self, way_in, pair):
        if way_in is None:
            return pair
        self.bridges.append(Bridge(way_in, pair, self.certificates.ca))
        return self.bridges[-1].pair

    def open(self, host, port, credentials=FRONT_USER, **options):
        """A stream to the target through the whole chain."""
        return open_through(self.protocol, self.proxy, host, port, credentials, **options)

    def close(self):
        for bridge in self.bridges:
            bridge.close()
        self.programs.stop()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()
