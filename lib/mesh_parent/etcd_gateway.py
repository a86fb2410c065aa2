"""The calls a watchdog makes to etcd, through the JSON gateway that each member serves."""

from __future__ import annotations

import binascii
import json
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from ssl import SSLContext
    from typing import Any

ATTEMPT_SECONDS = 1.0
"""How long a connection, and each answer, may take."""


class Gateway:
    """The JSON gateway of one etcd member. What fails raises OSError, ValueError or LookupError.

    Over plain sockets: `http.client` would double what this process takes, and the time that a record takes.
    """

    def __init__(self, endpoint: str, hello: Mapping[str, Any]) -> None:
        """`endpoint` is host:port or unix:/path; `hello` has the child's user, password and TLS files, "" for
        none.
        """
        self._endpoint = endpoint
        self._host = "localhost" if endpoint.startswith("unix:") else endpoint
        self._tls = _tls(hello)
        self._token = ""
        if hello["username"]:
            login = {"name": hello["username"], "password": hello["password"]}
            self._token = self._call("/v3/auth/authenticate", login)["token"]

    def put(self, key: str, value: str, ttl: int) -> None:
        """Write a key that vanishes after `ttl` seconds."""
        granted = self._call("/v3/lease/grant", {"TTL": ttl})
        self._call("/v3/kv/put", {"key": _base64(key), "value": _base64(value), "lease": granted["ID"]})

    def revoke(self, lease: int) -> None:
        """Revoke a lease, which may be gone already."""
        self._call("/v3/lease/revoke", {"ID": str(lease)}, may_be_missing=True)

    def any_under(self, prefix: str) -> bool:
        """Whether a key begins with `prefix`, which is not empty."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        asked = {"key": _base64(prefix), "range_end": _base64(end), "count_only": True}
        return int(self._call("/v3/kv/range", asked).get("count", 0)) > 0

    def _call(self, path: str, body: dict[str, Any], *, may_be_missing: bool = False) -> dict[str, Any]:
        content = json.dumps(body)
        # HTTP/1.0: the answer comes whole, and ends with the connection.
        head = f"POST {path} HTTP/1.0\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        if self._token:
            head += f"Authorization: {self._token}\r\n"
        request = f"{head}Content-Length: {len(content)}\r\n\r\n{content}".encode()
        connection = self._connect()
        with connection:
            connection.sendall(request)
            answer = b""
            while received := connection.recv(65536):
                answer += received
        status_line, _, _ = answer.partition(b"\r\n")
        _, _, answered = answer.partition(b"\r\n\r\n")
        status = int(status_line.split()[1])
        if status != 200 and not (status == 404 and may_be_missing):
            raise ValueError(f"{path} answered {status}: {answered[:200].decode(errors='replace')}")
        decoded: dict[str, Any] = json.loads(answered)
        return decoded

    def _connect(self) -> socket.socket:
        if self._endpoint.startswith("unix:"):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(ATTEMPT_SECONDS)
            connection.connect(self._endpoint.removeprefix("unix:"))
            return connection
        host, _, port = self._endpoint.rpartition(":")
        host = host.strip("[]")
        connection = socket.create_connection((host, int(port)), ATTEMPT_SECONDS)
        return connection if self._tls is None else self._tls.wrap_socket(connection, server_hostname=host)


def _tls(hello: Mapping[str, Any]) -> SSLContext | None:
    if not hello["ca"]:
        return None
    import ssl  # 4 MB that most have no use for

    context = ssl.create_default_context(cafile=hello["ca"])
    if hello["certificate"]:
        context.load_cert_chain(hello["certificate"], hello["key"])
    return context


def _base64(text: str) -> str:
    return binascii.b2a_base64(text.encode(), newline=False).decode()
