"""Measurements whose tables stand in docs/, and scripts that make them again.

serving    the server beside its peers, in turns; metering: what metrics cost
export     one generator, run in several ways; reproducible: the same bits in any process
gpu        what runtime and server make of a GPU
training   families, stability, nats, presets, stacked_mnist, cifar
shared     processes, the timing loop, turns and ratios, servers, graphs, reports
peers      other people's servers, each in an environment of its own
"""

import os

# All that is measured is on this machine, wherever the environment's proxies lead.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"
