"""Long jobs as resources of the API, for every service: rows of table `job`, and what clients see of them.

A service that has a kind of job inserts its rows, does the work (`Worker`, or `SteppedWorker` where it is
many like steps), and changes state and progress with it. Any process can read, list and cancel jobs; the
router serves JobService for all kinds.
"""

from mesh_core.jobs.resource import Progress, job_message
from mesh_core.jobs.steps import Step, SteppedWorker
from mesh_core.jobs.store import NewJob, Total
from mesh_core.jobs.worker import Worker

__all__ = ["NewJob", "Progress", "Step", "SteppedWorker", "Total", "Worker", "job_message"]
