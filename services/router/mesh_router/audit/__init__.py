"""Who did what, as callers see it."""

from mesh_router.audit.service import AuditService

__all__ = ["AuditService"]
