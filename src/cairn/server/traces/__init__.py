"""Traces of the server: how requests and answers become spans, and the stored ones over HTTP."""
