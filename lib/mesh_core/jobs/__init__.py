"""Long jobs as resources of the API, for every service: rows of table `job`, and what clients see of them.

A service that has a kind of job inserts its rows, does the work, and changes state and progress with it. Any
process can read, list and cancel jobs; the router serves JobService for all kinds.
"""

from mesh_core.jobs.resource import Progress, job_message

__all__ = ["Progress", "job_message"]
