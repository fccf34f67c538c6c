"""graph: what passages speak of, and which other passages speak of the same.

Each chunk has a row of the entities that its own text names; everything that takes more than one chunk (which
are names, which are one and the same, what goes together, which passages are near) is worked out over what
the asker may see, and over nothing else.
"""
