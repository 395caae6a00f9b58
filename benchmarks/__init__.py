"""Measurements whose tables stand in docs/: `serving`, `export`, `gpu`, `training`, and the parts that they share."""

import os

# All that is measured is on this machine, wherever the environment's proxies lead.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"
