"""One graph at its sizes: padding changes no byte, runs at the same time and one after the other do not meet."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from server.arrays import Arrays
from server.errors import DeviceMissing
from server.models.bundle import Bundle, read_bundle
from server.runtime.engines import Engines
from server.runtime.sessions import Device, Sessions, load
from server.settings import ServerSettings
from server.telemetry.metrics import Metrics

SIZES = (4, 16, 64)
ROWS = (1, 4, 3, 64, 5, 16, 17, 50)

Draw = Callable[[int], Arrays]


@pytest.fixture(scope="module", params=["vae", "labelled-gan"])
def bundle(models: Path, request: pytest.FixtureRequest) -> Bundle:
    return read_bundle(models / request.param / "1")


@pytest.fixture(scope="module")
def any_size(bundle: Bundle) -> Sessions:
    return generator(bundle, Device("cpu"))


@pytest.fixture(scope="module")
def padded(bundle: Bundle) -> Sessions:
    return generator(bundle, Device("cpu", sizes=SIZES))


@pytest.fixture
def inputs(bundle: Bundle) -> Draw:
    """Inputs of a number of rows, other ones for each number."""

    def draw(rows: int) -> Arrays:
        draws = np.random.default_rng(rows)
        noise = draws.standard_normal((rows, bundle.manifest.noise_dim), dtype=np.float32)
        return {"noise": noise, **({"label": draws.integers(10, size=rows)} if bundle.manifest.labels else {})}

    return draw


def generator(bundle: Bundle, device: Device) -> Sessions:
    return load("generator", bundle.graphs["generator"], bundle.manifest, device)


def images(sessions: Sessions, *pieces: Arrays) -> bytes:
    return sessions.run(pieces)[0]["images"].tobytes()


def test_sizes_that_take_turns_give_the_bytes_of_runs_without_padding(
    any_size: Sessions, padded: Sessions, inputs: Draw
):
    for rows in ROWS * 2:
        assert images(padded, inputs(rows)) == images(any_size, inputs(rows))


def test_padding_is_told(padded: Sessions, inputs: Draw):
    assert [padded.run([inputs(rows)])[1] for rows in ROWS] == [3, 0, 1, 0, 11, 0, 47, 14]


def test_pieces_are_joined_in_order(any_size: Sessions, padded: Sessions, inputs: Draw):
    expected = b"".join(images(any_size, inputs(rows)) for rows in (5, 1, 3))
    assert images(padded, inputs(5), inputs(1), inputs(3)) == expected
    assert images(any_size, inputs(5), inputs(1), inputs(3)) == expected


def test_threads_that_run_at_the_same_time_get_their_own_rows(any_size: Sessions, padded: Sessions, inputs: Draw):
    expected = {rows: images(any_size, inputs(rows)) for rows in ROWS}

    def run(rows: int) -> bool:
        return images(padded, inputs(rows)) == expected[rows]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, ROWS * 20))


def test_what_a_run_gave_is_not_overwritten_by_the_next(padded: Sessions, inputs: Draw):
    first = padded.run([inputs(16)])[0]["images"]
    kept = first.tobytes()
    padded.run([inputs(15)])
    padded.run([{name: array[::-1] for name, array in inputs(16).items()}])
    assert first.tobytes() == kept


def test_inputs_of_another_type_are_an_error_and_the_next_run_is_right(
    any_size: Sessions, padded: Sessions, inputs: Draw
):
    wrong = {name: array.astype(np.float64) for name, array in inputs(4).items()}
    with pytest.raises(TypeError, match="Cannot cast"):
        padded.run([wrong])
    assert images(padded, inputs(4)) == images(any_size, inputs(4))


def test_runs_that_one_thread_has_to_do_give_the_same(bundle: Bundle, any_size: Sessions, inputs: Draw):
    alone = generator(bundle, Device("cpu", sizes=SIZES, cuda_graphs=True))
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda rows: images(alone, inputs(rows)), ROWS))
    assert drawn == [images(any_size, inputs(rows)) for rows in ROWS]


def test_encoders_are_padded_too(models: Path):
    bundle = read_bundle(models / "vae" / "1")
    shown = {"images": bundle.golden.images[:13]}
    plain, padded = (
        load("encoder", bundle.graphs["encoder"], bundle.manifest, Device("cpu", sizes=sizes)) for sizes in ((), SIZES)
    )
    expected, (got, padding) = plain.run([shown])[0], padded.run([shown])
    assert padding == 3
    assert {name: array.tobytes() for name, array in got.items()} == {n: a.tobytes() for n, a in expected.items()}


async def test_cuda_graphs_on_a_cpu_are_a_loud_error():
    settings = ServerSettings.model_validate({"device": "cpu", "batch": {"cuda_graphs": True}})
    with pytest.raises(DeviceMissing, match=r"^batch\.cuda_graphs: was asked for, but the device is the CPU"):
        Engines(settings, Metrics())
