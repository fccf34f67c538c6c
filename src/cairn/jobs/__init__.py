"""jobs: long work that outlives its process, as a queue in the same database.

A job has items, numbered from 0, and one result of each. Who works on a job holds it for some seconds and
says so again and again; what a process that was killed leaves behind, another takes over when these have
passed, and goes on with the items that have no result. So an item may be worked on twice, but its result is
one row, and what a job comes to is written in the transaction that ends it: exactly once.
Not covered: what the work is. Rooms above say that, and hand in the database.
"""

from cairn.jobs.queue import Job, JobState, Result, Sessions
from cairn.jobs.tables import JobRow, ResultRow

__all__ = ["Job", "JobRow", "JobState", "Result", "ResultRow", "Sessions"]
