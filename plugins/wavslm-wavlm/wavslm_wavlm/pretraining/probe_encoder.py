"""`probe_encoder`: what a straight line reads out of an encoder's features, trained and untrained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wavslm_core.plugin import CheckpointError, RecipeView, Stage, StageContext, WavslmError
from wavslm_wavlm.pretraining.config import PRETRAIN, ProbeEncoderConfig

if TYPE_CHECKING:
    from wavslm_core.plugin import Split
    from wavslm_wavlm.encoder import WavLM
    from wavslm_wavlm.pretraining.probes import Reading

PROBES = {"speaker": "Speaker of an utterance", "sound": "Sound of a frame"}


class ProbeEncoder(Stage[ProbeEncoderConfig]):
    """Leaves its numbers in `results/probe_encoder.json`, and a table for the report among them."""

    def left_results(self, context: StageContext) -> bool:
        return self.results_file(context).exists()

    def run(self, context: StageContext) -> None:
        from wavslm_core.plugin import load_encoder, load_registry, seed_torch, spread
        from wavslm_wavlm.encoder import WavLM
        from wavslm_wavlm.pretraining.clusters import sklearn

        sklearn("linear_model")
        place = context.found(self.config.place)
        if place is None:
            raise WavslmError(f"{context.run_dir} holds no {self.config.place}: {PRETRAIN}")
        trained = load_encoder(place)
        if not isinstance(trained, WavLM):
            raise CheckpointError(
                f"{self.config.place} is a '{trained.config.registered_name()}', but a `wavlm` is probed"
            )
        # As it was before its first step, unless the stage that trained it had a seed of its own.
        seed_torch(context.recipe.seed, "init", "pretrain_encoder")
        untrained = load_registry().build(trained.config)
        split = context.split(self.config.split)
        indices = spread(len(split.utterances), self.config.utterances)
        # Every process would find the same.
        results = {} if context.rank else self._probed(trained, untrained, split, indices, context)
        self.write_results(context, results)

    def _probed(
        self, trained: WavLM, untrained: WavLM, split: Split, indices: list[int], context: StageContext
    ) -> dict[str, Any]:
        from wavslm_wavlm.pretraining.features import Cepstra, HiddenStates
        from wavslm_wavlm.pretraining.probes import read_sounds, read_speakers, rows_of, sounds_of

        config = self.config
        halves = split_in_two(split, indices)
        cepstra = rows_of(
            Cepstra(trained, normalized=True), split, indices, "cepstra", context.stop_requested
        )
        sounds = sounds_of(cepstra, halves, count=config.sounds, seed=context.recipe.seed)
        found: dict[str, dict[str, Reading | None]] = {probe: {} for probe in PROBES}
        for name, encoder in (("trained", trained), ("untrained", untrained)):
            hop_samples = encoder.config.hop_samples
            states = HiddenStates(encoder, layer=config.layer, hop_samples=hop_samples, device=context.device)
            rows = rows_of(states, split, indices, name, context.stop_requested)
            speakers = {index: split.utterances[index].speaker for index in indices}
            found["speaker"][name] = read_speakers(rows, speakers, halves)
            found["sound"][name] = read_sounds(rows, sounds, halves, frames=config.frames)
        probes = {probe: _document(readings) for probe, readings in found.items()}
        return {
            "split": config.split,
            "utterances": len(indices),
            "layer": config.layer,
            "probes": probes,
            "tables": [_table(probes, f"{config.place}, {len(indices)} utterances of '{config.split}'")],
        }

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        layer = "its features" if self.config.layer is None else f"layer {self.config.layer}"
        return {"probes": f"{self.config.place}, {layer}", "split": self.config.split}


def split_in_two(split: Split, indices: list[int]) -> tuple[list[int], list[int]]:
    """Return the utterances that teach and those that are asked: each speaker's in turns."""
    halves: tuple[list[int], list[int]] = ([], [])
    seen: dict[str | None, int] = {}
    for index in indices:
        speaker = split.utterances[index].speaker
        halves[seen.get(speaker, 0) % 2].append(index)
        seen[speaker] = seen.get(speaker, 0) + 1
    return halves


def _document(readings: dict[str, Reading | None]) -> dict[str, Any] | None:
    """Return what was read by each name; None where there was nothing to tell apart."""
    documents = {name: reading.to_dict() for name, reading in readings.items() if reading is not None}
    return documents or None


def _table(probes: dict[str, Any], about: str) -> dict[str, Any]:
    """Return what the report shows."""
    rows = []
    for probe, found in probes.items():
        for name, reading in (found or {}).items():
            accuracy = reading["accuracy"]
            rows.append([PROBES[probe], name, accuracy["mean"], accuracy["interval"], reading["chance"]])
    return {
        "caption": f"Linear probes of {about}: share that is right, 95% intervals over utterances",
        "header": ["", "encoder", "right", "95%", "most frequent"],
        "rows": rows,
    }
