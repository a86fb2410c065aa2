"""TenantService: tenants and their API keys."""

from mesh_router.tenants.deletion import TenantDeletions
from mesh_router.tenants.forgetting import NodeMemories
from mesh_router.tenants.persons import PersonErasures
from mesh_router.tenants.service import TenantService

__all__ = ["NodeMemories", "PersonErasures", "TenantDeletions", "TenantService"]
