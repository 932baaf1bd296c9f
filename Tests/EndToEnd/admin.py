"""A client of the admin API, byte by byte where it matters; every answer is held against openapi.yaml."""

import contextlib
import http.client
import json
import queue
import random
import socket
import threading

from contract import CONTRACT
from program import eventually

TIMEOUT = 30
JSON, YAML, PATCH = "application/json", "application/yaml", "application/merge-patch+json"
NOTHING = {"added": [], "changed": [], "removed": []}


def free_port(kind=socket.SOCK_STREAM):
    """A port that no connection of a client is given meanwhile: below those that the kernel hands out."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Answer:
    """One response."""

    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def type(self):
        return (self.headers.get("Content-Type") or "").split(";")[0]

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def tag(self):
        return self.headers["ETag"]

    @property
    def problem(self):
        """The name of the problem that an error states."""
        return self.json["type"].removeprefix("urn:magicalane:problem:")

    @property
    def pointers(self):
        return [error.get("pointer") for error in self.json.get("errors", [])]

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:2000]}"


class Admin:
    """The admin API at an address: a pair, or the path of a Unix socket."""

    def __init__(self, where, token=None):
        self.where, self.token = where, token
        # All that it ever said, for those who look for secrets.
        self.said = []

    @property
    def address(self):
        """As the config writes it, and as the command line takes it."""
        return f"{self.where[0]}:{self.where[1]}" if isinstance(self.where, tuple) else f"unix:{self.where}"

    def connect(self, timeout=TIMEOUT):
        if isinstance(self.where, tuple):
            return socket.create_connection(self.where, timeout=timeout)
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(timeout)
        stream.connect(str(self.where))
        return stream

    def _connection(self):
        host = self.where[0] if isinstance(self.where, tuple) else "localhost"
        port = self.where[1] if isinstance(self.where, tuple) else 80
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        connection.sock = self.connect()
        return connection

    def request(self, method, target, body=None, type=None, **headers):
        """One request on a connection of its own. Header names are given with `_` for `-`."""
        fields = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        if self.token and "Authorization" not in fields:
            fields["Authorization"] = f"Bearer {self.token}"
        if not isinstance(body, (bytes, str, type_of_none)) and not hasattr(body, "__next__"):
            body, type = json.dumps(body), type or JSON
        if isinstance(body, str):
            body = body.encode()
        if type:
            fields["Content-Type"] = type
        connection = self._connection()
        try:
            connection.request(method, target, body, fields, encode_chunked=hasattr(body, "__next__"))
            response = connection.getresponse()
            answer = Answer(response, response.read())
        finally:
            connection.close()
        self.said.append((answer.headers.as_bytes(), answer.body))
        CONTRACT.check(method, target, answer)
        return answer

    def get(self, target, **headers):
        return self.request("GET", target, **headers)

    def put(self, target, body, type=None, tag=None, **headers):
        return self.request("PUT", target, body, type, If_Match=tag, **headers)

    def patch(self, target, body, type=PATCH, tag=None, **headers):
        return self.request(
            "PATCH",
            target,
            body if isinstance(body, str) else json.dumps(body),
            type,
            If_Match=tag,
            **headers,
        )

    def post(self, target, **headers):
        return self.request("POST", target, **headers)

    def delete(self, target, tag=None, **headers):
        return self.request("DELETE", target, If_Match=tag, **headers)

    # What tests often ask

    def config(self):
        """The config as JSON and its tag."""
        answer = self.get("/v1/config")
        assert answer.status == 200, answer
        return answer.json, answer.tag

    def change(self, edit, query=""):
        """Gets the config, lets `edit` change it, and puts it back; it must be taken."""
        config, tag = self.config()
        config = edit(config) or config
        answer = self.put(f"/v1/config{query}", config, tag=tag)
        assert answer.status == 200, answer
        return answer.json

    def entry(self, path):
        answer = self.get(path)
        assert answer.status == 200, answer
        return answer.json

    def status_of(self, path):
        return self.entry(path)["status"]

    def sessions(self, query=""):
        answer = self.get(f"/v1/sessions{query}")
        assert answer.status == 200, answer
        return answer.json["sessions"]

    def metrics(self):
        """The samples by name and labels, as they stand in the text."""
        text = self.get("/metrics").body.decode()
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def events(self, types=None, last=None):
        return Events(self, types, last)

    def raw(self, data, timeout=TIMEOUT):
        """Sends bytes as they are, and gives all that comes until the other end closes."""
        with self.connect(timeout) as stream:
            stream.sendall(data)
            return read_all(stream)


type_of_none = type(None)


def read_all(stream):
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := stream.recv(65536):
            data += more
    return data


class Events:
    """The stream of events: each a triple of id, name and data. A context manager."""

    def __init__(self, admin, types=None, last=None):
        fields = {"Accept": "text/event-stream"}
        if admin.token:
            fields["Authorization"] = f"Bearer {admin.token}"
        if last is not None:
            fields["Last-Event-ID"] = last
        self.connection = admin._connection()
        self.connection.request("GET", "/v1/events" + (f"?types={types}" if types else ""), headers=fields)
        self.socket = self.connection.sock
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        assert self.response.headers.get_content_type() == "text/event-stream"
        self.queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        fields = {}
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException, AttributeError):
            while line := self.response.readline():
                line = line.decode().rstrip("\n")
                if line.startswith(":"):
                    continue
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                else:
                    # The stream begins with a `retry:` that is no event.
                    if "event" in fields:
                        self.queue.put((fields.get("id"), fields["event"], json.loads(fields["data"])))
                    fields = {}
        self.queue.put(None)

    SCHEMAS = {
        "session.opened": "SessionEvent",
        "session.closed": "SessionEvent",
        "config.applied": "ConfigAppliedEvent",
        "config.refused": "ConfigRefusedEvent",
        "transport.up": "TransportEvent",
        "transport.down": "TransportEvent",
        "transport.decision": "DecisionEvent",
        "events.missed": "EventsMissedEvent",
    }

    def next(self, *names):
        """The next event, of these names where some are given; None at the stream's end."""
        while True:
            event = self.queue.get(timeout=TIMEOUT)
            if event is None:
                return None
            CONTRACT.check_value(self.SCHEMAS[event[1]], event[2])
            if not names or event[1] in names:
                return event

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def front(name="front", port=0, **more):
    return {"name": name, "type": "socks5", "listen": f"tcp://127.0.0.1:{port}", **more}


def administered(programs, config, token=None, **options):
    """A program with this config and an admin API; gives both."""
    where = ("127.0.0.1", free_port())
    admin = {"listen": f"{where[0]}:{where[1]}"}
    if token:
        admin["token"] = token
    if isinstance(config, str):
        config = f"admin: {json.dumps(admin)}\n{config}"
    else:
        config = {"admin": admin, **config}
    program = programs.run(config, **options)
    api = Admin(where, options.get("env", {}).get("ADMIN_TOKEN", token))
    eventually(lambda: answers(api), "the admin API answers")
    return program, api


def answers(api):
    try:
        return api.get("/healthz").status == 200
    except ConnectionRefusedError:
        return False
