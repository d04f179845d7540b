"""One step is the same step whoever makes it: one process or two, at once or accumulated, in one go or resumed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from neuralusd.cli import main
from neuralusd.datasets.packed import save_packed
from neuralusd.training.draws import shared
from tests.conftest import PROJECT
from tests.tiny_backend import TINY_SPLAT
from tests.tiny_full_size import SIZE, SMALL, save_config
from tests.tiny_world import boxes_world

CONFIGS = {
    # The paper's recipe, and ours with landing and weights on the foreground, whose mean is over the whole batch.
    "plain": replace(SMALL, published=None, steps=3),
    "landing": replace(TINY_SPLAT, batch_size=4, steps=3, warmup_steps=1),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A world and configurations of three steps of four pairs, with a checkpoint after the second."""
    folder = tmp_path_factory.mktemp("files")
    save_packed(boxes_world(SIZE, scenes=2), folder / "world.npz")
    for name, config in CONFIGS.items():
        save_config(folder / f"{name}.json", config)
    return folder


def arguments(files, name, output):
    world = ["--world", str(files / "world.npz"), "--precision", "fp32", "--quiet", "--checkpoint-steps", "2"]
    return ["train", "--config", str(files / f"{name}.json"), *world, "-o", str(output)]


def assert_same_gradients(first, second):
    """By Adam's first moments after two steps, a sum of the gradients. (Of some weights, as of a key's bias, it
    is zero but for rounding: they are compared with the others.)"""
    first, second = (
        {key: value["exp_avg"] for key, value in torch.load(file, weights_only=True)["state"].items()}
        for file in (first / "checkpoint/optimizer.bin", second / "checkpoint/optimizer.bin")
    )
    assert first.keys() == second.keys()
    largest = max(value.abs().max().item() for value in first.values())
    for key, value in first.items():
        scale = max(value.abs().max().item(), 1e-3 * largest)
        assert (second[key] - value).abs().max().item() < 1e-3 * scale, key


def assert_same_weights(first, second):
    """Three steps move a weight by about 1e-4; by rounding alone Adam moves those whose gradient is zero."""
    first, second = whole(first), whole(second)
    assert first.keys() == second.keys()
    difference = torch.cat([(first[key] - second[key]).abs().flatten() for key in first])
    assert difference.mean() < 1e-6


def whole(folder):
    """All tensors of a saved pipeline."""
    return {
        f"{file.parent.name}.{key}": value.float()
        for file in sorted(folder.glob("*/*.safetensors"))
        if "checkpoint" not in str(file.parent.name)
        for key, value in load_file(file).items()
    }


@pytest.fixture(scope="module")
def alone(files, tmp_path_factory):
    """Each configuration trained by one process, a batch at once."""
    folder = tmp_path_factory.mktemp("alone")
    for name in CONFIGS:
        assert main(arguments(files, name, folder / name)) == 0
    return folder


@pytest.fixture(scope="module")
def together(files, tmp_path_factory):
    """The plain configuration trained by two processes with gradients that accumulate over two parts each."""
    output = tmp_path_factory.mktemp("together") / "plain"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
               "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
               "-m", "neuralusd", *arguments(files, "plain", output), "--per-device-batch", "1"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trained on") == 1  # one of them speaks
    return output


def test_two_processes_give_the_gradient_of_one(alone, together):
    assert_same_gradients(alone / "plain", together)
    assert_same_weights(alone / "plain", together)
    assert len((together / "log.jsonl").read_text().splitlines()) == 1  # and one of them writes


@pytest.mark.parametrize("name", CONFIGS)
def test_accumulated_gradients_are_those_of_the_batch(files, alone, tmp_path, name):
    assert main([*arguments(files, name, tmp_path / "out"), "--per-device-batch", "1"]) == 0
    assert_same_gradients(alone / name, tmp_path / "out")


def test_a_run_of_two_processes_is_finished_by_one(files, together, tmp_path):
    shutil.copytree(together, tmp_path / "out")
    for folder in ("unet", "asset_tokenizer"):
        shutil.rmtree(tmp_path / "out" / folder)
    assert main(arguments(files, "plain", tmp_path / "out")) == 0
    assert_same_weights(together, tmp_path / "out")
    log = [json.loads(line)["step"] for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert log == [2]  # the first two steps were not made again


def test_a_checkpoint_that_was_not_finished_is_not_resumed_from(files, alone, tmp_path):
    """As a kill leaves it between two renamings, and while it wrote."""
    shutil.copytree(alone / "plain", tmp_path / "out")
    (tmp_path / "out/checkpoint").rename(tmp_path / "out/checkpoint.previous")
    (tmp_path / "out/checkpoint.part").mkdir()
    (tmp_path / "out/checkpoint.part/model.safetensors").write_bytes(b"half")
    assert main(arguments(files, "plain", tmp_path / "out")) == 0
    assert_same_weights(alone / "plain", tmp_path / "out")


def test_a_damaged_checkpoint_says_so(files, alone, tmp_path, capsys):
    shutil.copytree(alone / "plain", tmp_path / "out")
    (tmp_path / "out/checkpoint/model.safetensors").write_bytes(b"")
    assert main(arguments(files, "plain", tmp_path / "out")) == 1
    err = capsys.readouterr().err
    assert "checkpoint is damaged" in err and "remove it" in err


def test_how_a_batch_is_shared():
    assert shared(512, 8, 8) == (8, 8)
    assert shared(512, 8, 7) == (4, 16)
    assert shared(8, 1, None) == (8, 1)
    assert shared(2, 1, 8) == (2, 1)
    with pytest.raises(ValueError, match="510 or 513"):
        shared(512, 3, 8)
