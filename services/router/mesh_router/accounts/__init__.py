"""AccountService: the accounts that tenants want to have online."""

from mesh_router.accounts.service import AccountService

__all__ = ["AccountService"]
