"""Figment's server beside its peers, on one machine, in turns: `python -m benchmarks.serving`."""

import os

# All that is measured is on this machine, wherever the environment's proxies lead.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"
