"""Variables of the verbs: who reads which, what is said of those that nobody reads."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, CliPositionalArg

from figment.cli.command import VERBS, main
from figment.cli.variables import OF_KUBERNETES, OF_SERVE, strangers, variables_of
from figment_client import Client


class Batch(BaseModel, extra="forbid"):
    """How requests are grouped."""

    max_size: int = Field(64, ge=1, description="images a batch")
    sizes: tuple[int, ...] = Field((), description="padded sizes")


class Serve(BaseSettings):
    """A verb of both kinds: as `serve` it has plain names."""

    ran: ClassVar[list["Serve"]] = []

    model: CliPositionalArg[str] = Field("digits", description="name of the model")
    variant: Literal["fp32", "int8"] = Field("fp32", description="which graphs")
    version: str = Field("", description="version of the model")
    shares: dict[str, float] | None = Field(None, description="weights of models")
    batch: Batch = Field(Batch(), description="grouping")

    def cli_cmd(self) -> None:
        """Keep what came."""
        Serve.ran.append(self)


class Entry:
    """An entry point of the fake verb."""

    def load(self) -> type[Serve]:
        return Serve


def run(verb: str, *options: str) -> Serve | None:
    """The settings that the verb got, None where it was refused."""
    Serve.ran.clear()
    main([verb, *options], lambda name: Entry())
    return Serve.ran[0] if Serve.ran else None


REAL = {entry.name: entry.load() for entry in entry_points(group="figment.commands")}

KUBERNETES = {
    "FIGMENT_SERVICE_HOST": "10.0.0.1",
    "FIGMENT_SERVICE_PORT": "50051",
    "FIGMENT_SERVICE_PORT_GRPC": "50051",
    "FIGMENT_PORT": "tcp://10.0.0.1:50051",
    "FIGMENT_PORT_50051_TCP": "tcp://10.0.0.1:50051",
    "FIGMENT_PORT_50051_TCP_ADDR": "10.0.0.1",
    "FIGMENT_GENERATE_SERVICE_HOST": "10.0.0.2",
    "FIGMENT_GENERATE_PORT": "tcp://10.0.0.2:80",
    "FIGMENT_SERVER_METRICS_PORT_9464_TCP_PROTO": "tcp",
}
"""What pods get of services called figment, figment-generate and figment-server-metrics."""


@pytest.mark.parametrize("verb", ["serve", "generate", "train", "models"])
def test_what_kubernetes_and_ci_make_up_is_neither_read_nor_told(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**KUBERNETES, "FIGMENT_VERSION": "1.2.3", "FIGMENT_UID": "1000"}.items():
        monkeypatch.setenv(name, value)
    settings = run(verb)
    assert settings is not None
    assert capsys.readouterr().err == ""
    if verb != "serve":
        assert settings.version == ""


@pytest.mark.parametrize("verb", sorted(REAL))
def test_no_variable_of_a_verb_can_be_one_that_kubernetes_or_another_verb_makes(verb: str) -> None:
    names = set(variables_of(verb, REAL[verb]))
    assert not [name for name in names if OF_KUBERNETES.fullmatch(f"{name}=tcp://10.0.0.1:50051")]
    others = {name for other in REAL if other != verb for name in variables_of(other, REAL[other])}
    assert names & others <= {"FIGMENT_ADDRESS"}


def test_every_verb_but_serve_has_its_name_in_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGMENT_VARIANT", "int8")
    monkeypatch.setenv("FIGMENT_TRAIN_BATCH__MAX_SIZE", "5")
    served, trained = run("serve"), run("train")
    assert served is not None
    assert trained is not None
    assert (served.variant, served.batch.max_size) == ("int8", 64)
    assert (trained.variant, trained.batch.max_size) == ("fp32", 5)


def test_lists_maps_and_groups_are_json_and_a_part_counts_more_than_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGMENT_BATCH", '{"max_size": 3, "sizes": [1, 3]}')
    monkeypatch.setenv("FIGMENT_BATCH__MAX_SIZE", "4")
    monkeypatch.setenv("FIGMENT_SHARES", '{"digits-gan": 2}')
    settings = run("serve")
    assert settings is not None
    assert (settings.batch, settings.shares) == (Batch(max_size=4, sizes=(1, 3)), {"digits-gan": 2.0})
    settings = run("serve", "--batch.max-size", "5")
    assert settings is not None
    assert settings.batch == Batch(max_size=5, sizes=(1, 3))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("FIGMENT_BATCH__MAX_SIZE", "abc", "FIGMENT_BATCH__MAX_SIZE): got 'abc', input should be a valid integer"),
        ("FIGMENT_BATCH__SIZES", "1,2", "FIGMENT_BATCH__SIZES: got '1,2', allowed are lists and maps as JSON"),
        ("FIGMENT_BATCH__SIZES", '["x"]', "FIGMENT_BATCH__SIZES): got 'x', input should be a valid integer"),
        ("FIGMENT_BATCH", '{"max_size": 0}', "FIGMENT_BATCH): got 0, input should be greater than or equal to 1"),
        ("FIGMENT_SHARES", "digits=2", "FIGMENT_SHARES: got 'digits=2', allowed are lists and maps as JSON"),
    ],
)
def test_what_is_wrong_with_a_variable_names_it(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert run("serve") is None
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "mistyped", "meant"),
    [
        ("serve", "FIGMENT_VARIENT", "FIGMENT_VARIANT"),
        ("serve", "FIGMENT_BATCH_MAX_SIZE", "FIGMENT_BATCH__MAX_SIZE"),
        ("serve", "FIGMENT_BATCH__MAX_SISE", "FIGMENT_BATCH__MAX_SIZE"),
        ("serve", "FIGMENT_MAX_SIZE", "FIGMENT_BATCH__MAX_SIZE"),
        ("generate", "FIGMENT_GENERATE_VARIENT", "FIGMENT_GENERATE_VARIANT"),
        ("generate", "FIGMENT_GENRATE_VARIANT", "FIGMENT_GENERATE_VARIANT"),
        ("generate", "FIGMENT_VARIANT", "FIGMENT_GENERATE_VARIANT"),
    ],
)
def test_a_mistyped_variable_is_told_with_the_nearest_right_one_and_not_refused(
    verb: str, mistyped: str, meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(mistyped, "int8")
    assert run(verb) is not None
    assert capsys.readouterr().err == f"figment {verb}: {mistyped} is not a setting; did you mean {meant}?\n"


def test_the_names_that_serve_shares_with_other_verbs_are_listed() -> None:
    others = {verb: variables_of(verb, REAL[verb]) for verb in REAL if verb != "serve"}
    left_out = {name.replace(f"_{verb.upper()}_", "_", 1) for verb, names in others.items() for name in names}
    assert left_out & set(variables_of("serve", REAL["serve"])) == OF_SERVE


def test_a_variable_that_resembles_none_is_told_without_one() -> None:
    assert list(strangers("serve", Serve, VERBS, {"FIGMENT_QQQ": "1", "FIGMENT_PORT": "50052"})) == [
        "FIGMENT_PORT is not a setting of figment serve; see figment serve --help",
        "FIGMENT_QQQ is not a setting of figment serve; see figment serve --help",
    ]


@pytest.mark.parametrize("verb", sorted(REAL))
def test_variables_of_other_verbs_are_left_to_them(verb: str) -> None:
    environment = {name: "1" for other in REAL for name in variables_of(other, REAL[other])}
    if verb == "serve":
        assert list(strangers(verb, REAL[verb], VERBS, environment)) == []
    else:  # Only serve's class knows which plain names are serve's, so the others pass over all of them.
        plain = {"FIGMENT_DEVICE": "cuda", "FIGMENT_METRICS_ADDRESS": "0.0.0.0:9464", "FIGMENT_MODELS": "/models"}
        assert list(strangers(verb, REAL[verb], VERBS, {**environment, **plain})) == []


def test_the_server_puts_its_warnings_into_its_log(tmp_path: Path) -> None:
    code = "from server.command import Serve; Serve().warn('FIGMENT_VARIENT is not a setting')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert '"message": "FIGMENT_VARIENT is not a setting"' in done.stderr
    assert done.stderr.startswith("{")


def test_the_client_connects_to_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGMENT_ADDRESS", "127.0.0.1:1")
    with Client() as named, Client("127.0.0.1:2") as given:
        assert (named.address, given.address) == ("127.0.0.1:1", "127.0.0.1:2")
    monkeypatch.setenv("FIGMENT_ADDRESS", "")
    with Client() as unnamed:
        assert unnamed.address == "127.0.0.1:50051"
