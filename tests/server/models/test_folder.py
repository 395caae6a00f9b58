"""What is found in a folder of models, and what is said of the rest."""

import os
import re
from pathlib import Path

import pytest

from server.errors import CannotStart
from server.models.folder import FolderScan, scan_folder


def folder_of(root: Path, *names: str) -> Path:
    """A folder with files, and folders where a name ends with a slash."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text("{}")
    return root


def test_versions_come_in_order_and_what_belongs_to_a_model_is_no_stray(tmp_path: Path):
    names = [
        "b/10/",
        "b/9/manifest.json",
        "b/config.pbtxt",
        "b/routing.json",
        "a.b_c-d/1/",
        "b/.11.writing/",
        ".trash/1/",
    ]
    found = scan_folder(folder_of(tmp_path, *names))
    assert found == FolderScan(tmp_path, (("a.b_c-d", "1"), ("b", "9"), ("b", "10")), ())


@pytest.mark.parametrize(
    ("name", "stray"),
    [
        (
            "Photos/1/",
            "'Photos': not allowed as a model's name: a name is 1 to 64 of a-z 0-9 .*; the nearest is photos$",
        ),
        ("my model/1/", "'my model': not allowed .*; the nearest is my-model$"),
        (
            "写真/1/",
            "'写真': not allowed as a model's name: a name is 1 to 64 of a-z 0-9 . _ - and begins with .* digit$",
        ),
        ("notes.txt", "'notes.txt': a file; models are folders$"),
        ("photos/1.bak/", "'photos/1.bak': not a version: versions are 1, 2, 3 .*; the nearest is 1$"),
        ("photos/01/", "'photos/01': not a version: .* without leading zeros; the nearest is 1$"),
        ("photos/v2/", "'photos/v2': not a version: .*; the nearest is 2$"),
        ("photos/latest/", "'photos/latest': not a version: versions are 1, 2, 3 ... without leading zeros$"),
        ("photos/1", "'photos/1': a file; versions are folders$"),
        ("photos/", "'photos': has no version: folders 1, 2, 3 ... that figment export writes$"),
        ("small64/run.json", "'small64': a run, no model: figment export .*/small64 --models .* makes one of it$"),
        ("photos/manifest.json", "'photos': one version of a model: move it to .*/photos/1, as its manifest names it$"),
        ("3/manifest.json", "'3': one version without its model's folder: move it to .*/<model>/3, or serve --models"),
        ("old/vae/1/manifest.json", "'old': a folder of models: serve it with --models .*/old$"),
    ],
)
def test_a_stray_is_named_with_what_to_do_about_it(tmp_path: Path, name: str, stray: str):
    found = scan_folder(folder_of(tmp_path, "gan/1/", name))
    assert found.versions == (("gan", "1"),)
    (line,) = found.strays
    assert re.match(stray, line), line


def test_links_are_followed_and_broken_ones_are_told(tmp_path: Path):
    real = folder_of(tmp_path / "elsewhere", "1/")
    models = folder_of(tmp_path / "models", "gan/1/")
    (models / "vae").symlink_to(real)
    (models / "gone").symlink_to(tmp_path / "nowhere")
    (models / "circle").symlink_to(models / "circle")
    found = scan_folder(models)
    assert found.versions == (("gan", "1"), ("vae", "1"))
    assert found.strays == tuple(f"'{name}': a link to nothing that can be read" for name in ("circle", "gone"))


@pytest.mark.parametrize(
    ("given", "advice"), [("models/vae/1", "serve --models {}/models"), ("models/vae", "or serve --models {}/models")]
)
def test_a_model_given_for_its_folder_is_told_the_folder(tmp_path: Path, given: str, advice: str):
    folder_of(tmp_path, "models/vae/1/manifest.json")
    assert advice.format(tmp_path.resolve()) in scan_folder(tmp_path / given).nothing


def test_an_empty_folder_is_told_what_fills_it(tmp_path: Path):
    expected = f"models: there is no model in {tmp_path}; figment export <run> --models {tmp_path} makes one"
    assert scan_folder(tmp_path).nothing.startswith(expected)


def test_a_folder_that_is_not_there_or_is_a_file_cannot_be_served(tmp_path: Path):
    with pytest.raises(CannotStart, match=r"^models: there is no folder .*nowhere: figment export <run> --models"):
        scan_folder(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match=r"^models: .*file cannot be read: Not a directory"):
        scan_folder(tmp_path / "file")


def test_a_folder_of_somebody_else_cannot_be_served_and_a_model_of_his_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder_of(tmp_path, "gan/1/", "vae/1/")
    scandir, closed = os.scandir, {str(tmp_path / "vae")}

    def scandir_of_others(path: Path) -> object:
        if str(path) in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("server.models.folder.os.scandir", scandir_of_others)
    found = scan_folder(tmp_path)
    assert found.versions == (("gan", "1"),)
    assert found.strays == (f"'vae': cannot be read: Permission denied; the server runs as user {os.getuid()}",)
    closed.add(str(tmp_path))
    with pytest.raises(CannotStart, match=r"^models: .* cannot be read: Permission denied; the server runs as user"):
        scan_folder(tmp_path)
