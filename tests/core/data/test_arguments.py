"""What people hand to models is converted or refused alike by every method of Codec, SpeechLM and streams."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wavslm_core import SpeechLM
from wavslm_core.data.arguments import checked_lengths, checked_rate, checked_seconds, checked_seeds
from wavslm_core.data.audio import resample
from wavslm_core.errors import ArgumentError, AudioError, WavslmError
from wavslm_core.model.codec import Codec
from wavslm_core.parts.interfaces import Quantizer, State
from wavslm_core.testing.fake_configs import FakeQuantizerConfig
from wavslm_core.testing.fakes import FakeQuantizer, fake_codec, fake_speech_lm

CHUNK = 1280
Method = Callable[[Any], Tensor]


@pytest.fixture(scope="module")
def model() -> SpeechLM:
    torch.manual_seed(0)
    return fake_speech_lm(fake_codec())


@pytest.fixture(scope="module")
def waveform() -> Tensor:
    # On a grid that every float type holds, so that a conversion can be told from a rounding.
    return torch.randint(-64, 65, (2, 4 * CHUNK), generator=torch.Generator().manual_seed(0)) / 256


def hearing(model: SpeechLM) -> dict[str, Method]:
    """Return every public method that takes a waveform."""
    codec = model.codec
    return {
        "encode": codec.encode,
        "reconstruct": codec.reconstruct,
        "stream": lambda given: codec.stream(batch_size=rows(given)).encode(given),
        "tokens": lambda given: codec.tokens(given)[0],
        "score_speech": lambda given: model.score_speech(given, sample_rate=16000).log_probs_BT,
        "session": lambda given: spoken(model, "hear", given),
        "encode_prompt": lambda given: model.encode_prompt(given, sample_rate=16000)[0],
        "continue_speech": lambda given: model.continue_speech(given, sample_rate=16000, seconds=0.16),
    }


def reading(model: SpeechLM) -> dict[str, Method]:
    """Return every public method that takes tokens."""
    codec = model.codec
    return {
        "decode": codec.decode,
        "dequantize": codec.dequantize,
        "compact": lambda given: codec.compact(given)[0],
        "expand": lambda given: codec.expand(given)[0],
        "decoded_samples": codec.decoded_samples,
        "codec stream": lambda given: codec.stream(batch_size=rows(given)).decode(given),
        "log_probs": model.log_probs,
        "forward": model,
        "score": model.score,
        "inputs": model.inputs,
        "predicted": model.predicted,
        "generate": lambda given: model.generate(given, new_tokens=4),
        "generate_speech": lambda given: model.generate_speech(given, samples=CHUNK)[0],
        "stream": lambda given: next(model.stream(given)),
        "session": lambda given: spoken(model, "read", given),
        "decode_continuation": lambda given: model.decode_continuation(given, given),
    }


def spoken(model: SpeechLM, method: str, given: Any) -> Tensor:
    """Return what the rows of a session say after a method was given something."""
    session = model.session()
    for seed in range(rows(given)):
        session.join(seed=seed)
    getattr(session, method)(given)
    return torch.stack(session.speak())


def rows(given: Any) -> int:
    return 1 if np.ndim(given) == 1 else max(1, len(given))


def refused(method: Method, given: Any) -> str:
    """Return the one line with which a method refuses what it is given."""
    with pytest.raises(WavslmError) as caught:
        method(given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(given: Tensor, expected: Tensor) -> bool:
    return given.dtype == expected.dtype and torch.equal(given.nan_to_num(), expected.nan_to_num())


def waveforms(waveform_BS: Tensor) -> Iterator[Any]:
    """Yield the same waveform in the types in which people have it."""
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        yield waveform_BS.to(dtype)
    array = waveform_BS.numpy()
    yield array
    yield array.astype(np.float64)
    yield array.astype(">f4")
    yield array.astype(np.longdouble)
    yield np.asfortranarray(array)[:, ::-1][:, ::-1]
    yield array.tolist()


def test_a_waveform_of_any_float_type_is_the_same_waveform(model: SpeechLM, waveform: Tensor) -> None:
    read_only = waveform.numpy().copy()
    read_only.setflags(write=False)
    for name, method in hearing(model).items():
        expected = method(waveform)
        for given in (*waveforms(waveform), read_only):
            assert same(method(given), expected), (name, type(given), getattr(given, "dtype", ""))


def test_one_item_without_a_batch_is_a_batch_of_one(model: SpeechLM, waveform: Tensor) -> None:
    for name, method in hearing(model).items():
        for given in (waveform[0], waveform[0].numpy()):
            assert same(method(given), method(waveform[:1])), name
    tokens = model.codec.encode(waveform)
    for name, method in reading(model).items():
        for given in (tokens[0], tokens[0].tolist()):
            assert same(method(given), method(tokens[:1])), name


def test_what_is_no_waveform_is_refused_with_a_remedy(model: SpeechLM, waveform: Tensor) -> None:
    nan = waveform.clone()
    nan[1, 7] = torch.nan
    for bad, said in [
        (waveform * 32767, "the waveform reaches 8191.75, audio lies within ±1; divide it by its full scale"),
        (nan, "the waveform holds NaN or infinite samples (items [1]); leave them out"),
        ((waveform * 32767).to(torch.int16), "got int16; divide integers by their full scale, 32768"),
        (waveform.to(torch.complex64), "must be floats in [-1, 1], got complex64"),
        (waveform[:, None], "got [2, 1, 5120]; mix channels down"),
        (waveform.T, "got [5120, 2], which looks like (S,channels): mix the channels down with .mean(1)"),
        (waveform[:, :0], "has no samples; leave empty items out"),
        (waveform[:0], "has no samples; leave empty items out"),
        ([[0.1, 0.2], [0.1]], "all rows of one length; got list. Pad rows"),
        ("speech.wav", "got str"),
        (None, "got NoneType"),
    ]:
        for method in (model.codec.encode, model.codec.reconstruct, model.codec.stream(batch_size=2).encode):
            assert said in refused(method, bad)
        assert said in refused(lambda given: model.continue_speech(given, sample_rate=16000), bad)


def test_overshoot_is_no_mistake(model: SpeechLM, waveform: Tensor) -> None:
    assert model.codec.encode(waveform * 8).shape == (2, 16)


def test_lengths_may_be_lists_and_arrays(model: SpeechLM, waveform: Tensor) -> None:
    lengths = torch.tensor([4 * CHUNK, 3 * CHUNK])
    tokens, counts = model.codec.encode(waveform), torch.tensor([16, 12])
    for convert in (Tensor.tolist, Tensor.numpy, Tensor.int, lambda numbers: tuple(numbers.tolist())):
        given, given_counts = convert(lengths), convert(counts)
        for method in (model.codec.encode, model.codec.reconstruct):
            assert same(method(waveform, lengths=given), method(waveform, lengths=lengths))
        assert torch.equal(model.codec.token_lengths(given), counts)
        assert same(
            model.continue_speech(waveform, sample_rate=16000, seconds=0.1, lengths=given),
            model.continue_speech(waveform, sample_rate=16000, seconds=0.1, lengths=lengths),
        )
        for read in (model.codec.decode, model.codec.dequantize, model.log_probs, model.score):
            assert same(read(tokens, lengths=given_counts), read(tokens, lengths=counts))
        assert same(
            model.generate(tokens, new_tokens=4, lengths=given_counts),
            model.generate(tokens, new_tokens=4, lengths=counts),
        )


@pytest.mark.parametrize("wrong", [[12], [12, 12, 12], [[12, 12]], 12, [12, -1], [12, 10**6]])
def test_lengths_of_another_batch_are_refused_and_never_spread(
    model: SpeechLM, waveform: Tensor, wrong: Any
) -> None:
    tokens = model.codec.encode(waveform)
    heard = [
        model.codec.encode,
        model.codec.reconstruct,
        lambda given, lengths: model.continue_speech(given, sample_rate=16000, lengths=lengths),
    ]
    read = [
        model.codec.compact,
        model.codec.expand,
        model.codec.decoded_samples,
        model.codec.decode,
        model.codec.dequantize,
        model.log_probs,
        model.score,
        model.inputs,
        model.predicted,
        lambda given, lengths: model.generate(given, new_tokens=4, lengths=lengths),
        lambda given, lengths: model.generate_speech(given, samples=100, lengths=lengths),
        lambda given, lengths: model.stream(given, lengths=lengths),
        lambda given, lengths: model.decode_continuation(given, given, lengths=lengths),
        lambda given, lengths: model.decode_continuation(given, given, new_lengths=lengths),
    ]
    for methods, given in ((heard, waveform), (read, tokens)):
        for method in methods:
            said = refused(lambda lengths, call=method, x=given: call(x, lengths=lengths), wrong)
            assert "lengths must be 2 numbers of " in said
            assert f"; got {[wrong] if wrong == 12 else wrong}" in said


def test_lengths_are_counts_not_parts_of_the_whole(model: SpeechLM, waveform: Tensor) -> None:
    given = torch.tensor([1.0, 0.5])
    assert "lengths must be integers, got float32" in refused(
        lambda lengths: model.codec.encode(waveform, lengths=lengths), given
    )
    with pytest.raises(ArgumentError, match=r"got \[9, 9, 9, 9, 9, 9, 9, 9\] of shape \[99\]"):
        checked_lengths([9] * 99, rows=2, most=9, unit="tokens", device=torch.device("cpu"))


def test_tokens_of_any_integer_type_are_the_same_tokens(model: SpeechLM, waveform: Tensor) -> None:
    tokens = model.codec.encode(waveform)
    dtypes = (torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32)
    given = [*(tokens.to(dtype) for dtype in dtypes), tokens.numpy().astype(np.uint16), tokens.tolist()]
    for name, method in reading(model).items():
        expected = method(tokens)
        for each in given:
            assert same(method(each), expected), (name, type(each), getattr(each, "dtype", ""))


def test_what_are_no_tokens_is_refused_alike(model: SpeechLM, waveform: Tensor) -> None:
    tokens = model.codec.encode(waveform)
    for bad, said in [
        (tokens.float(), "tokens must be integers, got float32; convert whole numbers with .long()"),
        (tokens > 3, "tokens must be integers, got bool"),
        (tokens[None], "tokens must be (B,T) or (T,), at least one row, got [1, 2, 16]"),
        (tokens[:0], "at least one row, got [0, 16]"),
        (tokens + 32, "token ids must lie in 0…31, got "),
        (-tokens, "another codec's tokens?"),
        ([["a"]], "tokens must be a tensor, an array or a list of numbers"),
    ]:
        for method in reading(model).values():
            assert said in refused(method, bad)


@pytest.mark.parametrize("reads", ["features", "embedding"])
def test_no_tokens_are_nothing_or_refused_as_a_prompt(model: SpeechLM, reads: str) -> None:
    model = fake_speech_lm(model.codec, reads=reads)
    nothing = {
        "decode": (2, 0),
        "dequantize": (2, 0, 16),
        "compact": (2, 0),
        "expand": (2, 0),
        "log_probs": (2, 0),
        "forward": (2, 0),
        "score": (2, 0),
        "predicted": (2, 0),
        "decode_continuation": (2, 0),
    }
    for given in (torch.zeros(2, 0, dtype=torch.int64), np.zeros((2, 0), np.uint16), [[], []]):
        for name, method in reading(model).items():
            if name in nothing:
                assert method(given).shape == nothing[name]
        assert model.codec.decoded_samples(given).tolist() == [0, 0]
        for name in ("generate", "generate_speech", "stream", "session"):
            said = refused(reading(model)[name], given)
            assert said.endswith("at least one; got 0 tokens. Give at least 4")
        assert "n·4) tokens, got [2, 0]" in refused(reading(model)["codec stream"], given)


def test_rates_may_be_whole_floats(model: SpeechLM, waveform: Tensor) -> None:
    expected = model.continue_speech(waveform, sample_rate=22050, seconds=0.1)
    for rate in (22050.0, np.float32(22050), np.int64(22050), torch.tensor(22050)):
        assert same(model.continue_speech(waveform, sample_rate=rate, seconds=0.1), expected)
        assert torch.equal(resample(waveform, rate, 16000.0), resample(waveform, 22050, 16000))
    for wrong in (22050.5, 0, -16000, float("nan"), float("inf"), "16k", None):
        with pytest.raises(AudioError, match="positive whole number of Hz, got"):
            checked_rate(wrong)


def test_seeds_may_be_of_any_integer_type(model: SpeechLM, waveform: Tensor) -> None:
    tokens = model.codec.encode(waveform)
    expected = model.generate(tokens, new_tokens=8, seed=3)
    for given in (
        np.int64(3),
        torch.tensor(3),
        [3, 4],
        (3, 4),
        range(3, 5),
        np.array([3, 4]),
        torch.arange(3, 5),
    ):
        assert torch.equal(model.generate(tokens, new_tokens=8, seed=given), expected)
        assert torch.equal(next(model.stream(tokens, seed=given)), next(model.stream(tokens, seed=3)))
    # Larger and negative ones count around, so that every method takes them alike.
    assert checked_seeds(-1, 2) == [2**63 - 1, 0]
    for wrong in (1.5, None, "3", [1.0, 2.0], torch.tensor(1.5)):
        with pytest.raises(ArgumentError, match="a seed must be an integer, or one for each row; got"):
            checked_seeds(wrong, 2)
    with pytest.raises(ArgumentError, match="3 seeds were given for 2 rows"):
        checked_seeds(np.arange(3), 2)


def test_counts_and_durations_are_checked(model: SpeechLM, waveform: Tensor) -> None:
    tokens = model.codec.encode(waveform)
    assert model.generate(tokens, new_tokens=np.int64(4)).shape == (2, 4)
    for wrong in (-1, 1.5, None):
        with pytest.raises(ArgumentError, match="new_tokens must be an integer of 0 or more, got"):
            model.generate(tokens, new_tokens=wrong)
    with pytest.raises(ArgumentError, match="samples must be an integer of 0 or more, got -1"):
        model.generate_speech(tokens, samples=-1)
    with pytest.raises(ArgumentError, match="batch_size must be an integer of 1 or more, got 0"):
        model.codec.stream(batch_size=0)
    assert model.continue_speech(waveform, sample_rate=16000, seconds=0).shape == (2, 0)
    for wrong in (-1, float("nan"), float("inf"), "long"):
        with pytest.raises(ArgumentError, match="seconds must be a number of seconds, 0 or more, got"):
            checked_seconds(wrong, "seconds")
    with pytest.raises(ArgumentError, match="2 prompts and 1 continuations were given"):
        model.decode_continuation(tokens, tokens[:1])


def test_callers_that_catch_value_errors_go_on_working(model: SpeechLM) -> None:
    with pytest.raises(ValueError, match="token ids must lie in"):
        model.codec.decode([[99]])


def test_a_codec_of_doubles_hears_doubles(waveform: Tensor) -> None:
    codec = fake_codec().double()
    assert torch.equal(codec.encode(waveform), codec.encode(waveform.double()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_codec_of_any_precision_hears_prompts_of_any_rate(waveform: Tensor, dtype: torch.dtype) -> None:
    tokens, lengths = fake_speech_lm(fake_codec().to(dtype)).encode_prompt(waveform, sample_rate=8000)
    assert tokens.shape == (2, 32)
    assert lengths.tolist() == [32, 32]


class Numberless(FakeQuantizer):
    """A quantizer without anything learnt, as one of fixed levels is."""

    def __init__(self, config: FakeQuantizerConfig) -> None:
        Quantizer.__init__(self, config)

    def decode_step(self, tokens_BT: Tensor, state: State) -> tuple[Tensor, State]:
        return tokens_BT, state


def test_a_quantizer_without_weights_is_where_the_rest_of_the_codec_is() -> None:
    plain = fake_codec()
    codec = Codec(plain.encoder, Numberless(FakeQuantizerConfig()), plain.decoder).to("meta")
    tokens_BT, lengths = codec.checked_tokens([[1, 2, 3, 4]], [3])
    assert lengths is not None
    for found in (tokens_BT, lengths, codec.dequantize([[]]), codec.stream().dequantize([[1, 2, 3, 4]])):
        assert found.device.type == "meta"


@pytest.mark.parametrize(("reads", "device"), [("features", "cpu"), ("embedding", "meta")])
def test_tokens_go_to_what_reads_them_first(reads: str, device: str) -> None:
    model = fake_speech_lm(fake_codec(), reads=reads)
    model.backbone.to("meta")
    tokens_BT, lengths = model.checked_tokens([[1, 2, 3, 4]], [3])
    assert tokens_BT.device.type == lengths.device.type == device


def test_what_is_no_dense_tensor_is_refused(model: SpeechLM, waveform: Tensor) -> None:
    tokens = model.codec.encode(waveform).to_sparse()
    said = refused(model.codec.encode, waveform.to_sparse())
    assert said == (
        "a waveform must be a dense tensor, got one that is sparse_coo; convert it with .to_dense()"
    )
    assert "tokens must be a dense tensor" in refused(model.score, tokens)
    assert "lengths must be a dense tensor" in refused(
        lambda lengths: model.codec.encode(waveform, lengths=lengths), tokens
    )


def test_negative_numbers_of_samples_are_refused(model: SpeechLM) -> None:
    assert model.codec.token_lengths([]).tolist() == []
    for wrong in (-5, [3, -1]):
        assert "numbers of samples must be 0 or more, got" in refused(model.codec.token_lengths, wrong)


def test_values_are_looked_at_once(
    model: SpeechLM, waveform: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU every look is a wait."""
    tokens, lengths = model.codec.encode(waveform), torch.tensor([16, 12])
    looks: list[int] = []
    aminmax = Tensor.aminmax

    def counted(tensor: Tensor) -> Any:
        looks.append(1)
        return aminmax(tensor)

    monkeypatch.setattr(Tensor, "aminmax", counted)
    for read in (model, model.log_probs, model.predicted, model.score, model.inputs, model.codec.decode):
        looks.clear()
        read(tokens, lengths=lengths)
        assert len(looks) == 2, "one for tokens, one for lengths"
    checked = model.checked_tokens(tokens, lengths)
    looks.clear()
    log_probs, predicted = model.scored(*checked)
    assert not looks
    monkeypatch.undo()
    assert same(log_probs, model.log_probs(tokens, lengths=lengths))
    assert torch.equal(predicted, model.predicted(tokens, lengths=lengths))
