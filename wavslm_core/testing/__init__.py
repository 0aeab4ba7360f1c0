"""For the tests of wavslm and of plugins: the contract of every role, and small real parts.

Two lines prove a part; pytest collects a test for every thing that the contract of its role asks:

    from wavslm_core.testing import contract_tests
    TestMine = contract_tests(MyQuantizerConfig(input_dim=8))

Needs pytest, and torch once a contract is asked for; importing this module needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wavslm_core.parts.configs import Config, PartConfig, Role
from wavslm_core.parts.registry import Registry


def contract_tests(
    config: Config,
    *,
    no_gradient: Mapping[str, str] | None = None,
    no_export: str | None = None,
    prepare: Callable[[Any], None] | None = None,
    splits: Sequence[str] = ("train", "valid"),
    parts: Mapping[Role, PartConfig] | None = None,
    registry: Registry | None = None,
) -> type:
    """Return a class of tests that hold what this config stands for to the contract of its role.

    Give a small config, as the part is built once a test: widths around 16, windows of a few chunks, and
    for heads a codebook of at most 64; stages of a few steps, corpora of seconds. Linked fields (`input_dim`,
    `vocab_size`) must be given.

    `no_gradient`: pattern of parameter names → why training leaves them alone.
    `no_export`: why `torch.export` cannot take the part.
    `prepare`: called with each part that was built, such as to fit what is not trained by gradients.
    `splits`: of a corpus, those that it has.
    `parts`: role → config of small parts: those that a format can hold; those that a stage runs with in place
    of fakes.
    `registry`: where the part is registered; what is installed by default.

    Raises: ValueError when a linked field or the parts of a format are not given, or a reason is empty.
    """
    from wavslm_core.parts.plugins import load_registry
    from wavslm_core.parts.registry import imported
    from wavslm_core.parts.roles import ROLES
    from wavslm_core.testing.contract.subject import Subject

    subject = Subject(
        config=config,
        registry=registry or load_registry(),
        no_gradient=dict(no_gradient or {}),
        no_export=no_export,
        prepare=prepare,
        splits=tuple(splits),
        parts=dict(parts or {}),
    )
    return type("Contract", (imported(ROLES[config.role].contract),), {"subject": subject})
