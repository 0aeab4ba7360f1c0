"""What a plugin can do wrong, as a real distribution on the path: one line names it, all else works."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import soundfile

from tests.support import Command
from wavslm_core.parts import plugins

HOOKS = """
from wavslm_core.parts.plugins import hookimpl
from wavslm_odd.config import OddConfig, OddFormatConfig

@hookimpl
def register_quantizers(register):
    register(OddConfig, "wavslm_odd.quantizer:OddQuantizer")

@hookimpl
def register_formats(register):
    register(OddFormatConfig, "wavslm_odd.quantizer:OddFormat")
"""
CONFIG = """
from typing import Literal
from pydantic import InstanceOf, model_validator
from wavslm_core.parts.facts import QuantizerFacts
from wavslm_core.parts.configs import FormatConfig
from wavslm_core.testing.fake_configs import FakeQuantizerConfig

class OddThing:
    pass

class OddConfig(FakeQuantizerConfig):
    name: Literal["odd"] = "odd"

    def facts(self):
        return super().facts()

class OddFormatConfig(FormatConfig):
    format: Literal["odd"] = "odd"

    def holds(self, document):
        return None

    def part_configs(self, document):
        return {}

    def document(self, parts):
        return None

    def known_document(self, checkpoint):
        return None
"""
QUANTIZER = """
from wavslm_core.errors import WavslmError
from wavslm_core.testing.fakes import FakeQuantizer

class OddQuantizer(FakeQuantizer):
    def __init__(self, config):
        super().__init__(config)

    def encode(self, features_BTD, *, lengths=None):
        return super().encode(features_BTD)

    def forward(self, features_BTD, *, lengths=None, bypass_codes=False):
        return super().forward(features_BTD, lengths=lengths, bypass_codes=bypass_codes)
"""
FILES = {"__init__.py": HOOKS, "config.py": CONFIG, "quantizer.py": QUANTIZER}
RECIPE = """
name: one
encoder: {name: fake}
quantizer: {name: QUANTIZER}
decoder: {name: fake}
data: {corpus: folder, path: speech}
stages:
  - {run: train_codec, steps: 2, batch_size: 2, crop_seconds: 0.5, valid_utterances: 1}
  - {run: tokenize}
launch: {device: cpu}
"""


@dataclass(frozen=True)
class Case:
    """One mistake, and the line that it ends in."""

    file: str
    old: str
    new: str
    said: tuple[str, ...]
    code: int = 2


AUTHORS = "report it to the authors of"
LOADING = {
    "import_error": Case(
        "__init__.py",
        "from wavslm_odd.config",
        "import a_module_that_is_not_there\nfrom wavslm_odd.config",
        ("(Plugin wavslm-odd failed to load: ModuleNotFoundError: No module named 'a_module", "reinstall or"),
    ),
    "misspelt_hook_argument": Case(
        "__init__.py",
        "def register_quantizers(register)",
        "def register_quantizers(registry)",
        ("of wavslm-odd has a wrong hook", "'registry'", "with the one argument `register`", "uninstall it"),
    ),
    "missing_hook_argument": Case(
        "__init__.py",
        "def register_quantizers(register):\n    register",
        "def register_quantizers():\n    print",
        ("of wavslm-odd has a wrong hook: register_quantizers() takes no `register`", "uninstall it"),
    ),
    "duplicate_name": Case(
        "__init__.py",
        "@hookimpl\ndef register_formats(register):\n",
        "from wavslm_core.evaluation.config import StoiConfig\n\n@hookimpl\n"
        "def register_metrics(register):\n    register(StoiConfig, 'wavslm_odd.quantizer:No')\n\n"
        "@hookimpl\ndef register_formats(register):\n",
        ("metric 'stoi' is registered twice: by wavslm-core", "and by wavslm-odd", "Uninstall one of"),
    ),
}
CHECKING = {
    "facts_raise": Case(
        "config.py",
        "return super().facts()",
        "return {}['dim']",
        (
            "quantizer.odd: facts() of quantizer 'odd' of wavslm-odd 1.0 fails: KeyError: 'dim'",
            "report it to the authors",
        ),
    ),
    "facts_of_another_kind": Case(
        "config.py",
        "return super().facts()",
        "return None",
        ("facts() of quantizer 'odd' of wavslm-odd 1.0 fails: TypeError: it returns NoneType, not Quantiz",),
    ),
    "validator_raises": Case(
        "config.py",
        "    def facts(self)",
        "    @model_validator(mode='after')\n    def check(self):\n        raise KeyError('x')\n\n"
        "    def facts(self)",
        ("error: raised in wavslm-odd 1.0 (wavslm_odd/config.py:16): KeyError: 'x'; report it to its auth",),
        code=1,
    ),
}
RUNNING = {
    "implementation_import_error": Case(
        "quantizer.py",
        "class OddQuantizer",
        "import a_module_that_is_not_there\n\nclass OddQuantizer",
        (
            "quantizer 'odd' of wavslm-odd 1.0 cannot be imported from wavslm_odd.quantizer:",
            "again from where",
        ),
    ),
    "no_interface": Case(
        "quantizer.py",
        "class OddQuantizer(FakeQuantizer)",
        "class OddQuantizer",
        (
            "of wavslm-odd 1.0 cannot be used",
            "is no subclass of wavslm_core.parts.interfaces.Quantizer",
            "authors",
        ),
    ),
    "abstract": Case(
        "quantizer.py",
        "class OddQuantizer(FakeQuantizer)",
        "from wavslm_core.parts.interfaces import Quantizer\n\nclass OddQuantizer(Quantizer)",
        ("quantizer 'odd' of wavslm-odd 1.0 cannot be built: TypeError", "decode", AUTHORS),
    ),
    "init_raises": Case(
        "quantizer.py",
        "super().__init__(config)",
        "raise ValueError('8 does not divide 20.')",
        ("quantizer 'odd' of wavslm-odd 1.0 cannot be built: ValueError: 8 does not divide 20. Change its",),
    ),
    "init_raises_its_own_words": Case(
        "quantizer.py",
        "super().__init__(config)",
        "raise WavslmError('no licence here; buy one')",
        ("error: no licence here; buy one",),
    ),
    "wrong_vocabulary": Case(
        "quantizer.py",
        "return super().encode(features_BTD)",
        "return super().encode(features_BTD) * 0 + 32",
        (
            "quantizer 'odd' of wavslm-odd 1.0 gave token 32, but its facts say vocab_size 32 (0…31)",
            "authors",
        ),
    ),
    "wrong_width": Case(
        "config.py",
        "return super().facts()",
        "return QuantizerFacts(input_dim=16, output_dim=20, vocab_size=32, causal=True, streams=True)",
        ("quantizer 'odd' of wavslm-odd 1.0 gave a tensor [", "but its facts say (B, T, output_dim 20)"),
    ),
    "raises_while_training": Case(
        "quantizer.py",
        "return super().forward(",
        "if self.training: raise ValueError('a wheel came off')\n        return super().forward(",
        (
            "error: raised in wavslm-odd 1.0 (wavslm_odd/quantizer.py:13): ValueError: a wheel came off; "
            "report it to its authors; --traceback shows all",
        ),
        code=1,
    ),
    "raises_while_encoding": Case(
        "quantizer.py",
        "return super().encode(features_BTD)",
        "return super().encode(features_BTD).view(7, 7, 7)",
        ("error: raised in wavslm-odd 1.0 (wavslm_odd/quantizer.py:10): RuntimeError: shape '[7, 7, 7]' is",),
        code=1,
    ),
}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of four recordings."""
    folder = tmp_path_factory.mktemp("corpus") / "speech"
    noise = np.random.default_rng(0)
    for split in ("train", "valid"):
        (folder / split).mkdir(parents=True)
        for number in range(2):
            waveform_S = 0.1 * noise.standard_normal(16000)
            soundfile.write(folder / split / f"{number}.wav", waveform_S, 16000)
    return folder


@pytest.fixture
def wavslm(
    tmp_path: Path, speech: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    """Install a distribution whose quantizer is `odd` on a path; return what calls a command there."""
    (tmp_path / "speech").symlink_to(speech)
    for quantizer in ("odd", "fake"):
        (tmp_path / f"{quantizer}.yaml").write_text(RECIPE.replace("QUANTIZER", quantizer))
    path = tmp_path / "path"
    info, package = path / "wavslm_odd-1.0.dist-info", path / "wavslm_odd"
    info.mkdir(parents=True)
    package.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wavslm-odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[wavslm]\nodd = wavslm_odd\n")
    for name, text in FILES.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(str(path))
    monkeypatch.setenv("WAVSLM_PLUGINS", "example,odd")
    # A file that changes twice in a second would be taken for its compiled form.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "wavslm_odd"]:
            del sys.modules[name]

    def call(*arguments: str, **code: int) -> CompletedProcess[str]:
        """Call a command as in a new process: the distribution is loaded as it is now."""
        forget()
        loaded = plugins.load_from(entry_points(group=plugins.GROUP))
        monkeypatch.setattr(plugins, "load", lambda: loaded)
        return command(*arguments, **code)

    yield call
    forget()


def mistake(folder: Path, case: Case) -> None:
    """Put a mistake into the distribution."""
    file = folder / "path" / "wavslm_odd" / case.file
    text = file.read_text()
    assert case.old in text
    file.write_text(text.replace(case.old, case.new))


def only_line(done: CompletedProcess[str], case: Case) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    for said in case.said:
        assert said in errors[0]


def test_the_distribution_works_without_a_mistake(wavslm: Command) -> None:
    wavslm("run", "odd.yaml")


@pytest.mark.parametrize("name", [*LOADING, *CHECKING])
def test_what_is_wrong_shows_before_anything_runs(tmp_path: Path, wavslm: Command, name: str) -> None:
    case = {**LOADING, **CHECKING}[name]
    mistake(tmp_path, case)
    only_line(wavslm("main", "recipe", "check", "odd.yaml", code=case.code), case)
    wavslm("main", "recipe", "check", "fake.yaml")
    assert ("failed to load" in wavslm("main", "plugins").stdout) == (name in LOADING)


@pytest.mark.parametrize("name", RUNNING)
def test_what_is_wrong_shows_in_a_run(tmp_path: Path, wavslm: Command, name: str) -> None:
    case = RUNNING[name]
    mistake(tmp_path, case)
    only_line(wavslm("run", "odd.yaml", code=case.code), case)
    if name == "raises_while_training":
        wavslm("run", "fake.yaml")
        shown = wavslm("run", "odd.yaml", "--traceback", code=case.code).stderr
        assert 'File "' in shown
        assert "wavslm_odd/quantizer.py" in shown


@pytest.mark.parametrize("method", ["holds", "known_document"])
def test_a_format_that_raises_is_passed_over(tmp_path: Path, wavslm: Command, method: str) -> None:
    argument = "document" if method == "holds" else "checkpoint"
    signature = f"def {method}(self, {argument}):\n        "
    mistake(tmp_path, Case("config.py", signature, f"{signature}raise KeyError('x')\n        ", ()))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text('{"tiny": 12}')
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    recipe = tmp_path / "codec.yaml"
    recipe.write_text("name: one\ncodec: {checkpoint: tiny}\n")
    fine = {"holds": "codec.checkpoint=tiny", "known_document": "codec.checkpoint=example/tiny"}[method]
    wavslm("main", "recipe", "check", "codec.yaml", fine)
    lost = {"holds": "codec.checkpoint=other", "known_document": "codec.checkpoint=example/other"}[method]
    said = ("(format 'odd' of wavslm-odd 1.0 fails: KeyError: 'x'; update, reinstall or uninstall it)",)
    only_line(wavslm("main", "recipe", "check", "codec.yaml", lost, code=2), Case("", "", "", said))


def test_a_format_that_recognises_and_then_raises_is_named(tmp_path: Path, wavslm: Command) -> None:
    mistake(tmp_path, Case("config.py", "holds(self, document):\n        return None", HOLDS, ()))
    mistake(tmp_path, Case("config.py", "return {}", "return document['parts']", ()))
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"odd": 1}')
    (tmp_path / "codec.yaml").write_text("name: one\ncodec: {checkpoint: odd}\n")
    said = ("odd cannot be read: format 'odd' of wavslm-odd 1.0 fails: KeyError: 'parts'.", "authors")
    only_line(wavslm("main", "recipe", "check", "codec.yaml", code=2), Case("", "", "", said))


HOLDS = "holds(self, document):\n        return 'codec' if 'odd' in document else None"


def test_a_schema_leaves_out_options_that_have_none(tmp_path: Path, wavslm: Command) -> None:
    def quantizers() -> set[str]:
        schema = json.loads(wavslm("main", "recipe", "schema").stdout)
        (union,) = [choice for choice in schema["properties"]["quantizer"]["anyOf"] if "oneOf" in choice]
        return set(union["discriminator"]["mapping"])

    assert quantizers() == {"fake", "nested", "odd"}
    name = 'name: Literal["odd"] = "odd"\n'
    mistake(tmp_path, Case("config.py", name, f"{name}    other: InstanceOf[OddThing] = OddThing()\n", ()))
    assert quantizers() == {"fake", "nested"}


def test_saving_does_without_a_format_that_raises(
    tmp_path: Path, wavslm: Command, caplog: pytest.LogCaptureFixture
) -> None:
    before = "def document(self, parts):\n        "
    mistake(tmp_path, Case("config.py", before, f"{before}raise KeyError('x')\n        ", ()))
    wavslm("run", "odd.yaml")
    (codec,) = tmp_path.glob("runs/one-*/codec/config.json")
    assert '"format": "wavslm-codec"' in codec.read_text()
    assert "format 'odd' of wavslm-odd 1.0 fails: KeyError: 'x'; update, reinstall" in caplog.text
