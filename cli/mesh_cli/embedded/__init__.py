"""Real etcd, Postgres, Redis and S3 for one machine: from wheels or PATH, gone when their parent is gone."""

from mesh_cli.embedded.errors import ServerFailed, StateInUse
from mesh_cli.embedded.etcd import EmbeddedEtcd
from mesh_cli.embedded.ports import free_port
from mesh_cli.embedded.postgres import EmbeddedPostgres
from mesh_cli.embedded.redis import EmbeddedRedis
from mesh_cli.embedded.seaweed import EmbeddedS3
from mesh_cli.embedded.server import EmbeddedServer

__all__ = [
    "EmbeddedEtcd",
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "EmbeddedS3",
    "EmbeddedServer",
    "ServerFailed",
    "StateInUse",
    "free_port",
]
