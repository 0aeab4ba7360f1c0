"""The commands `wavslm-run` and `wavslm`. A module here that has `register(app)` adds verbs to the latter."""
