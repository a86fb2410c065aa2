"""TenantService: tenants and their API keys."""

from mesh_router.tenants.service import TenantService

__all__ = ["TenantService"]
