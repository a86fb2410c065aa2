"""Credentials at rest: sealed with a data key per tenant, which a master key wraps."""

from mesh_core.sealing.data_keys import KeyStore, PostgresDataKeys, WrappedKey
from mesh_core.sealing.master_keys import Openness, WrongMasterKey, check_master_keys, openness
from mesh_core.sealing.sealer import CannotUnseal, KeyNotLoaded, Sealer, master_key_id

__all__ = [
    "CannotUnseal",
    "KeyNotLoaded",
    "KeyStore",
    "Openness",
    "PostgresDataKeys",
    "Sealer",
    "WrappedKey",
    "WrongMasterKey",
    "check_master_keys",
    "master_key_id",
    "openness",
]
