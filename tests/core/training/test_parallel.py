"""Two real processes over gloo compute what one does, and survive what may happen to one of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.core.training import parallel_job
from wavslm_core.data.audio import write_audio
from wavslm_core.errors import CheckpointError, LostProcessError, RecipeError, WavslmError
from wavslm_core.machine.joining import VARIABLES, join_processes
from wavslm_core.machine.process_group import SHOWN_GPUS, gpu_for
from wavslm_core.machine.processes import ALONE, Share
from wavslm_core.model.codec import Codec
from wavslm_core.model.discriminators import Discriminators
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.recipe.checks import check
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm
from wavslm_core.training.checkpoints import Checkpoints
from wavslm_core.training.sharded_checkpoints import read_sharded

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("parallel_job.py")
CLOSE = 1e-5
CODEC_STAGE = {
    "run": "train_codec",
    "steps": 10,
    "batch_size": 4,
    "lr": 2e-3,
    "crop_seconds": 0.5,
    "continuous_steps": 5,
    "spectral_windows": [256],
    "spectral_floor": 1e-3,
    "validate_every": 5,
    "log_every": 1,
    "precision": "fp32",
}
FOES = [{"name": "fake"}, {"name": "fake", "channels": 5}]
ADVERSARIAL_STAGE = {**CODEC_STAGE, "adversarial": {"discriminators": FOES, "starts_at_step": 2}}
PRETRAIN_STAGE = {
    "run": "pretrain_encoder",
    "encoder": {
        "name": "wavlm",
        "hidden_dims": [8, 8],
        "kernel_sizes": [20, 32],
        "strides": [10, 32],
        "num_layers": 1,
        "dim": 16,
        "ffn_dim": 16,
        "num_heads": 2,
        "num_buckets": 16,
        "max_distance": 24,
        "conv_pos": 8,
        "conv_pos_groups": 2,
    },
    "targets": {"clusters": 5},
    "mixing": {"probability": 0.5},
    "projection_dim": 8,
    "steps": 6,
    "batch_size": 4,
    "crop_seconds": 1.0,
    "lr": 2e-3,
    "validate_every": 3,
    "log_every": 1,
    "precision": "fp32",
}


def write_corpus(folder: Path) -> Path:
    random = np.random.default_rng(0)
    for split, sizes in (("train", 9), ("valid", 7)):
        for number in range(sizes):
            time_S = np.arange(round(16000 * (0.3 + 0.35 * number))) / 16000
            wave_S = 0.3 * np.sin(2 * np.pi * 110 * (1 + number) * time_S) * np.sin(7 * time_S)
            wave_S += 0.02 * random.normal(size=time_S.size)
            speaker = ("anna", "ben")[number % 2]
            write_audio(folder / split / f"{speaker}-{number}.wav", torch.from_numpy(wave_S).float(), 16000)
    return folder


class Runs:
    """Every job, done once: alone in this process, and by two processes in one group."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.script = parallel_job
        for split, size, seed in (("train", 40, 1), ("valid", 9, 2)):
            self.script.make_store(root / "stores" / split, size, seed=seed)
        self.corpus = write_corpus(root / "corpus")
        self.alone: dict[str, Any] = {}
        self.both: dict[str, list[Any]] = {}
        self.ends: dict[str, Any] = {}

    def lm(self, name: str, **more: Any) -> dict[str, Any]:
        run_dir = str(self.root / name)
        return {"do": "train_lm", "run_dir": run_dir, "stores": str(self.root / "stores"), **more}

    def gan(self, name: str, **more: Any) -> dict[str, Any]:
        return {"do": "train_gan", "run_dir": str(self.root / name), **more}

    def stage(self, name: str, stage: dict[str, Any], **more: Any) -> dict[str, Any]:
        run_dir = str(self.root / name / "run")
        return {"do": "run_stage", "run_dir": run_dir, "corpus": str(self.corpus), "stage": stage, **more}

    def do_alone(self, **jobs: dict[str, Any]) -> None:
        self.alone |= dict(zip(jobs, self.script.do_jobs(list(jobs.values())), strict=True))

    def do_together(self, *, dying: dict[str, dict[str, Any]], **jobs: dict[str, Any]) -> None:
        """Do jobs in one group of two processes, and those that one of them does not survive in their own."""
        groups = {"all": list(jobs.values())} | {name: [job] for name, job in dying.items()}
        path = self.root / "groups.json"
        path.write_text(json.dumps(groups))
        command = [sys.executable, str(SCRIPT), str(path)]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, timeout=1800)
        self.ends = json.loads((self.root / "ends.json").read_text())
        codes = [self.ends["all"][rank]["code"] for rank in ("0", "1")]
        assert codes == [0, 0], "\n".join(self.said("all", rank) for rank in (0, 1))
        found = [json.loads((self.root / f"all.{rank}").read_text()) for rank in (0, 1)]
        self.both |= {name: [part[place] for part in found] for place, name in enumerate(jobs)}

    def said(self, group: str, rank: int) -> str:
        """Return what a process wrote to standard error."""
        return (self.root / f"{group}.err.{rank}").read_text()

    def lines(self, name: str, split: str = "train") -> list[dict[str, Any]]:
        return [line for line in read_metrics(self.root / name / "metrics.jsonl") if line["split"] == split]

    def losses(self, name: str, split: str = "train") -> list[float]:
        return [line["loss"] for line in self.lines(name, split)]

    def weights(self, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
        states = torch.load(self.root / name / f"final-{rank}.pt", weights_only=True)
        return {f"{part}.{key}": value for part, state in states.items() for key, value in state.items()}

    def results(self, name: str, stage: str) -> Any:
        return json.loads((self.root / name / "run" / "results" / f"{stage}.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    pytest.importorskip("wavslm_wavlm")
    pytest.importorskip("wavslm_next_chunk")
    pytest.importorskip("wavslm_vector_quantize")
    runs = Runs(tmp_path_factory.mktemp("parallel"))
    tokenize = {"run": "tokenize", "shard_minutes": 0.04, "batch_seconds": 3.0}
    evaluate = {"run": "evaluate", "utterances": None, "batch_seconds": 3.0, "batch_tokens": 128}
    evaluate |= {"metrics": ["mel_distance"], "chunk_ahead": {"count": 4, "metrics": ["mel_distance"]}}
    evaluate |= {"continuations": {"count": 3, "prompt_seconds": 0.5, "seconds": 0.4}}
    generate = {"run": "generate", "prompts": 3, "prompt_seconds": 0.5, "new_seconds": 0.4}
    bsq = {"quantizer": {"name": "bsq"}}
    clustered = {"quantizer": {"name": "k_means", "codebook_size": 12}}
    codebook = {"initial": "random", "dead_code_share": 0.0}
    k_means = {"quantizer": {**clustered["quantizer"], "codebook": codebook}}
    for name in ("tokens-1", "tokens-2", "tokens-array"):
        torch.manual_seed(0)
        fake_codec().save(runs.root / name / "run" / "codec")
    stages = {
        "codec": runs.stage("codec-1", CODEC_STAGE),
        "k_means": runs.stage("k-means-1", CODEC_STAGE, recipe=k_means),
        "bsq": runs.stage("bsq-1", CODEC_STAGE, recipe=bsq),
        "adversarial": runs.stage("adversarial-1", ADVERSARIAL_STAGE),
    }
    pretrained: dict[str, dict[str, Any]] = {}
    if find_spec("sklearn") is not None:
        stages["pretrain"] = runs.stage("pretrain-1", PRETRAIN_STAGE)
        pretrained["pretrain"] = runs.stage("pretrain-2", PRETRAIN_STAGE)
        pretrained["pretrain_fsdp"] = runs.stage("pretrain-fsdp", PRETRAIN_STAGE, parallel="fsdp")
    runs.do_alone(
        one=runs.lm("one"),
        stopped=runs.lm("one-then-ddp", stop_at=[0, 12]),
        nan=runs.lm("nan-1", nan_at=[0, 3]),
        gan=runs.gan("gan"),
        tokens=runs.stage("tokens-1", tokenize),
        **stages,
    )
    shutil.copytree(runs.root / "one-then-ddp", runs.root / "one-then-fsdp")
    for name in ("tokens-1", "tokens-2"):
        torch.manual_seed(0)
        fake_speech_lm(Codec.load(runs.root / name / "run" / "codec")).save(
            runs.root / name / "run" / "speech_lm"
        )
    runs.do_alone(evaluate=runs.stage("tokens-1", evaluate), generate=runs.stage("tokens-1", generate))
    parts = {"options": {"accumulate": 2, "steps": 9, "validate_every": 3, "select": "best", "lr": 0.3}}
    runs.do_alone(parts=runs.lm("parts-1", **parts))
    runs.do_together(
        ddp=runs.lm("ddp"),
        fsdp=runs.lm("fsdp", parallel="fsdp"),
        ddp_parts=runs.lm("ddp-parts", **parts),
        fsdp_parts=runs.lm("fsdp-parts", parallel="fsdp", **parts),
        ddp_stopped=runs.lm("ddp-stopped", stop_at=[1, 12]),
        ddp_resumed=runs.lm("ddp-stopped"),
        fsdp_stopped=runs.lm("fsdp-stopped", parallel="fsdp", stop_at=[1, 12]),
        fsdp_resumed=runs.lm("fsdp-stopped", parallel="fsdp"),
        ddp_again=runs.lm("one-then-ddp"),
        fsdp_again=runs.lm("one-then-fsdp", parallel="fsdp"),
        nan=runs.lm("nan-2", nan_at=[1, 3]),
        bf16_ddp=runs.lm("bf16-ddp", options={"precision": "bf16", "steps": 3}),
        bf16_fsdp=runs.lm("bf16-fsdp", parallel="fsdp", options={"precision": "bf16", "steps": 3}),
        gan_ddp=runs.gan("gan-ddp"),
        gan_fsdp=runs.gan("gan-fsdp", parallel="fsdp", options={"activation_checkpointing": True}),
        gan_stopped=runs.gan("gan-stopped", parallel="fsdp", stop_at=[1, 12]),
        gan_resumed=runs.gan("gan-stopped", parallel="fsdp"),
        codec=runs.stage("codec-2", CODEC_STAGE),
        k_means=runs.stage("k-means-2", CODEC_STAGE, recipe=k_means),
        k_means_fsdp=runs.stage("k-means-fsdp", CODEC_STAGE, recipe=k_means, parallel="fsdp"),
        clustered=runs.stage("clustered", CODEC_STAGE, recipe=clustered),
        bsq=runs.stage("bsq-2", CODEC_STAGE, recipe=bsq),
        adversarial=runs.stage("adversarial-2", ADVERSARIAL_STAGE),
        adversarial_fsdp=runs.stage("adversarial-fsdp", ADVERSARIAL_STAGE, parallel="fsdp"),
        adversarial_stopped=runs.stage("adversarial-stopped", ADVERSARIAL_STAGE, stop_at=[1, 6]),
        adversarial_resumed=runs.stage("adversarial-stopped", ADVERSARIAL_STAGE),
        **pretrained,
        idle=runs.lm("idle", idle=True),
        learns_alone=runs.lm("learns-alone", learns_alone=True),
        tokens_stopped=runs.stage("tokens-2", tokenize, stop_at=[1, 2]),
        tokens=runs.stage("tokens-2", tokenize),
        evaluate_stopped=runs.stage("tokens-2", evaluate, stop_at=[1, 1]),
        evaluate=runs.stage("tokens-2", evaluate),
        generate=runs.stage("tokens-2", generate),
        uneven_work={"do": "divide_sleep", "seconds": [0.0, 3.0]},
        dying={
            "dies": runs.lm("dies", die_at=[1, 5]),
            "fails": runs.lm("fails", fail_at=[1, 5]),
            "dies_at_work": {"do": "divide_sleep", "seconds": [0.0, 1.0], "die": 1},
        },
    )
    for name in ("fsdp-then-one", "fsdp-damaged"):
        shutil.copytree(runs.root / "fsdp-stopped", runs.root / name)
    shutil.rmtree(runs.root / "fsdp-then-one/checkpoints/lm/step-00000020.shards")
    shutil.copytree(runs.root / "ddp-stopped", runs.root / "ddp-then-one")
    (runs.root / "ddp-then-one/checkpoints/lm/step-00000020.pt").unlink()
    runs.do_alone(
        fsdp_then_one=runs.lm("fsdp-then-one"),
        ddp_then_one=runs.lm("ddp-then-one"),
        array_2=runs.stage("tokens-array", tokenize, share=[1, 2]),
    )
    return runs


def assert_close(found: list[float], wanted: list[float], limit: float = CLOSE) -> None:
    assert len(found) == len(wanted)
    worst = max(abs(one - other) for one, other in zip(found, wanted, strict=True))
    assert worst <= limit, worst


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_losses_equal_those_of_one_process(runs: Runs, name: str) -> None:
    losses = runs.losses("one")
    assert len(losses) == 20
    assert losses[-1] < losses[0] - 0.01
    assert_close(runs.losses(name), losses)
    assert_close(runs.losses(name, "valid"), runs.losses("one", "valid"))
    norms = [[line["gradient_norm"] for line in runs.lines(run)] for run in (name, "one")]
    assert max(norms[1]) > 0.5, "nothing was clipped"
    assert_close(*norms, limit=1e-4)
    for first, second in zip(runs.lines(name), runs.lines("one"), strict=True):
        assert first["bits_per_token"] == pytest.approx(second["bits_per_token"], rel=1e-5)
    tokens = [both["results"]["tokens"] for both in runs.both[name]]
    assert tokens == [runs.alone["one"]["results"]["tokens"]] * 2


@pytest.mark.parametrize("name", ["ddp-parts", "fsdp-parts"])
def test_accumulation_and_the_best_weights_too(runs: Runs, name: str) -> None:
    # Then it goes wrong, as it has to for the best weights not to be the last, and differences grow.
    assert_close(runs.losses(name)[:6], runs.losses("parts-1")[:6], limit=1e-4)
    first, second = (found["results"] for found in runs.both[name.replace("-", "_")])
    assert first["selected_step"] == second["selected_step"]
    assert first["selected_step"] == runs.alone["parts"]["results"]["selected_step"] < 9


@pytest.mark.parametrize("name", ["ddp", "fsdp", "fsdp-parts"])
def test_the_model_that_is_left_is_an_ordinary_one(runs: Runs, name: str) -> None:
    assert [found["class"] for found in runs.both[name.replace("-", "_")]] == ["WavLMUpper"] * 2
    assert [found["sliced"] for found in runs.both[name.replace("-", "_")]] == [0 if name == "ddp" else 3] * 2
    first, second = runs.weights(name), runs.weights(name, rank=1)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    folder = runs.root / name / "speech_lm-0"
    loaded = SpeechLM.load(folder, codec=runs.script.make_model({}).codec)
    for key, value in loaded.backbone.state_dict().items():
        assert torch.equal(value, first[f"backbone.{key}"]), key
    assert {path.name for path in folder.iterdir()} == {
        path.name for path in (runs.root / "one/speech_lm-0").iterdir()
    }


def test_a_request_that_one_process_sees_stops_all_at_the_same_step(runs: Runs) -> None:
    for name in ("ddp_stopped", "fsdp_stopped"):
        assert [found["interrupted"] for found in runs.both[name]] == ["lm stopped at step 13 of 20"] * 2
    assert (runs.root / "one-then-fsdp/checkpoints/lm/step-00000020.shards").is_dir()


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_resumes_bit_equal(runs: Runs, name: str) -> None:
    assert [found["made"] for found in runs.both[f"{name}_resumed"]] == [list(range(13, 20))] * 2
    whole, resumed = runs.weights(name), runs.weights(f"{name}-stopped")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert runs.losses(f"{name}-stopped") == runs.losses(name)


@pytest.mark.parametrize("name", ["one-then-ddp", "one-then-fsdp", "fsdp-then-one", "ddp-then-one"])
def test_resumes_with_another_number_of_processes(runs: Runs, name: str) -> None:
    assert_close(runs.losses(name), runs.losses("one"))
    assert_close(runs.losses(name, "valid"), runs.losses("one", "valid"))
    made = [
        runs.both["ddp_again"],
        runs.both["fsdp_again"],
        [runs.alone["fsdp_then_one"]],
        [runs.alone["ddp_then_one"]],
    ]
    assert all(found["made"] == list(range(13, 20)) for part in made for found in part)


def test_a_damaged_shard_is_named_and_the_checkpoint_before_is_used(runs: Runs) -> None:
    checkpoints = Checkpoints(runs.root / "fsdp-damaged/checkpoints/lm", keep=2)
    assert checkpoints.steps("step") == [13, 20]
    found = checkpoints.latest()
    assert found is not None
    assert found["state"]["step"] == 20
    folder = checkpoints.path("step", 20)
    shards = sorted(path.name for path in folder.glob("shard-*.safetensors"))
    assert len(shards) == 2
    sizes = [(folder / name).stat().st_size for name in shards]
    assert max(sizes) < 0.6 * sum(sizes)
    states = read_sharded(found)
    assert {f"{part}.{key}" for part, state in states["modules"].items() for key in state} == set(
        runs.weights("fsdp")
    )
    data = bytearray((folder / shards[1]).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / shards[1]).write_bytes(data)
    assert checkpoints._read(folder)[1] == f"{folder / shards[1]} is damaged: its checksum is wrong"
    (folder / shards[1]).write_bytes(data[:-100])
    latest = checkpoints.latest()
    assert latest is not None
    assert latest["state"]["step"] == 13
    assert checkpoints.steps("step") == [13]
    (checkpoints.path("step", 13) / "about.pt").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint .*step-00000013\.shards/about\.pt does not"):
        checkpoints.latest()


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_processes_prove_their_precision_together(runs: Runs, name: str) -> None:
    chosen = [both["results"]["precision"] for both in runs.both[f"bf16_{name}"]]
    assert chosen[0] == chosen[1]
    assert (chosen[0]["trained"], chosen[0]["validated"]) == ("bf16", "fp32")
    assert {(row["what"], row["of"]) for row in chosen[0]["proof"]} >= {
        ("backbone", "gradient"),
        ("head", "gradient"),
        ("loss", "loss"),
    }
    # Not the same arithmetic as that of fp32, but near it.
    assert_close(runs.losses(f"bf16-{name}"), runs.losses("one")[:3], limit=0.05)


@pytest.mark.parametrize("name", ["gan-ddp", "gan-fsdp"])
def test_two_players_train_as_in_one_process(runs: Runs, name: str) -> None:
    for number in ("generator_loss", "critic_loss", "generator_gradient_norm", "critic_gradient_norm"):
        found, wanted = (
            [line[number] for line in runs.lines(run) if number in line] for run in (name, "gan")
        )
        assert len(wanted) == (21 if number.startswith("critic") else 24)
        assert_close(found, wanted, limit=1e-4)
    first, second = runs.weights(name), runs.weights(name, rank=1)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_two_players_in_shards_resume_bit_equal(runs: Runs) -> None:
    assert [found["interrupted"] for found in runs.both["gan_stopped"]] == [True] * 2
    assert [max(found["made"]) for found in runs.both["gan_resumed"]] == [23] * 2
    whole, resumed = runs.weights("gan-fsdp"), runs.weights("gan-stopped")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_what_is_not_finite_in_one_process_skips_the_step_in_all(runs: Runs) -> None:
    assert [found["results"]["skipped_steps"] for found in runs.both["nan"]] == [1, 1]
    assert_close(runs.losses("nan-2")[4:], runs.losses("nan-1")[4:])
    first, second = runs.weights("nan-2"), runs.weights("nan-2", rank=1)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_a_codec_whose_codes_come_later(runs: Runs) -> None:
    """For five steps, what turns codes into features gets no gradient."""
    assert_close(runs.losses("codec-2/run"), runs.losses("codec-1/run"))
    assert_close(runs.losses("codec-2/run", "valid"), runs.losses("codec-1/run", "valid"), limit=1e-4)


def test_the_entropy_of_codes_is_that_of_the_whole_batch(runs: Runs) -> None:
    assert_close(runs.losses("bsq-2/run"), runs.losses("bsq-1/run"))
    entropies = [[line["entropy"] for line in runs.lines(f"bsq-{number}/run")] for number in (1, 2)]
    assert_close(*entropies, limit=1e-4)


@pytest.mark.parametrize("name", ["pretrain-2", "pretrain-fsdp"])
def test_what_is_mixed_in_and_hidden_depends_on_no_number_of_processes(runs: Runs, name: str) -> None:
    pytest.importorskip("sklearn")
    assert len(runs.losses("pretrain-1/run")) == 6
    assert_close(runs.losses(f"{name}/run"), runs.losses("pretrain-1/run"), limit=1e-6)
    assert_close(runs.losses(f"{name}/run", "valid"), runs.losses("pretrain-1/run", "valid"), limit=1e-6)


@pytest.mark.parametrize("name", ["k-means-2", "k-means-fsdp"])
def test_a_codebook_without_gradients_learns_from_all_processes(runs: Runs, name: str) -> None:
    assert_close(runs.losses(f"{name}/run"), runs.losses("k-means-1/run"), limit=1e-4)
    assert runs.losses("clustered/run")[-1] < runs.losses("clustered/run")[0]
    assert runs.lines("clustered/run", "valid")[-1]["codes_used"] > 4


@pytest.mark.parametrize("name", ["adversarial-2", "adversarial-fsdp", "adversarial-stopped"])
def test_training_against_discriminators_is_that_of_one_process(runs: Runs, name: str) -> None:
    found, wanted = runs.lines(f"{name}/run"), runs.lines("adversarial-1/run")
    assert len(found) == len(wanted) == 10
    told = {key for key in wanted[-1] if key.startswith(("codec_", "discriminators_"))}
    assert {"codec_feature_matching", "discriminators_loss", "discriminators_gradient_norm"} <= told
    # What is counted in a batch is a mean over the counts of each process.
    told -= {key for key in told if key.endswith("in_batch")}
    for one, other in zip(found, wanted, strict=True):
        near = {key: other[key] for key in told & other.keys()}
        assert {key: one[key] for key in near} == pytest.approx(near, rel=1e-5, abs=1e-6)
    foes = [Discriminators.load(runs.root / run / "run").state_dict() for run in (name, "adversarial-1")]
    assert any(key.endswith("_u") for key in foes[0])
    for key, value in foes[0].items():
        assert torch.allclose(value, foes[1][key], rtol=0, atol=1e-6), key


def test_training_against_discriminators_resumes_bit_equal_in_several_processes(runs: Runs) -> None:
    assert runs.both["adversarial_stopped"] == [{"interrupted": True}] * 2
    whole, resumed = (
        Discriminators.load(runs.root / name / "run").state_dict()
        for name in ("adversarial-2", "adversarial-stopped")
    )
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert runs.losses("adversarial-stopped/run") == runs.losses("adversarial-2/run")


def test_a_buffer_that_learns_in_each_process_alone_is_refused(runs: Runs) -> None:
    first, second = runs.both["learns_alone"]
    assert first["made"] == second["made"] == [0]
    assert first["failed"] == second["failed"]
    assert first["failed"].startswith("the buffer backbone.mean is not the same in all processes")


def test_tokens_are_shared_without_a_duplicate_or_a_gap(runs: Runs) -> None:
    assert runs.both["tokens_stopped"] == [{"interrupted": True}] * 2
    for split in ("train", "valid"):
        one, two = (runs.root / f"tokens-{number}/run/tokens/{split}" for number in (1, 2))
        names = sorted(
            path.name for path in one.rglob("*") if path.suffix == ".bin" or path.name == "ids.txt"
        )
        assert len(names) > 3
        for name in names:
            (first,), (second,) = one.rglob(name), two.rglob(name)
            assert first.read_bytes() == second.read_bytes(), name


def test_a_part_of_a_job_array_leaves_the_finishing_to_the_next(runs: Runs) -> None:
    folder = runs.root / "tokens-array/run"
    assert not (folder / "results").exists()
    records = sorted(path.stem for path in (folder / "tokens/train/records").iterdir())
    total = len(list((runs.root / "tokens-1/run/tokens/train/records").iterdir()))
    assert records == [f"{number:05d}" for number in Share(1, 2).pieces(total)]
    before = {path: path.stat().st_mtime_ns for path in (folder / "tokens/train/records").iterdir()}
    stage = {"run": "tokenize", "shard_minutes": 0.04, "batch_seconds": 3.0}
    runs.do_alone(array_rest=runs.stage("tokens-array", stage))
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert len(list((folder / "tokens/train/records").iterdir())) == total
    first, second = runs.results("tokens-array", "tokenize"), runs.results("tokens-1", "tokenize")
    assert first["splits"]["train"]["tokens"] == second["splits"]["train"]["tokens"]


VOLATILE = {"seconds", "times_real_time", "work_seconds", "p_seconds"}


def stable(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: stable(value) for key, value in document.items() if key not in VOLATILE}
    return [stable(item) for item in document] if isinstance(document, list) else document


@pytest.mark.parametrize("stage", ["tokenize", "evaluate", "generate"])
def test_results_are_those_of_one_process(runs: Runs, stage: str) -> None:
    first, second = runs.results("tokens-1", stage), runs.results("tokens-2", stage)
    assert stable(first) == stable(second)
    if stage == "evaluate":
        assert runs.both["evaluate_stopped"] == [{"interrupted": True}] * 2
        assert first["codec"]["utterances"] == 7
        assert first["language_model"]["baselines"]


def test_a_process_is_waited_for_as_long_as_it_works(runs: Runs) -> None:
    assert runs.both["uneven_work"] == [[0.0, 3.0]] * 2


def test_processes_train_without_a_warning(runs: Runs) -> None:
    assert "Warning" not in runs.said("fails", 0) + runs.said("fails", 1)


def test_a_weight_that_no_loss_reaches_is_named(runs: Runs) -> None:
    for found in runs.both["idle"]:
        assert found["made"] == [0]
        assert found["failed"].startswith("backbone.idle.weight, backbone.idle.bias got no gradient")


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("dies", -signal.SIGKILL, "it said nothing: was it killed"),
        ("fails", 2, "the dog ate this batch"),
        ("dies_at_work", -signal.SIGKILL, "it said nothing: was it killed"),
    ],
)
def test_a_lost_process_ends_the_others_soon_and_by_name(
    runs: Runs, name: str, code: int, reason: str
) -> None:
    first, second = runs.ends[name]["0"], runs.ends[name]["1"]
    assert (first["code"], second["code"]) == (2, code)
    assert first["time"] - second["time"] < 30
    said = runs.said(name, 0)
    last = said.strip().splitlines()[-1]
    assert "LostProcessError: process 0 of 2 lost another one" in last
    assert reason in last
    assert "Traceback" not in said


def test_a_batch_that_processes_cannot_share_is_told_before_anything_runs(tmp_path: Path) -> None:
    job = {"corpus": str(tmp_path), "stage": CODEC_STAGE}
    script = parallel_job
    check(script.stage_recipe(job | {"recipe": {"launch": {"on": "local", "processes": 4}}}))
    message = (
        r"train_codec\.batch_size is 4 over all processes, which 3 processes cannot .* choose batch_size 6"
    )
    for launch in ({"on": "local", "processes": 3}, {"on": "slurm", "nodes": 3, "tasks_per_node": 1}):
        with pytest.raises(RecipeError, match=message):
            check(script.stage_recipe(job | {"recipe": {"launch": launch}}))


def test_processes_that_cannot_be_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with join_processes() as processes:
        assert processes is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(WavslmError, match=r"MASTER_ADDR=, MASTER_PORT=, RANK=0.* set each of them"):
        join_processes().__enter__()
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(LostProcessError, match=r"process 1 of 2 does not reach the others at 127\.0\.0\.1:1"):
        join_processes("cpu", patience_s=1).__enter__()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_processes_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, ("127.0.0.1", "1", "1", "2", "1"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(WavslmError, match=r"2 processes on .* need a GPU each, and PyTorch sees 0 there"):
        join_processes("cuda", patience_s=1).__enter__()


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SHOWN_GPUS, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert [gpu_for(rank, gpus=2) for rank in (0, 1)] == [0, 1]
    for rank, gpus in ((2, 2), (1, 1)):
        with pytest.raises(WavslmError, match=f"{rank + 1} processes on .* and PyTorch sees {gpus} there"):
            gpu_for(rank, gpus=gpus)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(WavslmError, match="4 processes on"):
        gpu_for(0, gpus=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert gpu_for(3, gpus=1) == 0
