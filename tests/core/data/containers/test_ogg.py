import io

import numpy as np
import pytest
import soundfile

from tests.support import sound_bytes
from wavslm_core.data.audio_files import audio_info, proven_info, read_samples
from wavslm_core.data.audio_source import AudioBytes
from wavslm_core.errors import AudioError

RATE_HZ = 16000


def encoded(seconds: float, subtype: str) -> bytes:
    noise = np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ))
    return sound_bytes(0.1 * noise, RATE_HZ, format="OGG", subtype=subtype)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_every_link_of_a_chain_is_read(subtype: str) -> None:
    first, second = encoded(1.0, subtype), encoded(2.0, subtype)
    for parts in ((first, second), (first, first), (second, first, second)):
        source = AudioBytes("x.ogg", b"".join(parts))
        info = proven_info(source)
        expected = [soundfile.read(io.BytesIO(part), dtype="float32")[0] for part in parts]
        assert info.samples == sum(map(len, expected))
        whole, _ = read_samples(source, info=info)
        np.testing.assert_allclose(whole, np.concatenate(expected), atol=1e-6)
        part, _ = read_samples(source, start=RATE_HZ + 2000, samples=3000, info=info)
        np.testing.assert_allclose(part, whole[RATE_HZ + 2000 : RATE_HZ + 5000], atol=2e-3)


def test_rubbish_between_the_links_is_passed_over() -> None:
    data = encoded(1.0, "VORBIS")
    source = AudioBytes("x.ogg", data + bytes(100_000) + data)
    assert audio_info(source).samples == 2 * RATE_HZ


def test_a_chain_that_was_cut_off_is_refused() -> None:
    data = encoded(1.0, "VORBIS")
    for length in (len(data) // 2, len(data) - 1):
        with pytest.raises(AudioError, match="its last page does not end the stream"):
            audio_info(AudioBytes("x.ogg", data + data[:length]))
