"""TenantService: tenants and their API keys."""

from mesh_router.tenants.deletion import TenantDeletions
from mesh_router.tenants.service import TenantService

__all__ = ["TenantDeletions", "TenantService"]
