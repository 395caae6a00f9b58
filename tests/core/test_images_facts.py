"""Images: what they say of where they come from, through every way of choosing, copying and changing them."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from figment.images import Images, Timing

COUNT = 6
TIMING = Timing(0.1, 0.2, 0.3, 64)


def drawn(**facts: Any) -> Images:
    """Six images of seed 7 from index 10 on; image i is grey 10 + i and has label i."""
    pixels = np.tile(np.arange(10, 10 + COUNT, dtype=np.uint8)[:, None, None, None], (1, 4, 3, 1))
    given = {"seed": 7, "first_index": 10, "labels": list(range(COUNT)), "model": "digits", "version": "3"}
    return Images(pixels, **{**given, "engine": "ab12", "timing": TIMING, **facts})


def assert_knows_itself(images: Any) -> None:
    """Each image's index is its grey, its label is the same less ten, and the reply's facts are there."""
    assert type(images) is Images
    greys = np.asarray(images).reshape(-1, 4, 3, 1)[:, 0, 0, 0].tolist()
    assert images.indices == greys
    assert images.labels == [grey - 10 for grey in greys]
    assert images.first_index == (greys[0] if greys else 0)
    assert (images.seed, images.model, images.version, images.engine) == (7, "digits", "3", "ab12")
    assert images.timing == TIMING


KEYS = [
    3,
    -1,
    np.int64(2),
    slice(2, 5),
    slice(None, None, -2),
    slice(-2, None),
    slice(4, 4),
    slice(None),
    Ellipsis,
    (slice(1, 3), slice(None), Ellipsis),
    (slice(1, 3), Ellipsis, slice(None)),
    (Ellipsis, slice(None)),
    [4, 1, 1],
    np.array([5, 0], np.uint8),
    np.array([True, False, True, False, False, True]),
    [False] * 5 + [True],
    (np.array([2, 3]),),
    (2, slice(None)),
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_every_way_of_choosing_images_keeps_what_they_are(key: Any) -> None:
    chosen = drawn()[key]
    np.testing.assert_array_equal(np.asarray(chosen), np.asarray(drawn())[key])
    assert_knows_itself(chosen)


def test_choices_can_be_chosen_from_again() -> None:
    assert_knows_itself(drawn()[1:][::2][[True, False, True]][-1])


def test_images_are_known_one_by_one() -> None:
    for number, picture in enumerate(drawn()):
        assert picture.shape == (4, 3, 1)
        assert (picture.indices, picture.labels, picture.seed) == ([10 + number], [number], 7)


def test_one_picture_is_a_batch_again_with_a_new_axis(tmp_path: Path) -> None:
    picture = drawn()[4]
    assert_knows_itself(picture[np.newaxis])
    assert_knows_itself(picture[None, ...])
    assert picture[np.newaxis].shape == (1, 4, 3, 1)
    assert [file.name for file in picture.save(tmp_path / "one").iterdir()] == ["7-000014.png"]
    assert picture.grid().size == drawn()[4:5].grid().size


def test_a_chosen_part_is_saved_under_its_own_indices(tmp_path: Path) -> None:
    folder = drawn()[[4, 1]].save(tmp_path / "part")
    assert sorted(file.name for file in folder.iterdir()) == ["7-000011.png", "7-000014.png"]


@pytest.mark.parametrize("reader", [copy.copy, copy.deepcopy, Images.copy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("part", [slice(None), slice(None, None, -2), 3])
def test_copies_and_pickles_keep_what_they_are(reader: Any, part: Any) -> None:
    again = reader(drawn()[part])
    np.testing.assert_array_equal(again, drawn()[part])
    assert_knows_itself(again)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle_keeps_the_facts(protocol: int) -> None:
    assert_knows_itself(pickle.loads(pickle.dumps(drawn()[2:4], protocol)))


OTHERS = [
    lambda images: images[:, 1:3],
    lambda images: images[:, ::-1],
    lambda images: images[..., 0],
    lambda images: images[2, 1],
    lambda images: images[np.newaxis],
    lambda images: images[:, np.newaxis],
    lambda images: images[[[0, 1], [2, 3]]],
    lambda images: images[3][::-1],
    lambda images: images[3][:, :2],
    lambda images: images.reshape(3, 2, 4, 3, 1),
    lambda images: images.transpose(0, 2, 1, 3),
    lambda images: images[True],
    lambda images: images[np.asarray(images) > 12],
]


@pytest.mark.parametrize("make", OTHERS)
def test_other_pictures_claim_nothing(make: Any) -> None:
    made = make(drawn())
    assert (made.seed, made.indices, made.labels, made.first_index) == (None, [], [], 0)
    assert (made.model, made.version, made.engine, made.timing) == ("", "", "", None)


@pytest.mark.parametrize(
    "compute",
    [
        lambda images: images + 1,
        lambda images: np.concatenate([images, images]),
        lambda images: 255 - images,
        lambda images: images == 12,
        lambda images: np.sqrt(images),
        lambda images: images.astype(float),
        lambda images: images.mean(axis=0),
        lambda images: np.divmod(images, 2)[1],
        lambda images: np.add.reduce(images, axis=0),
    ],
)
def test_arithmetic_gives_plain_arrays(compute: Any) -> None:
    made = compute(drawn())
    assert type(made) is np.ndarray
    np.testing.assert_array_equal(made, compute(np.asarray(drawn())))


def test_images_that_are_changed_in_place_claim_nothing() -> None:
    for change in (
        lambda images: images.__setitem__(0, 0),
        lambda images: images.__iadd__(1),
        lambda images: np.add(images, 1, out=images),
        lambda images: np.add.at(images, 0, 1),
    ):
        images, plain = drawn(), np.array(drawn())
        change(images)
        change(plain)
        np.testing.assert_array_equal(images, plain)
        assert (type(images), images.seed, images.indices, images.model) == (Images, None, [], "")


def test_images_without_a_seed_are_numbered_by_their_place(tmp_path: Path) -> None:
    decoded = drawn(seed=None, first_index=0)
    assert decoded[4:].indices == [4, 5]
    assert sorted(file.name for file in decoded[4:].save(tmp_path / "part").iterdir()) == ["000004.png", "000005.png"]


def test_indices_reach_to_the_end_of_uint64() -> None:
    assert drawn(first_index=2**64 - COUNT)[-2:].indices == [2**64 - 2, 2**64 - 1]


@pytest.mark.parametrize("facts", [{"labels": [1]}, {"indices": [1, 2]}])
def test_facts_of_other_images_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed are 6, one an image"):
        drawn(**facts)


def test_times_of_one_request_add_up() -> None:
    assert Timing(1, 2, 3, 16) + Timing(1, 1, 1, 64) == Timing(2, 3, 4, 16)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images.sort(axis=0),
        lambda images: images.partition(1, axis=0),
        lambda images: images.fill(0),
        lambda images: images.put([0], [7]),
        lambda images: np.put(images, [0], [7]),
    ],
    ids=["sort", "partition", "fill", "put", "numpy.put"],
)
def test_images_that_were_changed_in_place_are_nobodys(change: Any) -> None:
    images = drawn()
    assert images.seed is not None
    change(images)
    assert (images.seed, list(images.indices), images.engine) == (None, [], "")
    assert np.sort(drawn(), axis=0).seed is None
