"""A client of etcd v3, over stubs generated from the part of its wire schema that we use.

etcd = Etcd.at("127.0.0.1:2379")
await etcd.put(b"/a", b"1")
async for change in follow(etcd, b"/a"):   # what is there, then every change, across outages and compactions
    ...
await etcd.close()
"""

from mesh_core.etcd.blocking import BlockingLeases
from mesh_core.etcd.client import Etcd
from mesh_core.etcd.errors import Compacted, EtcdRefused, EtcdUnavailable, HistoryLost, LeaseLost
from mesh_core.etcd.follow import Change, Snapshot, Update, follow
from mesh_core.etcd.lease import KeptLease
from mesh_core.etcd.member import LeaseBeat, boottime
from mesh_core.etcd.ops import absent, delete, get, nested, prefix_end, put, unchanged

__all__ = [
    "BlockingLeases",
    "Change",
    "Compacted",
    "Etcd",
    "EtcdRefused",
    "EtcdUnavailable",
    "HistoryLost",
    "KeptLease",
    "LeaseBeat",
    "LeaseLost",
    "Snapshot",
    "Update",
    "absent",
    "boottime",
    "delete",
    "follow",
    "get",
    "nested",
    "prefix_end",
    "put",
    "unchanged",
]
