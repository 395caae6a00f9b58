"""Room for images: who is let in, what refusals say, and that all room is free again whatever ended it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import EngineFailed, Rejected, Unavailable
from server.scheduling.admission import Reservation
from tests.fakes.admission import admitting, fits, value


def test_images_are_admitted_up_to_the_limit_and_no_further():
    admission = admitting(4)
    with admission.reserve("a", 3):
        assert fits(admission, 1)
        assert not fits(admission, 2)
        with admission.reserve("b", 1):
            assert not fits(admission, 1)
            assert not fits(admission, 1, "b")
    assert fits(admission, 4)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again():
    admission = admitting(4)
    with admission.reserve("a", 3), pytest.raises(Rejected) as refused:
        admission.reserve("a", 2)
    assert str(refused.value) == "the queue is full: 3 of 4 images are admitted, 2 more do not fit"
    assert refused.value.retry_after_s > 0
    assert value(admission, "rejected_total", model="a", reason="queue_full") == 1


def test_a_model_that_has_all_its_room_leaves_the_others_theirs():
    admission = admitting(10, model_queue_images=4)
    with admission.reserve("a", 3):
        with pytest.raises(Rejected) as refused:
            admission.reserve("a", 2)
        assert str(refused.value) == "the queue is full: 3 of 4 images of a are admitted, 2 more do not fit"
        assert refused.value.retry_after_s > 0
        assert fits(admission, 4, "b")
    assert value(admission, "rejected_total", model="a", reason="queue_full") == 1
    assert value(admission, "rejected_total", model="b", reason="queue_full") is None
    assert fits(admission, 4)
    assert not fits(admission, 5)


def test_models_share_the_room_of_all_together():
    admission = admitting(5, model_queue_images=4)
    with admission.reserve("a", 4):
        with pytest.raises(Rejected, match="4 of 5 images are admitted"):
            admission.reserve("b", 2)
        assert fits(admission, 1, "b")


def test_a_request_is_admitted_whole_or_not_at_all():
    admission = admitting(4)
    with pytest.raises(Rejected):
        admission.reserve("a", 5)
    assert not value(admission, "queue_images", model="a")
    assert fits(admission, 4)


def test_a_request_that_comes_back_for_its_next_images_is_not_refused():
    admission = admitting(4)
    with admission.reserve("a", 4), admission.reserve("a", 3, is_continued=True):
        assert value(admission, "queue_images", model="a") == 7
        admission.close("draining")
        with admission.reserve("a", 2, is_continued=True):
            assert value(admission, "queue_images", model="a") == 9
    assert value(admission, "queue_images", model="a") == 0


def test_the_images_of_a_continued_request_keep_others_out():
    admission = admitting(4)
    with admission.reserve("a", 3, is_continued=True):
        assert fits(admission, 1)
        assert not fits(admission, 2)
    assert fits(admission, 4)


def test_a_closed_queue_admits_no_more():
    admission = admitting(4)
    with admission.reserve("a", 1):
        admission.close("the server is draining: try another one")
        with pytest.raises(Unavailable, match="the server is draining: try another one"):
            admission.reserve("a", 1)
    with pytest.raises(Unavailable):
        admission.reserve("b", 1)
    assert value(admission, "rejected_total", model="a", reason="draining") == 1
    assert value(admission, "rejected_total", model="b", reason="draining") == 1
    assert value(admission, "rejected_total", model="a", reason="queue_full") is None


@pytest.mark.parametrize(
    "error", [EngineFailed("x"), Unavailable("x"), Rejected("x", 1), ValueError(), KeyboardInterrupt(), None]
)
def test_room_is_free_again_however_the_block_is_left(error: BaseException | None):
    admission = admitting(4)

    def use() -> None:
        with admission.reserve("a", 4):
            assert not fits(admission, 1)
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            use()
    else:
        use()
    assert value(admission, "queue_images", model="a") == 0
    assert fits(admission, 4)


def test_the_images_admitted_are_shown_by_model():
    admission = admitting(8)
    assert value(admission, "queue_limit_images") == 8
    with admission.reserve("a", 3):
        with admission.reserve("b", 1), admission.reserve("a", 2):
            assert (value(admission, "queue_images", model="a"), value(admission, "queue_images", model="b")) == (5, 1)
        assert value(admission, "queue_images", model="a") == 3
    assert (value(admission, "queue_images", model="a"), value(admission, "queue_images", model="b")) == (0, 0)


@given(
    st.lists(st.one_of(st.tuples(st.sampled_from("ab"), st.integers(1, 6), st.booleans()), st.integers(0, 9))),
    st.integers(1, 12),
    st.integers(1, 12),
)
@settings(max_examples=100, deadline=None, database=None)
def test_whatever_comes_and_goes_those_are_admitted_who_fit(
    steps: list[tuple[str, int, bool] | int], queue_images: int, model_queue_images: int
):
    """steps: a request comes, (model, images, is_continued), or the one at this index leaves."""
    admission = admitting(queue_images, model_queue_images)
    inside: list[tuple[str, int, Reservation]] = []
    for step in steps:
        if isinstance(step, int):
            if inside:
                inside.pop(step % len(inside))[2].__exit__(None, None, None)
            continue
        model, images, is_continued = step
        all_together = sum(count for _, count, _ in inside)
        of_model = sum(count for name, count, _ in inside if name == model)
        if is_continued or (all_together + images <= queue_images and of_model + images <= model_queue_images):
            place = admission.reserve(model, images, is_continued=is_continued)
            inside.append((model, images, place.__enter__()))
        else:
            with pytest.raises(Rejected):
                admission.reserve(model, images)
        for name in "ab":
            shown = value(admission, "queue_images", model=name) or 0
            assert shown == sum(count for other, count, _ in inside if other == name)


def test_a_refused_client_never_comes_again_at_once():
    with pytest.raises(Rejected) as refused:
        admitting(4).reserve("a", 5)
    assert refused.value.retry_after_s == 0.01
