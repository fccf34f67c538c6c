"""Requests to this server from within: what batches and gRPC ask passes the very routes that HTTP's pass."""

from cairn.server.within.calling import Answer, Asked, answered, call

__all__ = ["Answer", "Asked", "answered", "call"]
