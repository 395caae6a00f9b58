"""Forms of generators that people export: each is published, verified and served by onnxruntime, and draws what its file draws."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from export.errors import ImportRefused
from export.golden import golden_inputs
from export.onnx_import.generator import from_onnx
from export.onnx_import.options import ImageShape, ImportOptions
from export.publish import publish
from export.sessions import run, session
from tests.fakes import forms
from tests.fakes.forms import CLASSES, DOUBLE, FLOAT, FORMS, Form, node, value
from tests.fakes.nets import Z, weights


@pytest.mark.parametrize("name", FORMS)
def test_what_is_published_of_a_form_draws_what_its_file_draws(name: str, tmp_path: Path) -> None:
    form = FORMS[name]()
    path = form.saved(tmp_path)
    published = publish(from_onnx(path, form.options), tmp_path / "models", "form")
    given = golden_inputs(9, Z, len(form.options.labels), seed=5)
    served = session(onnx.load(published.folder / "generator.onnx"))
    assert [each.name for each in served.get_inputs()] == list(given)
    images = run(served, given)["images"]
    label = given.get("label", np.zeros(9, np.int64))
    expected = form.drawn(path, given["noise"], label)
    assert images.shape == expected.shape
    assert images.std() > 10
    # A file of half precision rounds its values by up to a tenth of a grey level more.
    assert np.abs(images - expected).max() < (0.7 if name == "half precision" else 0.51)
    for size in (1, 2, 5):
        piece = run(served, {key: array[:size] for key, array in given.items()})["images"]
        assert piece.tobytes() == images[:size].tobytes()


def found(form: Form, folder: Path, **options: Any) -> str:
    return from_onnx(form.saved(folder), replace(form.options, **options)).note


def test_what_was_decided_is_told(tmp_path: Path) -> None:
    assert "psi is fixed at 1 (by default; --truncation)" in found(forms.truncated(None), tmp_path)
    assert "psi is fixed at 0.5 (by --truncation)" in found(forms.truncated(0.5), tmp_path)
    assert "7x9x1 (by --shape), range 0..1" in found(FORMS["flat grey pixels"](), tmp_path)
    assert "grey (no axis for channels)" in found(forms.without_channels(), tmp_path)
    assert "alpha -1..1 over #ffffff (by default; --background)" in found(forms.rgba((255, 255, 255)), tmp_path)
    assert "alpha 0..1 over #000000 (by --background)" in found(forms.rgba((0, 0, 0), from_zero=True), tmp_path)
    assert "draws one image after the other, as a batch of 1 is baked in" in found(forms.baked(), tmp_path)


def test_a_map_of_noise_tells_its_shape(tmp_path: Path) -> None:
    facts = from_onnx(forms.reshaped_noise(2, 2, 2).saved(tmp_path)).facts
    assert (facts.noise_dim, facts.latent_dim, list(facts.latent_shape)) == (8, 8, [2, 2, 2])
    assert list(from_onnx(forms.reshaped_noise(1, 1, Z).saved(tmp_path)).facts.latent_shape) == []


def test_a_truncation_has_the_files_own_default_unless_another_is_told(tmp_path: Path) -> None:
    form = forms.truncated(0.25)
    path = form.saved(tmp_path)
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.25), "psi"))
    default = tmp_path / "default.onnx"
    onnx.save(model, default)
    noise, label = golden_inputs(4, Z, 0)["noise"], np.zeros(4, np.int64)
    for options, truncation in ((ImportOptions(), 0.25), (ImportOptions(truncation=2.0), 2.0)):
        source = from_onnx(default, options)
        assert f"psi is {'fixed at 2' if options.truncation else '0.25, as in the file'}" in source.note
        expected = form._replace(feed=forms.truncated(truncation).feed).drawn(path, noise, label)
        assert np.abs(run(session(source.graphs["generator"]), {"noise": noise})["images"] - expected).max() < 0.51


def convolved(kind: Any) -> Form:
    """A generator of another precision with a layer that onnxruntime lacks there on a CPU."""
    form = forms.in_precision(kind)
    form.arrays["V"] = weights(3, 3, 3, 3, scale=0.3).astype(kind)
    form.nodes[-1:] = [node("Conv", "b V", "c", pads=[1] * 4), node("Tanh", "c", "img")]
    return form


def test_layers_that_are_missing_in_another_precision_are_computed_in_single(tmp_path: Path) -> None:
    assert "instead of double precision: as it came, onnxruntime does not run it here" in found(
        convolved(np.float64), tmp_path
    )
    half = found(convolved(np.float16), tmp_path)
    assert "instead of half precision: as it came, it is off by 0.0" in half


def test_images_that_need_double_precision_are_refused(tmp_path: Path) -> None:
    form = forms.in_precision(np.float64)
    form.arrays["far"] = np.float64(1e9)  # beside which single precision knows multiples of 64 only
    form.nodes[0:0] = [node("Add", "z far", "f"), node("Sub", "f far", "near")]
    form.nodes[2].input[0] = "near"
    with pytest.raises(ImportRefused, match=r"in single precision it gives something else, off by .* grey levels"):
        from_onnx(form.saved(tmp_path))


def two_noises() -> Form:
    front = [node("Mul", "w two", "w2"), node("Add", "z w2", "zw")]
    return forms.with_inputs(front, "zw", [value("w", FLOAT, "n", 8)], forms.only_noise, two=np.float32(2))


REFUSED: dict[str, tuple[Any, ImportOptions, str]] = {
    "labels without names": (
        forms.one_hot,
        ImportOptions(),
        r"inputs: got z float \(n, 8\); y float \(n, 3\);.*--noise tells which is the noise, --labels the classes",
    ),
    "another number of names": (
        forms.one_hot,
        ImportOptions(labels=("a", "b"), noise="z"),
        r"label: got y float \(n, 3\) and 2 names; allowed are integers \(N,\) or \(N, 1\)",
    ),
    "two that could be the noise": (
        two_noises,
        ImportOptions(labels=tuple("abcdefgh")),
        r"inputs: got z float \(n, 8\); w float \(n, 8\).*--noise tells",
    ),
    "a noise of another name": (
        two_noises,
        ImportOptions(noise="x"),
        r"noise: got 'x'; the inputs are z float \(n, 8\); w",
    ),
    "several images": (
        lambda: forms.several_outputs("img"),
        ImportOptions(),
        r"outputs: got w float \(n, 8\); img .*; small float \(n, 3, 4, 4\); 2 of them can be images: --output tells",
    ),
    "an output of another name": (forms.several_outputs, ImportOptions(output="x"), "output: got 'x'; the graph has w"),
    "an output that is no image": (
        forms.several_outputs,
        ImportOptions(output="w"),
        r"w: got \(256, 8\);.*--shape tells",
    ),
    "flat pixels of no shape": (
        lambda: FORMS["flat grey pixels"](),
        ImportOptions(),
        r"img: got \(256, 63\).*--shape tells",
    ),
    "flat pixels of another shape": (
        lambda: FORMS["flat grey pixels"](),
        ImportOptions(shape=ImageShape(8, 8)),
        r"shape: got 8x8, but img gives 63 values an image",
    ),
    "flat pixels of three channels": (
        lambda: FORMS["flat pixels, pixel after pixel"](),
        ImportOptions(shape=ImageShape(7, 9, 3)),
        r"flat images of 3 channels; --layout tells whether channel follows channel \(NCHW\) or pixel follows pixel",
    ),
    "a shape of other images": (
        lambda: forms.truncated(None),
        ImportOptions(shape=ImageShape(9, 8, 3)),
        "shape: got 9x8x3, but img gives images 8x8x3",
    ),
    "a background of what has no alpha": (
        lambda: forms.truncated(None),
        ImportOptions(background=(255, 0, 0)),
        "background: got #ff0000, but the images of img have no alpha",
    ),
    "a truncation of what has none": (
        forms.one_hot,
        ImportOptions(labels=CLASSES, truncation=0.5),
        r"truncation: got 0\.5, but the graph has no input of one number",
    ),
    "two numbers": (
        lambda: forms.with_inputs(
            [node("Mul", "z a", "za"), node("Mul", "za b", "zb")],
            "zb",
            [value("a", FLOAT), value("b", DOUBLE, 1)],
            forms.only_noise,
        ),
        ImportOptions(),
        r"inputs: got a float \(\); b double \(1\); of one number each there may be one, the truncation",
    ),
    "a map as large as the images": (
        lambda: Form(
            [value("z", FLOAT, "n", 3, 8, 8)],
            [forms.IMAGE],
            [node("Conv", "z W", "a"), node("Tanh", "a", "img")],
            {"W": weights(3, 3, 1, 1)},
            forms.only_noise,
        ),
        ImportOptions(),
        r"noise: got a map \(3, 8, 8\), as large as the images, 8x8: form\.onnx makes images of images",
    ),
    "a number that is no float": (
        lambda: forms.with_inputs([], "z", [value("steps", TensorProto.INT64)], forms.only_noise),
        ImportOptions(labels=CLASSES),
        "label: got steps int64",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_ambiguous_is_refused_with_the_option_that_settles_it(name: str, tmp_path: Path) -> None:
    make, options, message = REFUSED[name]
    with pytest.raises(ImportRefused, match=message):
        from_onnx(make().saved(tmp_path), options)


def test_the_noise_may_be_named(tmp_path: Path) -> None:
    options = ImportOptions(labels=tuple("abcdefgh"), noise="w")
    note = from_onnx(two_noises().saved(tmp_path), options).note
    assert note.startswith("form.onnx: w float (n, 8); z float (n, 8) -> img")
