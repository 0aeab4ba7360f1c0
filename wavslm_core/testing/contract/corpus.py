"""The contract of corpora, held over the first and the last utterances of each split."""

import json
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from wavslm_core.data.corpora import Corpus, Utterance, durations_s
from wavslm_core.errors import DataError
from wavslm_core.parts.configs import CorpusConfig
from wavslm_core.testing.contract.config_checks import ConfigChecks

OTHER_RATE_HZ = 8000
NO_SPLIT = "no-such-split"


class CorpusContract(ConfigChecks):
    def built(self) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return self.corpus(Path(folder))

    def corpus(self, cache_dir: Path) -> Corpus:
        corpus: Corpus = self.subject.registry.build(self.subject.config, cache_dir=cache_dir)
        return corpus

    def few(self, corpus: Corpus) -> list[Utterance]:
        """Return the first and the last utterance of each split."""
        found = [corpus.utterances(split) for split in self.subject.splits]
        return [utterances[place] for utterances in found for place in (0, len(utterances) - 1)]

    def test_splits_have_utterances(self, tmp_path: Path) -> None:
        corpus = self.corpus(tmp_path)
        seen: dict[str, str] = {}
        for split in self.subject.splits:
            utterances = list(corpus.utterances(split))
            self.require(bool(utterances), f"its split '{split}' is empty", "a split has utterances")
            for utterance in utterances:
                self.require(
                    utterance.id not in seen,
                    f"'{utterance.id}' is in {seen.get(utterance.id)} and in {split}",
                    "an id is unique within its corpus, and no utterance is in two splits",
                )
                seen[utterance.id] = split
                self.require(
                    utterance.samples > 0 and utterance.sample_rate_hz > 0,
                    f"'{utterance.id}' has {utterance.samples} samples at {utterance.sample_rate_hz} Hz",
                    "lengths and rates are known before audio is read",
                )
            told = durations_s(corpus.utterances(split)).tolist()
            self.require(
                told == pytest.approx([utterance.seconds for utterance in utterances]),
                f"durations_s() of '{split}' disagrees with its utterances",
                "a table of durations tells those of the utterances",
            )

    def test_opened_again_it_is_the_same(self, tmp_path: Path) -> None:
        first, second = self.corpus(tmp_path / "a"), self.corpus(tmp_path / "b")
        for split in self.subject.splits:
            self.require(
                list(first.utterances(split)) == list(second.utterances(split)),
                f"opened twice, '{split}' has other utterances or another order",
                "utterances come in a fixed order, so that a run can continue",
            )
            marks = [json.dumps(corpus.fingerprint(split), sort_keys=True) for corpus in (first, second)]
            self.require(
                marks[0] == marks[1],
                f"opened twice, '{split}' has the fingerprints {marks[0]} and {marks[1]}",
                "a fingerprint is JSON that changes when the audio does, and only then",
            )

    def test_audio(self, tmp_path: Path) -> None:
        corpus = self.corpus(tmp_path)
        for utterance in self.few(corpus):
            audio_S = corpus.load(utterance, sample_rate_hz=utterance.sample_rate_hz)
            whole = audio_S.ndim == 1 and audio_S.dtype == torch.float32 and bool(audio_S.isfinite().all())
            self.require(
                whole and float(audio_S.abs().max()) <= 1.0,
                f"load() gave {list(audio_S.shape)} {audio_S.dtype} up to {float(audio_S.abs().max()):.3g}",
                "audio is (S,) float32, finite and in [-1, 1]",
            )
            self.require(
                len(audio_S) == utterance.samples,
                f"'{utterance.id}' has {len(audio_S)} samples, and {utterance.samples} were told",
                "an utterance is as long as it says",
            )
            again_S = corpus.load(utterance, sample_rate_hz=utterance.sample_rate_hz)
            self.require_same(
                again_S, audio_S, "loaded again, it differs", "audio stays the same", tolerance=0
            )
            other_S = corpus.load(utterance, sample_rate_hz=OTHER_RATE_HZ)
            expected = utterance.samples * OTHER_RATE_HZ / utterance.sample_rate_hz
            self.require(
                abs(len(other_S) - expected) <= 1,
                f"at {OTHER_RATE_HZ} Hz '{utterance.id}' has {len(other_S)} samples, not {expected:.0f}",
                "load() gives audio at the rate that is asked for",
            )

    def test_crops(self, tmp_path: Path) -> None:
        corpus = self.corpus(tmp_path)
        rule = "load_crop() gives what load() does between start and start + samples; fewer at the end"
        for utterance in self.few(corpus):
            for rate_hz in (utterance.sample_rate_hz, OTHER_RATE_HZ):
                audio_S = corpus.load(utterance, sample_rate_hz=rate_hz)
                size = len(audio_S)
                for start, samples in ((0, size // 2), (size // 3, size // 4), (size - size // 4, size)):
                    crop_S = corpus.load_crop(utterance, start=start, samples=samples, sample_rate_hz=rate_hz)
                    self.require_same(
                        crop_S,
                        audio_S[start : start + samples],
                        f"a crop of '{utterance.id}' from {start} at {rate_hz} Hz differs",
                        rule,
                        tolerance=1e-3,
                    )

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        rule = "a split that the corpus does not have is a DataError"
        try:
            list(self.corpus(tmp_path).utterances(NO_SPLIT))
        except DataError:
            return
        except Exception as error:
            self.require(False, f"its split '{NO_SPLIT}' raises {type(error).__name__}", rule)
        self.require(False, f"it has a split '{NO_SPLIT}'", rule)

    def test_what_it_expects(self, tmp_path: Path) -> None:
        config = cast(CorpusConfig, self.subject.config)
        for split in self.subject.splits:
            expected = config.expected_seconds(split)
            if expected is None:
                continue
            seconds = float(durations_s(self.corpus(tmp_path).utterances(split)).sum())
            self.require(
                0.5 * expected <= seconds <= 2 * expected,
                f"expected_seconds('{split}') is {expected:.0f}, and there are {seconds:.0f} s",
                "plans are made of what it expects: say None where that is not known",
            )
