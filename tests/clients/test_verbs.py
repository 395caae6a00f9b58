"""The verbs that ask a server: options in, files and one line out."""

import io
import socket
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

import figment_client
from figment.cli.command import main
from figment.images import Images
from figment.images.grid import GAP
from figment.v1 import image_service_pb2
from figment_client import Client, InvalidArgument
from tests.fakes.image_service import HEIGHT, WIDTH, FakeServer, drawn

PROJECT = tomllib.loads((Path(figment_client.__file__).parents[1] / "pyproject.toml").read_text())["project"]


def find(verb: str) -> EntryPoint:
    return EntryPoint(verb, PROJECT["entry-points"]["figment.commands"][verb], "figment.commands")


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments], find)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    with FakeServer() as server:
        monkeypatch.setenv("FIGMENT_ADDRESS", server.address)
        yield server


def test_generate_writes_a_sheet_and_says_how_to_repeat_it(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "digits", "--count", "5", "--columns", "5", "--out", tmp_path / "sheet.png") == 0
    told = capsys.readouterr().out
    assert "sheet.png: 5 images of digits" in told
    assert "--seed 1000" in told
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == Images(drawn(1000, 0, 5)).grid(columns=5).size


def test_generate_sends_its_options(server: FakeServer, tmp_path: Path) -> None:
    options = "--count=4 --seed=3 --first-index=9 --label=1 --truncation=0.5 --version=2"
    assert run("generate", "digits", *options.split(), "--out", tmp_path / "a.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), drawn(3, 9, 4))
    request = server.services.requests[-1].request
    assert (request.seed, request.first_index, request.label) == (3, 9, 1)
    assert (request.truncation, request.version) == (0.5, "2")


def test_generate_fills_a_folder_piece_by_piece(server: FakeServer, tmp_path: Path) -> None:
    assert run("generate", "digits", "--count", "1200", "--seed", "1", "--out", tmp_path / "folder") == 0
    files = sorted((tmp_path / "folder").iterdir())
    assert len(files) == 1200
    np.testing.assert_array_equal(Images.open([files[0], files[-1]], 1), drawn(1, 0, 1200)[[0, -1]])


def test_a_flag_overrules_the_variable(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGMENT_ADDRESS", "not an address")
    assert run("generate", "digits", "--address", server.address, "--out", tmp_path / "a.npy") == 0


def test_a_wrong_address_names_the_variable_that_it_is_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIGMENT_ADDRESS", "tcp://10.0.0.1:50051")
    assert run("models") == 2
    told = capsys.readouterr().err
    assert told.startswith(
        "figment models: --address (FIGMENT_ADDRESS): got 'tcp://10.0.0.1:50051', allowed is host:port"
    )
    with pytest.raises(InvalidArgument, match="FIGMENT_ADDRESS: got 'tcp"):
        Client()


def test_a_name_that_the_output_cannot_show_is_written_with_escapes(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", shown)
    assert run("generate", "digits", "--out", tmp_path / "\u00fc\udcff.png") == 0
    shown.seek(0)
    assert "\\xfc\\udcff.png: 16 images of digits" in shown.read()


def test_an_ending_that_cannot_be_written_is_refused_before_drawing(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "digits", "--out", "a.bmp") == 2
    assert "--out: got 'a.bmp', allowed are the endings .png" in capsys.readouterr().err
    assert server.services.requests == []


def test_an_error_of_the_server_is_one_line_and_status_1(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = image_service_pb2.Error(code=5, message="no model 'x'; there are digits")
    server.services.stream_answers = [image_service_pb2.StreamGenerateResponse(error=error, last=True)]
    assert run("generate", "x", "--out", tmp_path / "a.png") == 1
    assert capsys.readouterr().err == "figment generate: no model 'x'; there are digits\n"
    assert not (tmp_path / "a.png").exists()


def test_interpolate_writes_one_row(server: FakeServer, tmp_path: Path) -> None:
    options = "--start-seed=3 --start-index=4 --end-seed=5 --end-index=6 --steps=7 --method=slerp --label=1"
    assert run("interpolate", "digits", *options.split(), "--out", tmp_path / "row.png") == 0
    with Image.open(tmp_path / "row.png") as row:
        assert row.width * (HEIGHT + 2 * GAP) == row.height * (7 * (WIDTH + GAP) + GAP)
    request = server.services.requests[-1]
    assert (request.start.seeded.seed, request.start.seeded.index) == (3, 4)
    assert (request.end.seeded.seed, request.end.seeded.index) == (5, 6)
    assert (request.label, request.method) == (1, image_service_pb2.INTERPOLATION_METHOD_SLERP)


def test_interpolate_writes_an_animation(server: FakeServer, tmp_path: Path) -> None:
    assert run("interpolate", "digits", "--steps", "4", "--out", tmp_path / "way.gif") == 0
    with Image.open(tmp_path / "way.gif") as animation:
        assert len(list(ImageSequence.Iterator(animation))) == 4


def test_reconstruct_shows_the_originals_above(server: FakeServer, tmp_path: Path) -> None:
    folder = Images(drawn(200, 0, 3)).save(tmp_path / "originals")
    files = sorted(folder.iterdir())
    assert run("reconstruct", "digits", *files, "--label", "1", "--out", tmp_path / "pairs.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "pairs.npy"), np.concatenate([drawn(200, 0, 3), drawn(0, 0, 3)]))
    assert list(server.services.requests[-1].labels) == [1, 1, 1]


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("file/sheet.png", "file: is a file, allowed is a folder"),
        ("file/deep/folder", "file: is a file, allowed is a folder"),
        ("file", "file: is a file, allowed is a folder"),
        ("folder.png", "folder.png: is a folder, allowed is a file"),
        ("x" * 300 + ".png", ": File name too long"),
    ],
)
@pytest.mark.parametrize("verb", ["generate", "interpolate", "reconstruct"])
def test_where_nothing_could_be_saved_nothing_is_drawn(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, out: str, told: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder.png").mkdir()
    files = [tmp_path / "a.png"] if verb == "reconstruct" else []
    assert run(verb, "digits", *files, "--out", tmp_path / out) == 1
    assert told in capsys.readouterr().err
    assert server.services.requests == []


def test_a_folder_that_may_not_be_written_is_told_before_drawing(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "os.access", lambda path, mode: False
    )  # root, who runs tests in containers, may write everywhere
    assert run("generate", "digits", "--out", tmp_path / "new" / "a.png") == 1
    assert capsys.readouterr().err == f"figment generate: {tmp_path}: may not be written by this user\n"
    assert server.services.requests == []


def test_an_out_of_nothing_is_not_the_current_folder(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("generate", "digits", "--out", "") == 2
    assert "--out: got '', allowed is the name of a file or folder" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["webp", "jpg"])
def test_a_sheet_that_its_format_cannot_hold_is_told(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    options = ["--count", "9", "--columns", "9000", "--out", tmp_path / f"wide.{ending}"]
    assert run("generate", "digits", *options) == 1
    assert f"wide.{ending}: got a sheet of 72002x" in capsys.readouterr().err


def test_a_sheet_that_memory_cannot_hold_is_told(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "digits", "--columns", str(10**15), "--out", tmp_path / "wide.png") == 1
    assert "figment generate: Unable to allocate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.png", "none.png: No such file or directory"),
        ("folder", "folder: Is a directory"),
        ("text.png", "images: got '{path}', allowed is PNG, JPEG and WebP files"),
        ("empty.png", "images: got '{path}', allowed is PNG, JPEG and WebP files"),
    ],
)
def test_what_is_no_picture_is_one_line_and_status_1(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, told: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    assert run("reconstruct", "digits", tmp_path / name, "--out", tmp_path / "a.png") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("figment reconstruct: ")
    assert told.format(path=tmp_path / name) in line


def test_a_bulk_of_images_waits_for_a_silent_server_no_longer_than_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        options = ["--count", "5000", "--address", address, "--timeout-s", "0.2"]
        assert run("generate", "digits", *options, "--out", tmp_path / "folder") == 1
    assert f"no connection to {address} within 0.2 s" in capsys.readouterr().err


def test_models_lists_versions_sizes_labels_and_reasons(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models") == 0
    told = capsys.readouterr().out
    for words in ("digits", "vae", "2 failed, 1 ready", "6x8 grey", "zero, one"):
        assert words in told
    assert "broken version 2: generator.onnx: [sha256] differs" in told
