"""When the requests of an open loop arrive, and how many images each asks for.

    images a second, seconds -> [(moment, images), ...]

Poisson arrivals: callers that know nothing of each other nor of how busy the server is. The same schedule for every
server; knows nothing of servers.
"""

import numpy as np

MIX = {1: 0.60, 4: 0.25, 16: 0.15}
"""Images a request and how often."""

MEAN_IMAGES = sum(images * share for images, share in MIX.items())
SEED = 20260101


def schedule(images_per_s: float, seconds: float) -> list[tuple[float, int]]:
    """Arrivals within `seconds`, of `images_per_s` images a second on average: (seconds from the start, images)."""
    random = np.random.default_rng(SEED)
    requests_per_s = images_per_s / MEAN_IMAGES
    count = int(requests_per_s * seconds * 1.5) + 100
    moments = np.cumsum(random.exponential(1 / requests_per_s, count))
    sizes = random.choice(list(MIX), count, p=list(MIX.values()))
    return [(float(at), int(images)) for at, images in zip(moments, sizes, strict=True) if at < seconds]
