"""`pretrain_encoder`: an encoder of one's own, from speech alone, by masked prediction and denoising."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wavslm_core.plugin import RecipeError, RecipeView, StageContext, TrainingStage
from wavslm_wavlm.pretraining.config import PretrainEncoderConfig

if TYPE_CHECKING:
    from wavslm_core.plugin import Task, TrainState
    from wavslm_wavlm.encoder import WavLM
    from wavslm_wavlm.pretraining.clusters import Clusters
    from wavslm_wavlm.pretraining.features import ClusteredFeatures


class PretrainEncoder(TrainingStage[PretrainEncoderConfig, "WavLM"]):
    """Leaves the encoder in `encoder`, the centroids of its targets in `clusters`.

    Clusters are made once, in the first process: a run that goes on predicts what it predicted before.
    """

    def build_model(self, context: StageContext) -> WavLM:
        from wavslm_core.plugin import load_encoder, load_registry, seed_torch
        from wavslm_wavlm.encoder import WavLM
        from wavslm_wavlm.pretraining.clusters import sklearn

        # Before anything takes minutes.
        sklearn("cluster")
        start = self.config.start_places().get("encoder")
        if start is None:
            seed_torch(self.config.seed_in(context), "init", self.config.run)
            encoder = load_registry().build(self.config.trained_config(context.recipe))
        else:
            encoder = load_encoder(context.start(start))
        if not isinstance(encoder, WavLM) or encoder.config.causal:
            raise RecipeError(f"starts_from: {start} is no WavLM with full context, which is what is trained")
        return encoder.to(context.device)

    def make_task(self, model: WavLM, context: StageContext) -> Task:
        from wavslm_wavlm.pretraining.clusters import cluster_labels
        from wavslm_wavlm.pretraining.mixing import Mixing
        from wavslm_wavlm.pretraining.prediction import ClusterPredictor
        from wavslm_wavlm.pretraining.task import MaskedPrediction

        config, hop = self.config, model.config.hop_samples
        predictor = ClusterPredictor(
            model.config.dim,
            config.targets.clusters,
            projection_dim=config.projection_dim,
            temperature=config.temperature,
        )
        features = self._features(model, context)
        clusters = self._clusters(features, context, hop_samples=hop)
        splits = {name: context.split(name) for name in ("train", "valid")}
        labels = {
            name: cluster_labels(clusters, features, split, context, hop_samples=hop)
            for name, split in splits.items()
        }
        return MaskedPrediction(
            model,
            predictor.to(context.device),
            **splits,
            labels=labels,
            mixing=Mixing(config.mixing, splits["train"], self._noise(context)),
            config=config,
            batching=config.batching(context),
            processes=context.processes,
        )

    def _features(self, model: WavLM, context: StageContext) -> ClusteredFeatures:
        from wavslm_core.plugin import load_encoder, load_registry, seed_torch
        from wavslm_wavlm.pretraining.features import Cepstra, HiddenStates

        targets = self.config.targets
        if targets.encoder is None:
            return Cepstra(model, normalized=targets.cepstra == "normalized")
        if isinstance(targets.encoder, str):
            encoder = load_encoder(context.start(f"{targets.encoder}/encoder"))
        else:
            seed_torch(self.config.seed_in(context), "targets")
            encoder = load_registry().build(targets.encoder)
        hop_samples = model.config.hop_samples
        return HiddenStates(encoder, layer=targets.layer, hop_samples=hop_samples, device=context.device)

    def _clusters(self, features: ClusteredFeatures, context: StageContext, *, hop_samples: int) -> Clusters:
        """Return those that this run has, or fit some, in the first process."""
        from wavslm_wavlm.pretraining.clusters import Clusters, fit_clusters

        place = context.place("clusters")
        with context.processes.rank_0_first(f"clusters of {self.name_in(context)}"):
            if not place.exists():
                fit_clusters(
                    features,
                    context.split("train"),
                    count=self.config.targets.clusters,
                    frames=self.config.targets.fitted_frames,
                    hop_samples=hop_samples,
                    seed=self.config.seed_in(context),
                    stop_requested=context.stop_requested,
                ).save(place)
        return Clusters.load(place)

    def _noise(self, context: StageContext) -> Any:
        """Return the split that noise is taken from, None: it is made."""
        from wavslm_core.plugin import DataConfig, open_split

        noise = self.config.mixing.noise
        if noise is None:
            return None
        with context.processes.rank_0_first("noise"):
            return open_split(DataConfig((("train", noise),)), "train", cache_dir=context.cache_dir)

    def leave(self, model: WavLM, state: TrainState, context: StageContext) -> dict[str, Any]:
        from wavslm_core.plugin import save_encoder

        save_encoder(context.place("encoder"), model.eval())
        parameters = sum(weight.numel() for weight in model.parameters())
        return {"parameters": {"encoder": parameters}}

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        config, targets = self.config, self.config.targets
        seconds = config.steps * config.batch_size * config.crop_seconds
        encoder = targets.encoder
        name = encoder if encoder is None or isinstance(encoder, str) else encoder.registered_name()
        features = f"{targets.cepstra} MFCCs" if name is None else f"hidden states of {name}"
        return {
            "predicts": f"{targets.clusters} clusters of {features}",
            "batch": f"{config.batch_size} × {config.crop_seconds:g} s",
            "hours of audio": round(seconds / 3600, 2),
            "precision": config.precision_plan,
            **(config.start_plan or {"starts from": "random weights"}),
        }
