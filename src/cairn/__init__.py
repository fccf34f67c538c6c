"""Cairn: the whole generative-AI stack in one package, from raw text to a watched model.

The rooms below import in one direction only (see docs/architecture.md). Importing
`cairn` itself loads nothing heavy; each room loads what it needs when it is used.
"""

__version__ = "0.1.0"
