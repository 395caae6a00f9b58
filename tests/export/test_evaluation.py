"""`figment evaluate` and `figment compare` on runs and on what is served."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import features
from evaluation.scorecard import Scorecard
from export.bundle import read_manifest, write_manifest
from export.entry import read_entry
from export.errors import ExportError
from export.evaluate_command import Compare, Evaluate
from export.evaluation import EvaluationSettings, compare, evaluate
from training.errors import RunFolderError
from training.record import read_record

FEW = EvaluationSettings(images=256)


@pytest.fixture(autouse=True, scope="module")
def _classifier_of_few_steps() -> Iterator[None]:
    """Seconds of training for every set of real images would be most of what these tests take."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(features, "EPOCHS", 1)
        yield


@pytest.fixture(scope="module")
def served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that may be written to."""
    folder = tmp_path_factory.mktemp("served") / "vae"
    shutil.copytree(models / "vae", folder)
    return folder


@pytest.fixture(scope="module")
def of_run(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scorecard, Path]:
    return evaluate(runs / "vae", tmp_path_factory.mktemp("report"), EvaluationSettings(images=256, iwae_draws=4))


@pytest.fixture(scope="module")
def of_bundle(served: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scorecard, Path]:
    return evaluate(served, tmp_path_factory.mktemp("report"), FEW)


def test_a_run_is_judged_and_reported(of_run: tuple[Scorecard, Path]):
    card, page = of_run
    assert card.name == "vae"
    assert {"fid_clf", "coverage", "detail", "reconstruction_psnr_db", "probe_accuracy", "iwae_nats"} <= set(
        card.figures
    )
    assert all(np.isfinite(figure) for figure in card.figures.values())
    assert page.name == "report.html"
    assert json.loads((page.parent / "quality.json").read_text())["models"]["vae"]["fid_clf"] == card.figures["fid_clf"]


def test_what_is_served_is_what_was_trained(of_run: tuple[Scorecard, Path], of_bundle: tuple[Scorecard, Path]):
    trained, served = (card.figures for card, _ in (of_run, of_bundle))
    assert set(trained) - set(served) == {"iwae_nats"}  # graphs that round know no likelihood
    assert {name: trained[name] for name in served} == pytest.approx(served, rel=1e-3)


def test_both_verbs_tell_the_figures_and_where_the_page_is(
    runs: Path, served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    Evaluate(model=runs / "gan", out=tmp_path / "one", images=64).cli_cmd()
    Compare(models=[runs / "gan", served], out=tmp_path / "two", images=64).cli_cmd()
    told = capsys.readouterr().out
    assert len(re.findall(r"frechet_random +lower +\d", told)) == 2
    for name in ("one", "two"):
        assert f"{tmp_path / name / 'report.html'}: the report" in told
        assert (tmp_path / name / "quality.json").is_file()


def test_a_report_knows_its_images_again(of_run: tuple[Scorecard, Path], runs: Path):
    record = json.loads((of_run[1].parent / "quality.json").read_text())
    assert record["real"]["sha256"] == read_record(runs / "vae").data.sha256
    assert "not in its training" in of_run[1].read_text()


def test_a_bundles_manifest_carries_the_figures_and_who_judged(of_bundle: tuple[Scorecard, Path], served: Path):
    manifest = read_manifest(served / "1")
    assert dict(manifest.quality) == of_bundle[0].figures
    assert manifest.judged_by.startswith("classifier ")
    assert manifest.judged_by.endswith(", 256 images")


@pytest.mark.parametrize("name", ["labelled-gan", "labelled-vae"])
def test_conditional_models_draw_the_datas_labels(name: str, runs: Path, models: Path, tmp_path: Path):
    cards, page = compare([runs / name, models / name], tmp_path, FEW)
    assert [card.name for card in cards] == [name, f"{name}/1"]
    run, bundle = (dict(card.figures) for card in cards)
    # Its classifiers learn from samples of which a few pixels are a grey level off, which training makes into other answers.
    assert run.pop("cas") == pytest.approx(bundle.pop("cas"), abs=0.02)
    assert run == pytest.approx(bundle, rel=1e-3)
    assert "detail" in run
    assert page.exists()


def test_families_stand_side_by_side(models: Path, tmp_path: Path):
    cards, page = compare([models / name for name in ("vae", "gan", "hybrid")], tmp_path, FEW)
    assert [card.family for card in cards] == ["vae", "gan", "hybrid"]
    assert "probe_accuracy" not in cards[1].figures
    assert set(json.loads((tmp_path / "quality.json").read_text())["models"]) == {"vae/1", "gan/1", "hybrid/1"}
    assert page.read_text().count("<th>") >= 3


def test_the_highest_version_stands_for_a_model(served: Path, tmp_path: Path):
    shutil.copytree(served / "1", tmp_path / "m" / "2")
    shutil.copytree(served / "1", tmp_path / "m" / "10")
    assert read_entry(tmp_path / "m").path == tmp_path / "m" / "10"


def test_other_images_may_be_asked_for(runs: Path, tmp_path: Path):
    card, _ = evaluate(runs / "gan", tmp_path, EvaluationSettings(data="digits", test="digits", images=256))
    assert "detail" in card.figures


def _retold(run: Path, folder: Path, **settings: object) -> Path:
    """A copy of a run that tells of other settings."""
    shutil.copytree(run, folder)
    record = json.loads((folder / "run.json").read_text())
    record["settings"] |= settings
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_images_asked_for_are_split_as_in_the_training(runs: Path, tmp_path: Path):
    run = _retold(runs / "gan", tmp_path / "gan", seed=5, held_out=0.3)
    own, asked = (
        evaluate(run, tmp_path / "out", EvaluationSettings(data=data, images=64)) for data in (None, "digits")
    )
    assert own[0].figures == asked[0].figures
    assert json.loads((tmp_path / "out" / "quality.json").read_text())["real"]["held_out"] == 539


def test_images_that_may_have_been_learned_from_are_told_of(runs: Path, tmp_path: Path):
    run = _retold(runs / "gan", tmp_path / "gan", seed=5)
    _, page = evaluate(run, tmp_path / "out", EvaluationSettings(images=64))
    assert "another split: some may be of its training" in page.read_text()


def test_what_another_judge_said_does_not_stay_in_the_manifest(models: Path, tmp_path: Path):
    shutil.copytree(models / "gan", tmp_path / "gan")
    manifest = read_manifest(tmp_path / "gan" / "1")
    manifest.quality["fid"] = 99.0
    write_manifest(manifest, tmp_path / "gan" / "1")
    evaluate(tmp_path / "gan", tmp_path / "out", EvaluationSettings(images=64))
    assert "fid" not in read_manifest(tmp_path / "gan" / "1").quality


def test_runs_of_one_name_are_told_apart_by_their_folders(runs: Path, tmp_path: Path):
    other = tmp_path / "other" / "gan"
    shutil.copytree(runs / "gan", other)
    cards, _ = compare([runs / "gan", other], tmp_path, EvaluationSettings(images=64))
    assert [card.name for card in cards] == [str(runs / "gan"), str(other)]
    assert len(json.loads((tmp_path / "quality.json").read_text())["models"]) == 2


def test_the_same_model_twice_is_an_error(models: Path, tmp_path: Path):
    with pytest.raises(ExportError, match=r"gan/1 is given more than once"):
        compare([models / "gan", models / "gan" / "1"], tmp_path, FEW)


def test_settings_of_another_version_are_an_error_that_names_one(runs: Path, tmp_path: Path):
    with pytest.raises(RunFolderError, match=r"settings\.gone: is not known here; another version wrote it"):
        read_entry(_retold(runs / "gan", tmp_path / "gan", gone=1))


def test_a_test_set_of_other_classes_is_an_error(runs: Path, tmp_path: Path):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        Image.new("L", (32, 32)).save(tmp_path / name / "0.png")
    with pytest.raises(ExportError, match=r"has other classes than digits"):
        evaluate(runs / "vae", tmp_path / "out", EvaluationSettings(test=str(tmp_path)))


def test_neither_a_run_nor_a_bundle_is_an_error(tmp_path: Path):
    with pytest.raises(ExportError, match=r"is neither a run folder \(run\.json\) nor a model's version"):
        read_entry(tmp_path)


def test_an_unfinished_run_is_an_error(runs: Path, tmp_path: Path):
    shutil.copy(runs / "vae" / "run.json", tmp_path)
    with pytest.raises(RunFolderError, match=r"not a finished run: it has no checkpoint"):
        read_entry(tmp_path)


def test_images_that_are_not_there_are_an_error_that_names_the_option(runs: Path, tmp_path: Path):
    with pytest.raises(ExportError, match=r"--data tells where they are: .*nowhere"):
        evaluate(runs / "vae", tmp_path, EvaluationSettings(data="nowhere"))


def test_images_of_another_shape_are_an_error(runs: Path, models: Path, tmp_path: Path):
    with pytest.raises(ExportError, match="cannot be judged by these images"):
        compare([runs / "vae", models / "labelled-gan"], tmp_path, FEW)


def test_a_file_that_holds_no_inception_is_an_error(runs: Path, tmp_path: Path):
    (tmp_path / "file.pt").write_text("nothing")
    with pytest.raises(ExportError, match=r"file\.pt"):
        evaluate(runs / "vae", tmp_path, EvaluationSettings(images=256, inception=tmp_path / "file.pt"))
