"""One file a revision, numbered; see the package above."""
