"""A place where the services of a deployment run as processes, each as if in a container of its own.

Each has a network namespace with an address, in which every other service is found by its name, and a mount
namespace with its volumes where the deployment has them. There is no image: the programs are this machine's.
Needs root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh_cli.embedded.postgres import PROGRAM as POSTGRES
from mesh_cli.embedded.redis import PROGRAM as VALKEY
from tests.deploy.deployment import Mount, Service
from tests.faults.fleet.namespaces import namespaces_work
from tests.support.tools import missing_tool, require_tool, tools_folder

WITHOUT_IMAGE = Path(__file__).with_name("entrypoints")
"""What the images of other people do before their command."""
MESH_USER = 10001
"""As in the image."""
IMAGE_FOLDERS = ("/var/spool/sessionmesh", "/var/lib/sessionmesh")
"""Its own folders, whose owner a new volume takes over."""
HIDDEN = ("/run", "/opt", "/var/lib", "/var/spool", str(Path.home()))
"""Folders of this machine that the services see nothing of."""
SEEN = (Path(sys.base_prefix), Path(sys.prefix), tools_folder())
"""Of these, what their programs are made of, which any user may then reach."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one service runs: its namespace and address."""

    namespace: str
    address: str


class Site:
    """The network of a deployment, under a bridge of this machine."""

    def __init__(self, folder: Path, programs: Path, prefixes: Mapping[str, Path]) -> None:
        """`programs` is a folder of other people's; `prefixes` are folders that stand in /opt, by name."""
        self._folder = folder
        self._prefixes = {**prefixes, "programs": programs}
        self._tag = secrets.token_hex(2)
        self._net = f"10.{150 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
        self._bridge = f"meshd{self._tag}"
        self._places: dict[str, Place] = {}

    def open(self, names: list[str]) -> None:
        """A place for each name."""
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self._net}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for number, name in enumerate(names, 10):
            place = Place(f"mesh-{self._tag}-{number}", f"{self._net}.{number}")
            self._places[name] = place
            link = f"md{self._tag}n{number}"
            _ip("netns", "add", place.namespace)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", place.namespace)
            _ip("link", "set", link, "master", self._bridge, "up")
            _ip("-n", place.namespace, "addr", "add", f"{place.address}/24", "dev", "eth0")
            _ip("-n", place.namespace, "link", "set", "lo", "up")
            _ip("-n", place.namespace, "link", "set", "eth0", "up")
        lines = [f"{place.address} {name}" for name, place in self._places.items()]
        (self._folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))

    def close(self) -> None:
        """Take everything away again."""
        for place in self._places.values():
            _ip("netns", "del", place.namespace)  # with it go both ends of its link
        _ip("link", "del", self._bridge)

    def address(self, name: str) -> str:
        """Where this machine reaches a service."""
        return self._places[name].address

    def install(self, name: str, prefix: Path) -> None:
        """Have what is started from now on see `prefix` as /opt/`name`."""
        self._prefixes[name] = prefix

    def command(self, service: Service, words: list[str]) -> list[str]:
        """What starts `words` as the service."""
        place = self._places[service.name]
        return [
            "nsenter",
            f"--net=/run/netns/{place.namespace}",
            "unshare",
            "--mount",
            "sh",
            "-ec",
            self._script(service, words),
        ]

    def beside(self, service: Service, pid: int, words: list[str]) -> list[str]:
        """What starts `words` beside the service's process, as a health check is."""
        return ["nsenter", f"--target={pid}", "--net", "--mount", *self._as_user(service, words)]

    def volume(self, name: str, *, owner: int = 0) -> Path:
        """The folder of a volume; a new one belongs to `owner`."""
        place = self._folder / "volumes" / name
        if not place.exists():
            place.mkdir(parents=True)
            os.chown(place, owner, owner)
        return place

    def _script(self, service: Service, words: list[str]) -> str:
        mounts = [(self._source(service, mount), mount.target, mount.read_only) for mount in service.mounts]
        mounts += [(prefix, f"/opt/{name}", True) for name, prefix in self._prefixes.items()]
        mounts += [(place, str(place), True) for place in SEEN if place.is_relative_to(Path.home())]
        lines = [f"mount --bind {self._folder}/hosts /etc/hosts"]
        # What is under a folder that is about to be hidden is reached through another name.
        lines += ["mount -t tmpfs tmpfs /mnt"]
        lines += [
            f"mkdir /mnt/{number}; mount --bind {source} /mnt/{number}"
            for number, (source, _, _) in enumerate(mounts)
        ]
        lines += [f"mount -t tmpfs -o mode=755 tmpfs {hidden}" for hidden in HIDDEN]
        for number, (_, target, read_only) in enumerate(mounts):
            lines += [
                f"mkdir -p {target}; mount --bind {'-o ro' if read_only else ''} /mnt/{number} {target}"
            ]
        lines += ["mount -t tmpfs -o mode=1777 tmpfs /tmp", "cd /tmp"]
        if service.read_only:
            lines += ["mount -o remount,bind,ro /", *(f"mount -o remount,ro {hidden}" for hidden in HIDDEN)]
        return "\n".join([*lines, "exec " + " ".join(map(_quoted, self._as_user(service, words)))])

    def _as_user(self, service: Service, words: list[str]) -> list[str]:
        path = "/opt/sessionmesh/bin:/opt/programs:/usr/bin:/bin"
        environment = {"PATH": path, "HOME": "/tmp", "LANG": "C.UTF-8", **service.environment}
        user = MESH_USER if service.is_mesh and not service.user else 0
        dropped = ("--bounding-set=-all", "--inh-caps=-all") if service.is_mesh else ()
        return [
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--clear-groups",
            *dropped,
            *(("--no-new-privs",) if service.is_mesh else ()),
            "--pdeathsig=KILL",
            "env",
            "-i",
            *(f"{name}={value}" for name, value in environment.items()),
            *words,
        ]

    def _source(self, service: Service, mount: Mount) -> Path:
        return self.volume(mount.source, owner=MESH_USER if mount.target in IMAGE_FOLDERS else 0)


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"


def require_namespaces(untested: str) -> None:
    """A test that can make no namespaces is skipped, or fails when CI=true; it says what is `untested`."""
    if os.geteuid() != 0 or not namespaces_work():
        missing_tool(f"no namespaces can be made here. NOT TESTED: {untested.upper()}")


def programs_of_servers() -> dict[str, Path]:
    """The servers' programs on this machine, by the names that their images have them under."""
    scripts = Path(sys.executable).parent
    return {
        "etcd": require_tool("etcd"),
        "etcdctl": scripts / "etcdctl",
        "weed": scripts / "weed",
        "valkey-server": VALKEY.path(),
        "valkey-cli": WITHOUT_IMAGE / "valkey-cli",
        **{name: POSTGRES.path().with_name(name) for name in ("postgres", "initdb", "pg_isready")},
    }


def link_programs(folder: Path, programs: Mapping[str, Path]) -> Path:
    """A folder with these programs under these names."""
    folder.mkdir()
    for name, place in programs.items():
        (folder / name).symlink_to(place)
    return folder


def copy_of(prefix: Path, place: Path) -> Path:
    """The same installation again, whose files are shared until they are replaced."""
    shutil.copytree(prefix, place, symlinks=True, copy_function=os.link)
    return place
