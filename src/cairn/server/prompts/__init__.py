"""prompts: texts to write from, saved under a name, with `{{variables}}` that are asked for when one is used.

A prompt is its maker's alone until somebody who may offers it to everyone; then all read it, and those who
may offer look after it together with its maker.
"""

from cairn.server.prompts.routes import router

__all__ = ["router"]
