"""AccountService: what tenants want kept online."""

from mesh_router.accounts.service import AccountService

__all__ = ["AccountService"]
