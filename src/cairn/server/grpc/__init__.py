"""gRPC: a second way in to the same routes. `api.proto` says what there is; the rest is made from it or thin.

A call becomes the HTTP request it stands for and passes the application from its edge on, without a socket:
identity, limits, budgets, routing, receipts and usage are therefore those of HTTP and not their like.
`python -m cairn.server.grpc.generate` makes `api_pb2*` anew. Imported only where gRPC is asked for.
"""
