"""Who did what: calls that change something that lives on, or try to, are noted where they enter the mesh."""

from mesh_core.rpc.audit.calls import AuditedCall, AuditRecord
from mesh_core.rpc.audit.log import AuditLog

__all__ = ["AuditLog", "AuditRecord", "AuditedCall"]
