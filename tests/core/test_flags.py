"""Flags of every verb: values that begin with a minus, what is missing, what is mistyped."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from figment.cli.command import main
from figment.cli.verb_settings import complaints, settings_of, unreadable

VERBS = {entry.name: entry.load() for entry in entry_points(group="figment.commands")}
POSITIONALS = {
    "resume": ["run"], "export": ["run"], "import": ["g.onnx"], "evaluate": ["run"], "compare": ["run"],
    "bench": ["model", "version"], "generate": ["m"], "interpolate": ["m"], "reconstruct": ["m", "a.png"],
}  # fmt: skip
NEEDED = {"train": ["--data", "digits", "--family", "vae", "--out", "run"]}


def told(verb: str, *options: str) -> list[str]:
    """What is said of the options, nothing if they are right."""
    given = [*POSITIONALS.get(verb, []), *NEEDED.get(verb, []), *options]
    try:
        settings_of(verb, VERBS[verb], given, {})
    except ValidationError as error:
        return list(complaints(verb, VERBS[verb], error, given, {}))
    except SettingsError as error:
        return [unreadable(error)]
    return []


OPTIONS_WITH_TEXT = {
    "train": "cache", "export": "name", "import": "name", "evaluate": "data", "compare": "out",
    "serve": "models", "generate": "version", "interpolate": "version", "reconstruct": "version",
}  # fmt: skip


@pytest.mark.parametrize("verb", sorted(OPTIONS_WITH_TEXT))
@pytest.mark.parametrize("value", ["-1..1", "-1", "-x.png", "-", "-a=b"])
def test_any_option_takes_a_value_that_begins_with_a_minus(verb: str, value: str) -> None:
    field = OPTIONS_WITH_TEXT[verb]
    given = [*POSITIONALS.get(verb, []), *NEEDED.get(verb, [])]
    settings = settings_of(verb, VERBS[verb], [f"--{field}", value, *given], {})
    assert str(getattr(settings, field)) == value


def test_the_range_of_a_foreign_graph_can_be_typed() -> None:
    assert settings_of("import", VERBS["import"], ["g.onnx", "--range", "-1..1"], {}).range == "-1..1"  # type: ignore[attr-defined]
    assert settings_of("import", VERBS["import"], ["--range", "-1..1", "g.onnx"], {}).range == "-1..1"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("verb", "option", "value", "allowed"),
    [
        ("generate", "--truncation", "-1", "input should be greater than 0"),
        ("generate", "--truncation", "-.5", "input should be greater than 0"),
        ("generate", "--seed", "-1", "input should be greater than or equal to 0"),
        ("generate", "--count", "-x", "input should be a valid integer"),
        ("interpolate", "--method", "-lerp", "input should be 'lerp' or 'slerp'"),
        ("serve", "--batch.max-size", "-3", "input should be greater than or equal to 1"),
        ("train", "--held-out", "-0.1", "input should be greater than 0"),
    ],
)
def test_a_value_below_the_range_is_told_the_range(verb: str, option: str, value: str, allowed: str) -> None:
    (line,) = told(verb, option, value)
    assert line.startswith(f"{option}: got '{value}', {allowed}")


@pytest.mark.parametrize(
    ("option", "value"), [("--shares", "x"), ("--shares", '{"a"'), ("--batch", "x"), ("--limits", "3")]
)
def test_a_list_or_map_that_cannot_be_read_is_told_how_it_is_written(option: str, value: str) -> None:
    (line,) = told("serve", option, value)
    assert re.match(f"{option}: (cannot be read:|got .*,) allowed are lists and maps as JSON", line)


@pytest.mark.parametrize("value", ["inf", "nan", "1e9"])
def test_draining_without_end_is_refused(value: str) -> None:
    (line,) = told("serve", "--drain-s", value)
    assert line.startswith(f"--drain-s: got '{value}', input should be")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_an_option_that_does_not_exist_is_told_with_the_nearest(verb: str) -> None:
    (line,) = told(verb, "--hlep")
    assert line == "unrecognized arguments: --hlep (did you mean --help?)"


def test_an_option_after_one_without_its_value_is_no_value() -> None:
    assert told("generate", "--version", "--seed", "3") == ["argument --version: expected one argument"]
    assert told("export", "--tune", "-1") != []


def test_words_after_two_minuses_are_no_options() -> None:
    settings = settings_of("reconstruct", VERBS["reconstruct"], ["m", "--label", "1", "--", "-a.png", "--b.png"], {})
    assert settings.files == [Path("-a.png"), Path("--b.png")]  # type: ignore[attr-defined]


def test_a_missing_option_is_one_line_each_and_defaults_that_wait_for_it_are_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--out", "run"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "figment train: --data: a value is required",
        "figment train: --family: a value is required",
    ]


def test_parts_of_a_group_that_do_not_go_together_are_told_by_the_rule() -> None:
    assert told("serve", "--batch.max-size", "3", "--batch.sizes", "1,2") == [
        "--batch: sizes: the last is 2, it must be max_size, 3"
    ]


def test_a_mistyped_verb_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["genrte", "digits"]) == 2
    assert capsys.readouterr().err.endswith("; did you mean generate?\n")
