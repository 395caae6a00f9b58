"""The bundle folder: versions count up and appear whole; Triton reads the same folder."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.bundle import model_folder, new_version, read_manifest
from export.errors import BundleError


def test_versions_count_up_and_appear_whole(tmp_path: Path):
    for version in ("1", "2"):
        with model_folder(tmp_path, "m") as model, new_version(model) as (folder, number):
            assert number == version
            (folder / "file").write_text(version)
            assert not (tmp_path / "m" / version).exists()
        assert (tmp_path / "m" / version / "file").read_text() == version


@pytest.mark.parametrize("name", ["", "Upper", "../up", "a/b", ".hidden", "x" * 65])
def test_a_name_that_is_no_plain_folder_is_refused(tmp_path: Path, name: str):
    with pytest.raises(BundleError, match="name: got"):
        model_folder(tmp_path, name).__enter__()


def test_a_folder_that_is_no_version_is_refused(tmp_path: Path):
    with pytest.raises(BundleError, match=r"is no version of a model: manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(("name", "size", "noise_dim"), [("vae", 32, 17), ("labelled-gan", 16, 16)])
def test_tritons_own_schema_reads_the_config_of_the_generator(models: Path, name: str, size: int, noise_dim: int):
    config = text_format.Parse((models / name / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (config.name, config.backend, config.default_model_filename) == (name, "onnxruntime", "generator.onnx")
    assert config.max_batch_size == 64
    assert config.HasField("dynamic_batching")
    inputs = {each.name: (each.data_type, list(each.dims)) for each in config.input}
    wanted = {"noise": (model_config_pb2.TYPE_FP32, [noise_dim])}
    if name == "labelled-gan":
        wanted["label"] = (model_config_pb2.TYPE_INT64, [1])
        assert config.input[1].HasField("reshape")
        assert list(config.input[1].reshape.shape) == []
    assert inputs == wanted
    (output,) = config.output
    assert (output.name, output.data_type, list(output.dims)) == (
        "images",
        model_config_pb2.TYPE_UINT8,
        [size, size, 1],
    )
