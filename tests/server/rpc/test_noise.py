"""The server's fast noise is the noise of the definition, and the definition is frozen by committed vectors."""

import numpy as np
import pytest

from export.golden import noise_of
from server.rpc.noise import Sampler, draw_seed, truncate

GOLDEN = {
    (0, 0): [0.059911035001277924, 0.015559634193778038, -1.1644384860992432, -0.13264712691307068, 3],
    (7, 0): [-0.2933390140533447, 1.703830599784851, 1.5391918420791626, 0.6367538571357727, 3],
    (7, 1): [-0.08317036926746368, 0.17730405926704407, -1.6196136474609375, -1.0896103382110596, 9],
    (18446744073709551615, 18446744073709551615): [
        -0.24586044251918793,
        -0.3795810639858246,
        -0.6708256006240845,
        -0.7068657279014587,
        9,
    ],
}


@pytest.mark.parametrize(("seed", "index"), GOLDEN)
def test_the_noise_of_a_seed_never_changes(seed: int, index: int):
    noise, labels = Sampler().sample(seed, index, 1, 4, 10)
    assert noise[0].tolist() == [np.float32(value) for value in GOLDEN[seed, index][:4]]
    assert labels[0] == GOLDEN[seed, index][4]


@pytest.mark.parametrize("seed", [0, 7, 2**53, 2**63 + 5, 2**64 - 1])
@pytest.mark.parametrize("first_index", [0, 5, 2**32, 2**63 - 1, 2**64 - 3])
@pytest.mark.parametrize("noise_dim", [1, 33])
def test_fast_noise_equals_the_definition(seed: int, first_index: int, noise_dim: int):
    noise, labels = Sampler().sample(seed, first_index, 3, noise_dim, 10)
    for row in range(3):
        expected, label = noise_of(seed, first_index + row, noise_dim, 10)
        assert noise[row].tobytes() == expected.tobytes()
        assert labels[row] == label


def test_noise_does_not_depend_on_whether_labels_are_drawn():
    with_labels, _ = Sampler().sample(3, 0, 5, 8, 10)
    without, labels = Sampler().sample(3, 0, 5, 8, 0)
    assert np.array_equal(with_labels, without)
    assert len(labels) == 0


def test_truncation_scales_the_latent_and_leaves_the_component():
    noise, _ = Sampler().sample(3, 0, 4, 9, 0)
    truncated = noise.copy()
    truncate(truncated, truncated_dim=8, truncation=0.5)
    assert np.array_equal(truncated[:, :8], noise[:, :8] * np.float32(0.5))
    assert np.array_equal(truncated[:, 8], noise[:, 8])


def test_seeds_that_the_server_draws_fit_into_javascript_numbers():
    assert all(0 <= draw_seed() < 2**53 for _ in range(1000))
