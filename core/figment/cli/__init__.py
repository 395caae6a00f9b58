"""The command `figment`, whose verbs other distributions bring."""
