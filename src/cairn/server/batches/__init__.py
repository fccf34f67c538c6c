"""batches: files of requests, answered when there is nothing more urgent, as OpenAI's API has them.

Every line is a request to this server, made by whoever made the batch and answered by the same route as any
other; its answer is kept the moment it is there (`cairn.jobs`). A server that is killed goes on where it was.
"""

from cairn.server.batches.routes import router

__all__ = ["router"]
