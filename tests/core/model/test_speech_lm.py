"""The language model assembly: scores, generation, streaming, saving."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from wavslm_core import SpeechLM
from wavslm_core.data.audio import resample
from wavslm_core.errors import ArgumentError, AudioError, CheckpointError, RecipeError, StreamingError
from wavslm_core.model.sampling import candidate_seeds
from wavslm_core.parts.facts import SamplerFacts
from wavslm_core.parts.interfaces import Sampler, SamplingContext
from wavslm_core.testing.fake_configs import FakeSamplerConfig
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 32, (3, 40), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("reads", ["features", "embedding"])
def test_log_probs(tokens: torch.Tensor, reads: str) -> None:
    model = fake_speech_lm(fake_codec(), reads=reads)
    log_probs = model.log_probs(tokens)
    assert log_probs.shape == tokens.shape
    assert bool(log_probs[:, :4].isnan().all())
    assert bool((log_probs[:, 4:] < 0).all())


def test_padding_changes_no_score(tokens: torch.Tensor) -> None:
    model = fake_speech_lm(fake_codec())
    batch = model.log_probs(tokens, lengths=torch.tensor([40, 21, 3]))
    assert torch.allclose(batch[1, 4:21], model.log_probs(tokens[1:2, :21])[0, 4:], atol=1e-5)
    assert bool(batch[1, 21:].isnan().all())
    assert bool(batch[2].isnan().all())


def test_a_model_that_gives_no_numbers_is_not_scored(tokens: torch.Tensor) -> None:
    model = fake_speech_lm(fake_codec())
    lengths = torch.tensor([40, 21, 3])
    scores = model.score(tokens, lengths=lengths)
    assert torch.equal(scores.isnan(), ~model.predicted(tokens, lengths=lengths))
    assert int(model.predicted(tokens, lengths=lengths).sum()) == 36 + 17
    with torch.no_grad():
        model.head.linear.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match="no number for 53 tokens"):
        model.score(tokens, lengths=lengths)


@pytest.mark.parametrize("max_run", [1, 4])
def test_speech_is_scored_as_its_tokens_are(max_run: int) -> None:
    torch.manual_seed(0)
    codec = fake_codec(bits=3, max_run=max_run)
    model = fake_speech_lm(codec)
    waveform = speech(3)
    lengths = [19200, 9000, 1300]
    batch = model.score_speech(waveform, sample_rate=16000, lengths=lengths)
    for row, length in enumerate(lengths):
        alone = model.score_speech(waveform[row, :length], sample_rate=16000)
        tokens, _ = codec.compact(codec.encode(waveform[row, :length]))
        expected = model.log_probs(tokens)[:, 4:].sum().item()
        assert alone.nats.item() == pytest.approx(expected, rel=1e-5)
        assert batch.nats[row].item() == pytest.approx(expected, rel=1e-5)
        assert alone.counts.tolist() == [max(0, tokens.shape[1] - 4)] == batch.counts[row : row + 1].tolist()
        assert torch.equal(alone.tokens_BT, tokens)
    assert model.score_speech(waveform[:, :100], sample_rate=16000).counts.tolist() == [0, 0, 0]
    slower = model.score_speech(resample(waveform, 16000, 8000), sample_rate=8000, lengths=[9600, 4500, 650])
    assert slower.tokens_BT.shape == batch.tokens_BT.shape or max_run > 1
    with pytest.raises(AudioError, match="positive whole number of Hz"):
        model.score_speech(waveform, sample_rate=0)


def test_the_codec_is_neither_trained_nor_saved(tokens: torch.Tensor) -> None:
    codec = fake_codec()
    model = fake_speech_lm(codec)
    model.train()
    model.log_probs(tokens)[:, 4:].mean().neg().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in codec.parameters())
    assert not any("codec" in key or "quantizer" in key for key in model.state_dict())


def test_the_codec_goes_along_to_another_device_and_keeps_its_dtype() -> None:
    model = fake_speech_lm(fake_codec()).to(torch.float64)
    assert model.token_device.type == "cpu"
    assert {weight.dtype for weight in model.backbone.parameters()} == {torch.float64}
    assert {weight.dtype for weight in model.codec.parameters()} == {torch.float32}
    model.to("meta")
    assert {weight.device.type for weight in (*model.parameters(), *model.codec.parameters())} == {"meta"}
    assert model.token_device.type == "meta"


@pytest.mark.parametrize("new_tokens", [0, 1, 4, 10])
def test_generate_gives_the_new_tokens_only(tokens: torch.Tensor, new_tokens: int) -> None:
    new = fake_speech_lm(fake_codec()).generate(tokens, new_tokens=new_tokens, seed=1)
    assert new.shape == (3, new_tokens)
    assert new.dtype == torch.int64


def test_a_row_does_not_depend_on_its_batch(tokens: torch.Tensor) -> None:
    model = fake_speech_lm(fake_codec())
    batch = model.generate(tokens, new_tokens=12, seed=5)
    assert torch.equal(model.generate(tokens[2:], new_tokens=12, seed=7), batch[2:])
    lengths = torch.tensor([40, 20, 20])
    ragged = model.generate(tokens, new_tokens=12, seed=5, lengths=lengths)
    assert torch.equal(ragged[0], batch[0])
    assert torch.equal(ragged[2:], model.generate(tokens[2:, :20], new_tokens=12, seed=7))


def test_generation_follows_the_scores(tokens: torch.Tensor) -> None:
    """The distribution that a token is drawn from is the one that scores it."""
    model = fake_speech_lm(fake_codec(bits=1), chunk_tokens=1)
    prompt = tokens[:1, :8] % 2
    draws = torch.cat([model.generate(prompt, new_tokens=1, seed=seed) for seed in range(400)])
    scored = torch.cat([prompt, torch.ones(1, 1, dtype=torch.int64)], 1)
    expected = model.log_probs(scored)[0, -1].exp().item()
    assert abs(draws.float().mean().item() - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5


@pytest.mark.parametrize("delay", [0, 200, 3000])
def test_stream_equals_generating_and_decoding(tokens: torch.Tensor, delay: int) -> None:
    codec = fake_codec(delay_samples=delay)
    model = fake_speech_lm(codec)
    streamed = torch.cat(list(islice(model.stream(tokens, seed=3), 8)), 1)
    new = model.generate(tokens, new_tokens=44, seed=3)
    offline = model.decode_continuation(tokens, new)[:, : streamed.shape[1]]
    assert streamed.shape[1] > 5000
    assert torch.allclose(streamed, offline, atol=1e-5)


def test_rows_of_different_lengths_stream_side_by_side(tokens: torch.Tensor) -> None:
    model = fake_speech_lm(fake_codec(delay_samples=200))
    lengths = torch.tensor([40, 12, 40])
    streamed = torch.cat(list(islice(model.stream(tokens, seed=3, lengths=lengths), 6)), 1)
    alone = torch.cat(list(islice(model.stream(tokens[1:2, :12], seed=4), 6)), 1)
    assert torch.equal(streamed[1:2], alone)
    full = torch.cat(list(islice(model.stream(tokens, seed=3), 6)), 1)
    assert torch.equal(streamed[::2], full[::2])
    for wrong in ([40, 41, 4], [40, 0, 4], [40, 4]):
        with pytest.raises(ArgumentError, match="one for each row"):
            model.stream(tokens, lengths=torch.tensor(wrong))


def test_a_head_with_shorter_chunks_than_the_codec_waits_for_it(tokens: torch.Tensor) -> None:
    codec = fake_codec()
    model = fake_speech_lm(codec, chunk_tokens=1, reads="embedding")
    assert codec.facts.chunk_tokens == 4
    prompt = tokens[:, :10]
    streamed = torch.cat(list(islice(model.stream(prompt, seed=3), 3)), 1)
    new = model.generate(prompt, new_tokens=20, seed=3)
    offline = model.decode_continuation(prompt, new)[:, : streamed.shape[1]]
    assert streamed.shape[1] == 10 * 320
    assert torch.allclose(streamed, offline, atol=1e-5)


def test_nothing_is_computed_that_nobody_asked_for(tokens: torch.Tensor) -> None:
    model = fake_speech_lm(fake_codec())
    read: list[int] = []
    model.backbone.gru.register_forward_hook(lambda _module, inputs, _output: read.append(inputs[0].shape[1]))
    model.generate(tokens, new_tokens=8)
    assert read == [40, 4]


def test_the_likeliest_of_several_continuations(tokens: torch.Tensor) -> None:
    model = fake_speech_lm(fake_codec())
    best = model.generate(tokens, new_tokens=8, sampler=BestOf(4), seed=5)
    seeds = candidate_seeds([5, 6, 7], 4)
    drawn = model.generate(tokens.repeat_interleave(4, 0), new_tokens=8, seed=seeds)
    scores = model.log_probs(torch.cat([tokens.repeat_interleave(4, 0), drawn], 1))[:, 40:].sum(1)
    for row in range(3):
        winner = 4 * row + int(scores[4 * row : 4 * row + 4].argmax())
        assert torch.equal(best[row], drawn[winner])
    assert torch.equal(drawn[::4], model.generate(tokens, new_tokens=8, seed=5))
    alone = model.generate(tokens[1:2], new_tokens=8, sampler=BestOf(4), seed=6)
    assert torch.equal(alone, best[1:2])
    with pytest.raises(StreamingError, match=r"use generate\(\)"):
        model.stream(tokens, sampler=BestOf(4))


class BestOf(Sampler):
    """Leaves the distribution alone and asks for several candidates."""

    def __init__(self, candidates: int) -> None:
        class Config(FakeSamplerConfig):
            def facts(self) -> SamplerFacts:
                return SamplerFacts(candidates=candidates)

        super().__init__(Config())

    def adjust(self, logits_NV: torch.Tensor, context: SamplingContext) -> torch.Tensor:
        return logits_NV


@pytest.mark.parametrize("reads", ["features", "embedding"])
@pytest.mark.parametrize("delay", [0, 3000])
def test_merged_tokens_stream_as_they_are_generated_and_decoded(reads: str, delay: int) -> None:
    torch.manual_seed(0)
    codec = fake_codec(bits=3, max_run=4, delay_samples=delay)
    model = fake_speech_lm(codec, reads=reads)
    prompts, lengths = model.encode_prompt(speech(3), sample_rate=16000)
    assert len(lengths.unique()) > 1
    streamed = torch.cat(list(islice(model.stream(prompts, seed=3, lengths=lengths), 20)), 1)
    samples = streamed.shape[1] + 640
    new, sizes = model.generate_speech(prompts, samples=samples, seed=3, lengths=lengths)
    assert len(sizes.unique()) > 1
    offline = model.decode_continuation(prompts, new, lengths=lengths, new_lengths=sizes)
    assert torch.allclose(streamed, offline[:, : streamed.shape[1]], atol=1e-5)
    for row, (size, needed) in enumerate(zip(lengths.tolist(), sizes.tolist(), strict=True)):
        tokens = new[row : row + 1, :needed]
        assert int(codec.decoded_samples(tokens)) >= samples > int(codec.decoded_samples(tokens[:, :-1]))
        plain = model.generate(prompts[row : row + 1, :size], new_tokens=needed, seed=3 + row)
        assert torch.equal(plain, tokens)
    audio = model.continue_speech(speech(3), sample_rate=16000, seconds=0.7, seed=3)
    assert audio.shape == (3, 11200)
    assert torch.allclose(audio, offline[:, :11200], atol=1e-5)


def test_the_likeliest_of_merged_continuations_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    codec = fake_codec(bits=3, max_run=4)
    model = fake_speech_lm(codec)
    prompts = codec.compact(codec.encode(speech(3)))[0][:, :16]
    best, sizes = model.generate_speech(prompts, samples=16000, sampler=BestOf(4), seed=5)
    alone, size = model.generate_speech(prompts[1:2], samples=16000, sampler=BestOf(4), seed=6)
    assert torch.equal(best[1, : int(sizes[1])], alone[0, : int(size)])
    found = []
    for seed in candidate_seeds([6], 4):
        drawn, _ = model.generate_speech(prompts[1:2], samples=16000, seed=seed)
        score = model.score(torch.cat([prompts[1:2], drawn], 1))[:, 16:].sum()
        found.append((float(score), drawn))
    assert torch.equal(max(found, key=lambda pair: pair[0])[1], alone)


def test_the_last_run_of_a_prompt_is_left_out() -> None:
    torch.manual_seed(0)
    codec = fake_codec(bits=3, max_run=4)
    model = fake_speech_lm(codec, chunk_tokens=1)
    waveform = speech(1)
    merged = codec.compact(codec.encode(waveform))[0]
    prompt, lengths = model.encode_prompt(waveform, sample_rate=16000)
    assert torch.equal(prompt, merged[:, :-1])
    assert lengths.tolist() == [merged.shape[1] - 1]
    with pytest.raises(AudioError, match="besides the run in which it is cut"):
        model.encode_prompt(torch.zeros(1, 640), sample_rate=16000)


def speech(batch: int) -> torch.Tensor:
    """Return waveforms (B,S) of frames of noise that repeat; the more, the later the item."""
    random = torch.Generator().manual_seed(0)
    rows = []
    for row in range(batch):
        frames = torch.randn(60, 320, generator=random)
        lasts = torch.randint(1, 4 + row, (60,), generator=random)
        rows.append(frames.repeat_interleave(lasts, dim=0)[:60].flatten())
    return torch.stack(rows)


def test_another_codec_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    codec, other = fake_codec(), fake_codec()
    fake_speech_lm(codec).save(tmp_path / "lm")
    with pytest.raises(CheckpointError, match=r"another codec: .*quantizer_weights"):
        SpeechLM.load(tmp_path / "lm", codec=other)
    other.quantizer.load_state_dict(codec.quantizer.state_dict())
    SpeechLM.load(tmp_path / "lm", codec=other)
    assert "encoder_weights differ" in caplog.text


def test_an_option_that_came_since_a_model_was_saved_had_its_default(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    codec = fake_codec()
    fake_speech_lm(codec).save(tmp_path / "lm")
    config = tmp_path / "lm" / "config.json"
    document = json.loads(config.read_text())
    for role, option, other in (("encoder", "hop_samples", 160), ("quantizer", "max_run", 2)):
        kept = document["codec_fingerprint"][role].pop(option)
        config.write_text(json.dumps(document))
        SpeechLM.load(tmp_path / "lm", codec=codec)
        assert caplog.text == ""
        document["codec_fingerprint"][role][option] = other
        assert codec.changed_since(document["codec_fingerprint"]) == [role]
        document["codec_fingerprint"][role][option] = kept


def test_continue_speech_resamples_and_cuts(tokens: torch.Tensor) -> None:
    model = fake_speech_lm(fake_codec())
    waveform = torch.randn(2, 24000) * 0.1
    audio = model.continue_speech(waveform, sample_rate=24000, seconds=0.5, seed=0)
    assert audio.shape == (2, 8000)
    with pytest.raises(AudioError, match="at least one chunk"):
        model.continue_speech(waveform[:, :100], sample_rate=24000)


def test_save_and_load(tmp_path: Path, tokens: torch.Tensor) -> None:
    codec = fake_codec()
    model = fake_speech_lm(codec)
    model.save(tmp_path / "lm")
    loaded = SpeechLM.load(tmp_path / "lm", codec=codec)
    assert torch.equal(loaded.log_probs(tokens).nan_to_num(), model.log_probs(tokens).nan_to_num())
    with pytest.raises(CheckpointError, match="models 32 codes, but the codec has 64"):
        SpeechLM.load(tmp_path / "lm", codec=fake_codec(bits=6))
    with pytest.raises(CheckpointError, match="names no codec"):
        SpeechLM.load(tmp_path / "lm")


def test_bad_prompts_and_samplers(tokens: torch.Tensor) -> None:
    model = fake_speech_lm(fake_codec())
    with pytest.raises(ArgumentError, match="Cut it to 36"):
        model.generate(tokens[:, :39], new_tokens=4)
    with pytest.raises(RecipeError, match="Did you mean 'fake'"):
        model.generate(tokens, new_tokens=4, sampler={"name": "fakes"})
    with pytest.raises(RecipeError, match="heat"):
        model.generate(tokens, new_tokens=4, sampler={"name": "fake", "heat": 1})
    with pytest.raises(ArgumentError, match="2 seeds were given for 3 rows"):
        model.generate(tokens, new_tokens=4, seed=[1, 2])


def test_a_folder_can_name_its_codec(tmp_path: Path, tokens: torch.Tensor) -> None:
    codec = fake_codec()
    model = fake_speech_lm(codec)
    model.checkpoint_codec = "../codec"
    codec.save(tmp_path / "run" / "codec")
    model.save(tmp_path / "run" / "speech_lm")
    for reference in (tmp_path / "run", tmp_path / "run" / "speech_lm"):
        loaded = SpeechLM.load(reference)
        assert torch.equal(loaded.codec.encode(torch.ones(1, 1280)), codec.encode(torch.ones(1, 1280)))


def test_generated_tokens_can_be_trained_on(tokens: torch.Tensor) -> None:
    model = fake_speech_lm(fake_codec())
    new = model.generate(tokens, new_tokens=8)
    model.log_probs(torch.cat([tokens, new], 1))[:, 4:].mean().backward()


def test_no_score_knows_what_comes_after_its_chunk(tokens: torch.Tensor) -> None:
    model = fake_speech_lm(fake_codec())
    before = model.log_probs(tokens)
    for place in range(4, 40, 5):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % 32
        after = model.log_probs(changed)
        assert torch.equal(after[:, 4:place], before[:, 4:place])
