"""An evaluation in a folder: suites checked, pairs scored, everything that is reported of them written.

What was scored before an interruption is kept in `scores/` and not scored again, as long as it is of the same
model, the same codec and the same recordings. Another model is refused: its numbers would be mixed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from wavslm_core.data.suites import Suite
from wavslm_core.errors import DataError
from wavslm_core.evaluation.config import LikelihoodRules
from wavslm_core.evaluation.line_folder import LineFolder, line_text, read_whole_lines
from wavslm_core.evaluation.pair_data import CheckedSuite, check_suites
from wavslm_core.evaluation.pair_scores import (
    PairScore,
    TokenCache,
    codec_digest,
    model_digest,
    score_pairs,
)
from wavslm_core.evaluation.suite_marks import Marks
from wavslm_core.evaluation.suite_tables import (
    captioned,
    official_texts,
    rules_in_words,
    suite_document,
    tables_markdown,
)
from wavslm_core.machine.files import remove, write_json, write_text
from wavslm_core.machine.json_files import read_json
from wavslm_core.machine.processes import ALONE, WHOLE, Processes, Share
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.configs import SuiteConfig
from wavslm_core.parts.estimates import json_value
from wavslm_core.parts.plugins import load_registry

HEADER_FILE = "evaluation.json"
RESULTS_FILE = "results.json"
PAIRS_FILE = "pairs.jsonl"
TABLE_FILE = "table.md"
SCORES_DIR = "scores"
MARKS_DIR = "marks"
"""Holds the pairs as each mark scores them."""
ELSEWHERE = "Evaluate into another folder, or delete this one"


@dataclass(frozen=True)
class EvaluationHeader:
    """What all scores in a folder have in common."""

    model: str
    """Digest of backbone and head."""
    codec: str
    local_seconds: float | None
    suites: tuple[str, ...]
    """Labels, sorted."""


def built_suites(configs: Iterable[SuiteConfig], *, cache_dir: Path) -> dict[str, Suite[Any]]:
    """Return label → suite; what a suite makes is kept in `cache_dir`.

    Raises: DataError for a label that is there twice; PluginError.
    """
    suites: dict[str, Suite[Any]] = {}
    for config in configs:
        label = config.shown_name
        if label in suites:
            raise DataError(
                f"suite '{label}' is given twice; give one of them another `label`, such as "
                f"{{name: {config.registered_name()}, label: {label}_2, …}}"
            )
        suites[label] = load_registry().build(config, cache_dir=cache_dir)
    return suites


def evaluate_suites(
    speech_lm: SpeechLM,
    suites: Mapping[str, Suite[Any]],
    out: Path,
    *,
    reference: str,
    cache_dir: Path,
    rules: LikelihoodRules | None = None,
    allow_partial: bool = False,
    batch_seconds: float = 60.0,
    marks: Marks | None = None,
    share: Share = WHOLE,
    processes: Processes = ALONE,
    stop_requested: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Score suites, label → suite, and write what is reported into `out`; return `results.json`.

    `reference` is what the model is called; `marks` stand beside it. Tokens are kept in `cache_dir`. A
    partial share scores its part of the pairs and returns None: whoever comes next without one puts them
    together. Raises: DataError for faulty data and for a folder with the scores of another model;
    Interrupted.
    """
    rules = rules or LikelihoodRules()
    header = EvaluationHeader(
        model_digest(speech_lm), codec_digest(speech_lm.codec), rules.local_seconds, tuple(sorted(suites))
    )
    with processes.rank_0_first("evaluation header"):
        _check_header(out, header)
    began = time.monotonic()
    checked = check_suites(
        suites,
        allow_partial=allow_partial,
        share=share,
        processes=processes,
        stop_requested=stop_requested,
    )
    if processes.rank == 0:
        write_json(out / HEADER_FILE, asdict(header))
    work = [(suite, pair) for suite in checked for pair in suite.pairs]
    lines = LineFolder(out / SCORES_DIR, PairScore)
    known = _known(out, lines)
    places = [
        place
        for place, (suite, pair) in enumerate(work)
        if not ((found := known.get((suite.label, pair.id))) and found.is_of(pair, suite))
    ]
    # What rank 0 sees counts: others may look while it writes.
    places = processes.broadcast(places)
    try:
        new = score_pairs(
            speech_lm,
            [work[place] for place in places],
            cache=TokenCache.open(cache_dir / "suite_tokens", speech_lm.codec),
            local_seconds=rules.local_seconds,
            batch_seconds=batch_seconds,
            after_each=lines.add,
            processes=processes,
            stop_requested=stop_requested,
        )
    finally:
        lines.close()
    if share.partial:
        return None
    fresh = {(found.suite, found.id): found for found in new}
    scores = [fresh.get((suite.label, pair.id)) or known[suite.label, pair.id] for suite, pair in work]
    documents = {suite.label: suite_document(suite, _of(suite, scores), rules) for suite in checked}
    beside: dict[str, list[PairScore]] = {}
    # Quick, and only rank 0 writes it down.
    if marks is not None and processes.rank == 0:
        cache = TokenCache.open(cache_dir / "suite_tokens", speech_lm.codec)
        for name in marks.ngrams:
            beside[name] = score_pairs(
                speech_lm,
                work,
                cache=cache,
                scorer=marks.scorer(name),
                title=name,
                local_seconds=rules.local_seconds,
                batch_seconds=batch_seconds,
                stop_requested=stop_requested,
            )
        cache.lines.close()
        for suite in checked:
            documents[suite.label]["marks"] = {
                name: suite_document(suite, _of(suite, found), rules)["numbers"]
                for name, found in beside.items()
            }
    results: dict[str, Any] = {
        "wavslm": version("wavslm-core"),
        "model": {"reference": reference, "digest": header.model, "codec": speech_lm.checkpoint_codec},
        "codec": {"digest": header.codec, **speech_lm.codec.fingerprint()},
        "rules": {**rules.model_dump(mode="json"), "text": rules_in_words(speech_lm, rules)},
        "marks": None if marks is None else {"tokens": marks.tokens, "text": marks.in_words()},
        "configs": {suite.label: suite.suite.config.model_dump(mode="json") for suite in checked},
        "files_scored": 2 * len(new),
        "seconds": time.monotonic() - began,
    }
    results["suites"] = {label: captioned(found, results) for label, found in documents.items()}
    document: dict[str, Any] = json_value(results)
    if processes.rank == 0:
        _write(out, document, checked, scores, rules, beside)
    return document


def _lines(scores: Sequence[PairScore]) -> str:
    return "".join(f"{line_text(found)}\n" for found in scores)


def _of(suite: CheckedSuite, scores: Sequence[PairScore]) -> list[PairScore]:
    return [found for found in scores if found.suite == suite.label]


def _check_header(out: Path, header: EvaluationHeader) -> None:
    """Raises: DataError when a folder holds the scores of another model, or of suites that are not named."""
    path = out / HEADER_FILE
    try:
        found = read_json(path, EvaluationHeader, remedy=f"{ELSEWHERE}.")
    except FileNotFoundError:
        return
    words = {"model": "language model", "codec": "codec", "local_seconds": "`local_seconds`"}
    differing = [word for key, word in words.items() if getattr(found, key) != getattr(header, key)]
    if differing:
        raise DataError(f"{out} holds the scores of another {' and '.join(differing)}. {ELSEWHERE}")
    lacking = [label for label in found.suites if label not in header.suites]
    if lacking:
        raise DataError(
            f"{out} holds {', '.join(lacking)} too, which would be lost: name them as well. {ELSEWHERE}"
        )


def _known(out: Path, lines: LineFolder[PairScore]) -> dict[tuple[str, str], PairScore]:
    """Return the scores that are there, whole or from before an interruption."""
    finished = read_whole_lines(out / PAIRS_FILE, PairScore)
    return {(found.suite, found.id): found for several in (finished, lines.read()) for found in several}


def _write(
    out: Path,
    results: Mapping[str, Any],
    checked: Sequence[CheckedSuite],
    scores: Sequence[PairScore],
    rules: LikelihoodRules,
    marks: Mapping[str, Sequence[PairScore]],
) -> None:
    """Write everything that is reported. Raises: DataError."""
    texts = {PAIRS_FILE: _lines(scores)}
    texts |= {
        f"{MARKS_DIR}/{name.replace(',', '').replace(' ', '_')}.jsonl": _lines(found)
        for name, found in marks.items()
    }
    for suite in checked:
        texts |= official_texts(suite, _of(suite, scores), rules)
    texts[TABLE_FILE] = tables_markdown(results)
    for path, text in texts.items():
        write_text(out / path, text)
    write_json(out / RESULTS_FILE, results)
    remove(out / SCORES_DIR)
