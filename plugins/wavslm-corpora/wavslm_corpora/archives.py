"""Where the archives of the corpora are, how long they are, and what is known of their content.

Checksums are those that torchaudio publishes. Where none is known the length is all that is checked; recipes
can give one in `checksums`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """A corpus as its authors publish it."""

    title: str
    folder: str
    """What the archives' folders are in; empty: nothing."""
    url: str
    """Folder of the archives."""
    suffix: str
    hours: dict[str, float | None]
    """Subset → hours, where they are published."""
    checksums: dict[str, str]
    """Subset → `sha256:…`."""


LIBRISPEECH = Release(
    title="LibriSpeech",
    folder="LibriSpeech",
    url="https://www.openslr.org/resources/12",
    suffix=".tar.gz",
    hours={
        "train-clean-100": 100.6,
        "train-clean-360": 363.6,
        "train-other-500": 496.7,
        "dev-clean": 5.4,
        "dev-other": 5.3,
        "test-clean": 5.4,
        "test-other": 5.1,
    },
    checksums={
        "dev-clean": "sha256:76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
        "dev-other": "sha256:12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
        "test-clean": "sha256:39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
        "test-other": "sha256:d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
        "train-clean-100": "sha256:d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
        "train-clean-360": "sha256:146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
        "train-other-500": "sha256:ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    },
)
MINI_LIBRISPEECH = Release(
    title="Mini LibriSpeech",
    folder="LibriSpeech",
    url="https://www.openslr.org/resources/31",
    suffix=".tar.gz",
    hours={"train-clean-5": None, "dev-clean-2": None},
    checksums={},
)
LIBRITTS = Release(
    title="LibriTTS",
    folder="LibriTTS",
    url="https://www.openslr.org/resources/60",
    suffix=".tar.gz",
    hours={
        "train-clean-100": 53.8,
        "train-clean-360": 191.3,
        "train-other-500": 310.1,
        "dev-clean": 9.0,
        "dev-other": 6.4,
        "test-clean": 8.6,
        "test-other": 6.7,
    },
    checksums={
        "dev-clean": "sha256:da0864e1bd26debed35da8a869dd5c04dfc27682921936de7cff9c8a254dbe1a",
        "dev-other": "sha256:d413eda26f3a152ac7c9cf3658ef85504dfb1b625296e5fa83727f5186cca79c",
        "test-clean": "sha256:234ea5b25859102a87024a4b9b86641f5b5aaaf1197335c95090cde04fe9a4f5",
        "test-other": "sha256:33a5342094f3bba7ccc2e0500b9e72d558f72eb99328ac8debe1d9080402f10d",
        "train-clean-100": "sha256:c5608bf1ef74bb621935382b8399c5cdd51cd3ee47cec51f00f885a64c6c7f6b",
        "train-clean-360": "sha256:ce7cff44dcac46009d18379f37ef36551123a1dc4e5c8e4eb73ae57260de4886",
        "train-other-500": "sha256:e35f7e34deeb2e2bdfe4403d88c8fdd5fbf64865cae41f027a185a6965f0a5df",
    },
)
LIBRI_LIGHT = Release(
    title="Libri-light",
    folder="",
    url="https://dl.fbaipublicfiles.com/librilight/data",
    suffix=".tar",
    hours={"small": 577.0, "medium": 5193.0, "large": 51934.0},
    checksums={},
)
