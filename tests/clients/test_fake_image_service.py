"""The fake service of the client's tests keeps the contract that it stands in for."""

import numpy as np

from tests.fakes.image_service import drawn


def test_the_fake_draws_an_image_from_seed_and_index_alone() -> None:
    np.testing.assert_array_equal(drawn(7, 2, 3)[1], drawn(10, 0, 1)[0])
