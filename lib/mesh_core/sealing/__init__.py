"""Credentials at rest: sealed with a data key per tenant, which a master key wraps."""

from mesh_core.sealing.data_keys import KeyStore, PostgresDataKeys, WrappedKey
from mesh_core.sealing.sealer import CannotUnseal, KeyNotLoaded, Sealer, master_key_id

__all__ = [
    "CannotUnseal",
    "KeyNotLoaded",
    "KeyStore",
    "PostgresDataKeys",
    "Sealer",
    "WrappedKey",
    "master_key_id",
]
