"""Where nodes live, and how they are cut off from servers there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit, urlunsplit


class Server(Enum):
    """What a node can be cut off from."""

    ETCD = "etcd"
    POSTGRES = "postgres"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Host:
    """A place for one node: its address, what stands before its command, how it sees the servers."""

    address: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


class Site(ABC):
    """A place for nodes. `network` (host:port) is where the simulated network must listen."""

    network: str

    @abstractmethod
    async def open(self, etcd: str, postgres_url: str) -> None:
        """Lead to an etcd endpoint and a Postgres on loopback. Before any node is added."""

    @abstractmethod
    def add(self, name: str) -> Host:
        """A place for a node."""

    @abstractmethod
    def cut_off(self, name: str, *servers: Server) -> AbstractContextManager[None]:
        """Inside, not a byte passes between the node and `servers`, and neither is told."""

    @abstractmethod
    async def close(self) -> None:
        """Take everything away again."""


def at_address(url: str, address: str) -> str:
    """The same URL with another host:port."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@{address}"))
