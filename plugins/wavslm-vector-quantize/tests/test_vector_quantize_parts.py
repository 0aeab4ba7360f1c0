"""What each quantizer computes, against the library and against its definition."""

from math import log, prod
from typing import Any

import pytest
import torch
from vector_quantize_pytorch import FSQ, LFQ

from wavslm_core.parts.packing import packed_copy
from wavslm_vector_quantize.codebook_configs import KMeansConfig, ResidualConfig, SimVqConfig
from wavslm_vector_quantize.k_means import KMeans
from wavslm_vector_quantize.scalar_configs import BsqConfig, FsqConfig, LfqConfig
from wavslm_vector_quantize.scalars import Bsq, Fsq, Lfq
from wavslm_vector_quantize.vectors import Residual, SimVq


def test_fsq_rounds_as_the_library_does() -> None:
    levels = (8, 5, 4, 3)
    quantizer = Fsq(FsqConfig(input_dim=8, levels=levels))
    latents = 3 * torch.randn(500, 4)
    codes, tokens = FSQ(list(levels))(latents[None])
    rounded = quantizer.round(latents)
    assert torch.equal(rounded.tokens_NL[:, 0], tokens[0].long())
    assert torch.allclose(rounded.codes_NK, codes[0], atol=1e-6)
    assert torch.allclose(quantizer.codes(rounded.tokens_NL), codes[0], atol=1e-6)
    half_steps = 0.5 / (torch.tensor(levels) // 2)
    assert ((quantizer.unrounded(latents) - codes[0]).abs() <= half_steps + 1e-6).all()


@pytest.mark.parametrize(
    "quantizer",
    [
        Fsq(FsqConfig(input_dim=8, levels=(5, 3, 4))),
        Lfq(LfqConfig(input_dim=8, codebook_size=16)),
        Bsq(BsqConfig(input_dim=8, codebook_size=16)),
    ],
    ids=["fsq", "lfq", "bsq"],
)
def test_digits_of_an_id_are_parts_of_its_code(quantizer: Any) -> None:
    facts = quantizer.config.facts()
    tokens = torch.arange(facts.vocab_size)
    codes = quantizer.codes(tokens[:, None])
    # Tokens that agree in a digit agree in one number of their codes, and in no other throughout.
    order = range(len(facts.digits))
    for place, number in zip(order, reversed(order) if isinstance(quantizer, Fsq) else order, strict=True):
        weight = prod(facts.digits[place + 1 :])
        for value in range(facts.digits[place]):
            found = codes[tokens // weight % facts.digits[place] == value]
            same = [column for column in range(codes.shape[1]) if len(found[:, column].unique()) == 1]
            assert same == [number]


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("bits", [1, 5, 8])
def test_sign_codes_and_losses_are_the_librarys(spherical: bool, bits: int) -> None:
    quantizer = (
        Bsq(BsqConfig(input_dim=8, codebook_size=2**bits, entropy_inverse_temperature=2))
        if spherical
        else Lfq(LfqConfig(input_dim=8, codebook_size=2**bits, entropy_inverse_temperature=0.3))
    )
    library = LFQ(codebook_size=2**bits, spherical=spherical, commitment_loss_weight=1.0)
    latents = torch.randn(300, bits, requires_grad=True)
    inv_temperature = quantizer.config.entropy_inverse_temperature
    (codes, tokens, _), parts = library(
        latents[None], inv_temperature=inv_temperature, return_loss_breakdown=True
    )
    expected = {"entropy": parts.per_sample_entropy - parts.batch_entropy, "commitment": parts.commitment}
    rounded = quantizer.round(latents)
    assert torch.equal(rounded.tokens_NL[:, 0], tokens[0].long())
    assert torch.allclose(rounded.codes_NK, codes[0], atol=1e-6)
    for name, loss in expected.items():
        # The library takes the logarithm of no probability below 1e-5.
        assert torch.allclose(rounded.losses[name], loss, rtol=1e-3, atol=1e-4), name
        given, wanted = (
            torch.autograd.grad(x, latents, retain_graph=True)[0] for x in (rounded.losses[name], loss)
        )
        assert (given - wanted).norm() <= 0.02 * wanted.norm() + 1e-6, name


def test_entropy_of_65536_codes_needs_no_table_of_them() -> None:
    latents = torch.randn(64, 16, requires_grad=True)
    quantizer = Bsq(BsqConfig(input_dim=8, codebook_size=65536))
    assert max(tensor.numel() for tensor in (*quantizer.buffers(), *quantizer.parameters())) < 65536
    loss = quantizer.round(latents).losses["entropy"]
    loss.backward()
    assert latents.grad.isfinite().all()
    sharp = Bsq(BsqConfig(input_dim=8, codebook_size=65536, entropy_inverse_temperature=1e4))
    # 64 latents that are each sure of a code of their own: log(64) nats over the batch, none per latent.
    assert float(sharp.round(latents.detach()).losses["entropy"]) == pytest.approx(-log(64), abs=0.05)


@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_sim_vq_rounds_and_is_drawn_as_the_librarys(gradient: Any) -> None:
    quantizer = SimVq(SimVqConfig(input_dim=8, codebook_size=30, code_dim=6, gradient=gradient))
    latents = torch.randn(40, 6, requires_grad=True)
    quantizer.sim.rotation_trick = gradient == "rotation"
    codes, tokens, loss = quantizer.sim(latents[None])
    rounded = quantizer.round(latents)
    assert torch.equal(rounded.tokens_NL[:, 0], tokens[0])
    assert torch.allclose(rounded.codes_NK, codes[0], atol=1e-5)
    assert torch.allclose(rounded.losses["codebook"] + 0.25 * rounded.losses["commitment"], loss, atol=1e-6)
    given, wanted = (
        torch.autograd.grad((x * torch.arange(6)).sum(), latents)[0] for x in (rounded.codes_NK, codes)
    )
    assert torch.allclose(given, wanted, atol=1e-4)


def test_packing_leaves_the_codes_of_sim_vq_alone() -> None:
    quantizer = SimVq(SimVqConfig(input_dim=8, codebook_size=64, code_dim=6)).eval()
    packed = packed_copy(quantizer, weights="int8")
    latents = torch.randn(200, 6)
    assert torch.equal(packed.tokens(latents), quantizer.tokens(latents))


def test_residual_levels_code_what_is_left() -> None:
    quantizer = Residual(ResidualConfig(input_dim=8, num_levels=3, codes_per_level=16, code_dim=4))
    latents = torch.randn(100, 4)
    for _ in range(20):
        quantizer.train().round(latents)
    tokens = quantizer.eval().tokens(latents)
    assert torch.equal(tokens // 16, torch.arange(3).expand(100, 3))
    errors = []
    total = torch.zeros(100, 4)
    for level, book in enumerate(quantizer.books):
        total = total + book.codes(tokens[:, level] % 16)
        errors.append(float((latents - total).square().mean()))
    assert torch.allclose(total, quantizer.codes(tokens), atol=1e-6)
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert torch.equal(quantizer.codes((tokens + 16) % 48), quantizer.codes(tokens))


def test_residual_frames_are_whole() -> None:
    quantizer = Residual(ResidualConfig(input_dim=8, codes_per_level=16, code_dim=4)).eval()
    tokens = quantizer.encode(torch.randn(1, 5, 8))
    assert tokens.shape == (1, 10)
    assert torch.equal(quantizer.decode(tokens[:, :9]), quantizer.decode(tokens[:, :8]))


def test_merged_units_tell_how_long_they_last() -> None:
    torch.manual_seed(0)
    plain = KMeans(KMeansConfig(input_dim=16, codebook_size=6)).eval()
    merging = KMeans(KMeansConfig(input_dim=16, codebook_size=6, deduplicate=True, max_run=4)).eval()
    merging.load_state_dict(plain.state_dict())
    features = torch.randn(2, 60, 16).repeat_interleave(2, dim=1)
    units = plain.encode(features)
    tokens = merging.encode(features)
    assert torch.equal(tokens, 4 * units)
    assert torch.equal(merging.decode(tokens), plain.decode(units))
    merged, sizes = merging.compact(tokens)
    assert int(sizes.max()) <= 61
    again, lengths = merging.expand(merged, lengths=sizes)
    assert torch.equal(again, tokens)
    assert lengths.tolist() == [120, 120]
    # Every length of every unit is told apart from all others.
    read = merging.decode(torch.arange(24)[None])[0]
    distances = torch.cdist(read, read) + 1e9 * torch.eye(24)
    assert distances.min() > 1.0


def test_units_teach_the_encoder_only_when_asked() -> None:
    def gradient(quantizer: KMeans, *, bypass_codes: bool = False) -> torch.Tensor | None:
        torch.manual_seed(0)
        features = torch.randn(2, 40, 8, requires_grad=True)
        output = quantizer(features, bypass_codes=bypass_codes)
        if not output.features_BTD.requires_grad:
            return None
        return torch.autograd.grad(output.features_BTD.sum(), features)[0]

    assert gradient(KMeans(KMeansConfig(input_dim=8))) is None
    passed = gradient(KMeans(KMeansConfig(input_dim=8, gradient="straight_through")))
    assert passed is not None
    assert torch.equal(passed, torch.ones(2, 40, 8))
    bypassed = gradient(KMeans(KMeansConfig(input_dim=8)), bypass_codes=True)
    assert bypassed is not None
    output = KMeans(KMeansConfig(input_dim=8))(torch.randn(2, 40, 8, requires_grad=True))
    assert output.losses["commitment"].requires_grad
