"""The contract of checkpoint formats, held with the parts that a format can hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from wavslm_core.errors import WavslmError, summary
from wavslm_core.model.documents import CONFIG_FILE, KIND_ROLES, OUR_FORMATS
from wavslm_core.parts.checkpoints import Kind
from wavslm_core.parts.configs import FormatConfig, PartConfig, Role
from wavslm_core.parts.interfaces import CheckpointFormat, CheckpointParts
from wavslm_core.testing.contract.config_checks import ConfigChecks


class FormatContract(ConfigChecks):
    @property
    def config(self) -> FormatConfig:
        return cast(FormatConfig, self.subject.config)

    @property
    def kind(self) -> Kind:
        return "codec" if "encoder" in self.subject.parts else "speech_lm"

    @property
    def weighty(self) -> dict[Role, PartConfig]:
        """The parts with weights: a format need not have a place for samplers."""
        return {role: config for role, config in self.subject.parts.items() if role != "sampler"}

    def document(self) -> dict[str, Any]:
        document = self.config.document(dict(self.subject.parts))
        self.require(
            isinstance(document, dict),
            f"document() gave {document!r} for the parts that the contract was given",
            "document() gives the config.json of a folder with these parts",
        )
        return dict(json.loads(json.dumps(document)))

    def written(self, folder: Path) -> CheckpointParts:
        """Return parts with random weights, once they are written to a folder."""
        registry = self.subject.registry
        states = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for role, config in self.subject.parts.items():
                part = registry.build(config)
                if isinstance(part, nn.Module):
                    states[role] = {key: value.clone() for key, value in part.state_dict().items()}
        parts = CheckpointParts(dict(self.subject.parts), states)
        folder.mkdir()
        writer: CheckpointFormat = self.part()
        writer.write(folder, parts)
        return parts

    def test_it_knows_its_own_documents(self) -> None:
        document = self.document()
        held = self.config.holds(document)
        self.require(
            held == self.kind,
            f"holds() gave {held!r} for a document of its own with {', '.join(self.subject.parts)}",
            "holds() says what a folder with this config.json holds",
        )
        configs = self.config.part_configs(document)
        wanted = {role: configs.get(role) for role in self.weighty}
        self.require(
            wanted == self.weighty,
            f"part_configs(document(parts)) gave {wanted}",
            "a document says all that there is to the parts with weights",
        )

    def test_it_leaves_others_alone(self) -> None:
        ours = {"format": next(iter(OUR_FORMATS)), "version": 1, "parts": {}}
        for document in ({}, {"model_type": "other"}, {"format": "another"}, ours):
            self.require(
                self.config.holds(document) is None,
                f"holds() took {document} for its own",
                "holds() gives None for what is not of this format",
            )
        self.require(
            self.config.known_document("no-such-owner/no-such-name") is None,
            "known_document() knew no-such-owner/no-such-name",
            "known_document() gives None for ids that it does not know",
        )
        lacking = {
            role: part for role, part in self.subject.parts.items() if role != KIND_ROLES[self.kind][0]
        }
        with self.attempt(
            "document() of other parts", "document() gives no document for parts that it cannot hold"
        ):
            self.require(
                not isinstance(self.config.document(lacking), dict),
                f"document() gave one for {', '.join(lacking) or 'no part'} alone",
                "document() gives why not, or None, for parts that it cannot hold",
            )

    def test_weights_are_read_as_they_were_written(self, tmp_path: Path) -> None:
        folder = tmp_path / "checkpoint"
        written = self.written(folder)
        document = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        self.require(
            self.config.holds(document) == self.kind,
            f"holds() does not know the {CONFIG_FILE} that write() wrote",
            "write() leaves a folder that is recognised",
        )
        read = self.part().read(folder)
        found = {role: read.configs.get(role) for role in self.weighty}
        self.require(found == self.weighty, f"read() gave {found}", "read() gives the configs back")
        for role, state in written.states.items():
            given = read.states.get(role, {})
            self.require(
                set(given) == set(state),
                f"of the {role}, {sorted(set(given) ^ set(state))[:3]} are missing or new",
                "read() gives every weight back, under the name that the part has for it",
            )
            for key, value in state.items():
                self.require_same(given[key], value, f"{role}.{key} changed", "weights stay", tolerance=1e-6)

    def test_damaged_weights_are_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / "checkpoint"
        self.written(folder)
        rule = "what cannot be read is a CheckpointError that names the file"
        for path in sorted(folder.iterdir()):
            whole = path.read_bytes()
            if path.name == CONFIG_FILE or len(whole) < 2:
                continue
            path.write_bytes(whole[: len(whole) // 2])
            try:
                self.part().read(folder)
            except WavslmError:
                pass
            except Exception as error:
                self.require(False, f"half of {path.name} raises {summary(error)}", rule)
            else:
                self.require(False, f"half of {path.name} is read as if it were whole", rule)
            path.write_bytes(whole)
