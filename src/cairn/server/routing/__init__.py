"""routing: model names as routes. Who answers, who is asked next when one fails, and what is known of each.

`config` and `lines` read the file, `choice`, `breaker`, `targets`, `difficulty` and `plan` decide, `table`
holds what is in force, `provider` does what was decided, `models` puts routes before the server's models.
"""
