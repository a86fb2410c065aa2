"""JobService: long jobs, which outlive the call and the process that started them."""

from mesh_router.jobs.service import JobService

__all__ = ["JobService"]
