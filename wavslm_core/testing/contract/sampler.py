"""The contract of samplers."""

import pytest
import torch
from torch import Tensor

from wavslm_core.model.chain import ChainConfig
from wavslm_core.model.sampling import NO_TOKEN, SamplerChain, TokenDraw
from wavslm_core.parts.facts import SamplerFacts
from wavslm_core.parts.interfaces import SamplingContext
from wavslm_core.parts.plugins import load_registry
from wavslm_core.testing.contract.chi_square import LEAST_LIKELY, chi_square_likelihood
from wavslm_core.testing.contract.config_checks import PartChecks
from wavslm_core.testing.contract.subject import generator
from wavslm_core.testing.gpu import gpu

VOCABULARY = 24
ROWS = 6
DRAWS = 4000


class SamplerContract(PartChecks):
    @property
    def facts(self) -> SamplerFacts:
        facts = self.subject.facts()
        assert isinstance(facts, SamplerFacts)
        return facts

    def logits(self) -> dict[str, Tensor]:
        """Return (N,V) logits of several kinds."""
        random = 3 * torch.randn(ROWS, VOCABULARY, generator=generator())
        dropped = torch.rand(random.shape, generator=generator(1)) < 0.5
        dropped[:, 5] = False
        single = torch.full_like(random, -torch.inf)
        single[torch.arange(ROWS), torch.arange(ROWS) * 3] = -7.0
        return {
            "random logits": random,
            "equal logits": torch.zeros_like(random),
            "logits up to 300": 100 * random,
            "logits with half of the tokens dropped": random.masked_fill(dropped, -torch.inf),
            "logits with one token left": single,
        }

    def context(self, seed: int = 2, *, known: bool = True) -> SamplingContext:
        """Return a context whose rows differ; without `known`, nothing was generated yet."""
        size = self.facts.history_tokens
        history = torch.randint(VOCABULARY, (ROWS, size), generator=generator(seed))
        # As at the start of a continuation, the first row has heard half of what is looked back at.
        history[0, : (size + 1) // 2] = NO_TOKEN
        positions = torch.arange(ROWS) * 37
        if known:
            return SamplingContext(positions, history)
        return SamplingContext(torch.zeros_like(positions), torch.full_like(history, NO_TOKEN))

    def test_result(self) -> None:
        sampler = self.part()
        for kind, logits in self.logits().items():
            for context in (self.context(), self.context(known=False)):
                before = logits.clone()
                adjusted = sampler.adjust(logits, context)
                self.require(
                    torch.equal(logits, before),
                    f"adjust wrote into {kind}",
                    "`logits_NV` is not written into",
                )
                self.require(
                    adjusted.shape == logits.shape and adjusted.dtype == torch.float32,
                    f"{kind} became {list(adjusted.shape)} {adjusted.dtype}",
                    "adjust gives (N,V) float32",
                )
                self.require(
                    not bool(adjusted.isnan().any() or adjusted.isposinf().any()),
                    f"{kind} became NaN or +inf",
                    "logits are finite, or -inf for tokens that are dropped",
                )
                self.require(
                    bool(adjusted.isfinite().any(dim=-1).all()),
                    f"{kind} lost every token of a row",
                    "at least one token stays in each row",
                )
                self.require(
                    not bool((adjusted.isfinite() & logits.isneginf()).any()),
                    f"tokens that were dropped before came back in {kind}",
                    "samplers compose: a token that one dropped stays dropped",
                )

    def test_adjust_is_a_function(self) -> None:
        sampler = self.part()
        for kind, logits in self.logits().items():
            first = sampler.adjust(logits, self.context())
            sampler.adjust(torch.zeros(2, VOCABULARY), self.rows(self.context(), torch.arange(2)))
            self.require_same(
                sampler.adjust(logits, self.context()),
                first,
                f"{kind} gave two results",
                "a sampler has no state and no chance of its own",
                tolerance=0.0,
            )

    def rows(self, context: SamplingContext, rows: Tensor) -> SamplingContext:
        return SamplingContext(context.positions_N[rows], context.history_NH[rows])

    def test_gpu(self) -> None:
        rule = "what adjust makes stays on the device of the logits"
        sampler, context = self.part(), self.context()
        with gpu() as device, self.attempt("adjusting logits on a GPU", rule):
            logits = self.logits()["random logits"].to(device)
            moved = SamplingContext(context.positions_N.to(device), context.history_NH.to(device))
            place = sampler.adjust(logits, moved).device
        self.require(place == device, f"on {device}, adjust gave logits on {place}", rule)

    def test_rows_are_independent(self) -> None:
        sampler, context = self.part(), self.context()
        choices = [*torch.arange(ROWS).split(1), torch.tensor([3, 0, 5, 1])]
        for kind, logits in self.logits().items():
            batch = sampler.adjust(logits, context)
            for rows in choices:
                self.require_same(
                    sampler.adjust(logits[rows], self.rows(context, rows)),
                    batch[rows],
                    f"{kind}: rows {rows.tolist()} change with their batch",
                    "a row of the result is a function of its own row of the arguments alone",
                    tolerance=1e-6,
                )

    def test_greedy_fact(self) -> None:
        sampler, logits = self.part(), self.logits()
        left = {
            kind: int(sampler.adjust(logits[kind], self.context()).isfinite().sum(dim=-1).max())
            for kind in ("random logits", "equal logits")
        }
        if self.facts.greedy:
            self.require(
                max(left.values()) == 1,
                f"its facts say greedy, but up to {max(left.values())} tokens are left",
                "greedy leaves one token, of equal ones too",
            )
        else:
            self.require(
                max(left.values()) > 1,
                "one token is left of random and of equal logits, but its facts do not say greedy",
                "a sampler that leaves nothing to chance says greedy=True",
            )

    def test_history_fact(self) -> None:
        sampler, size = self.part(), self.facts.history_tokens
        if size == 0:
            pytest.skip("its facts say that it looks at no history")
        logits = self.logits()["random logits"]
        favourite = logits.argmax(dim=-1, keepdim=True)
        heard = SamplingContext(self.context().positions_N, favourite.expand(-1, size))
        fresh = SamplingContext(heard.positions_N, torch.full_like(heard.history_NH, NO_TOKEN))
        self.require(
            not torch.equal(sampler.adjust(logits, heard), sampler.adjust(logits, fresh)),
            f"its facts ask for {size} tokens of history, but hearing the likeliest token changes nothing",
            "history_tokens is what adjust looks at",
        )

    def test_older_tokens_do_not_matter(self) -> None:
        logits = self.logits()["random logits"][:, None]
        size = self.facts.history_tokens
        prompts = [torch.randint(VOCABULARY, (ROWS, size + 9), generator=generator(seed)) for seed in (3, 4)]
        prompts[1][:, 9:] = prompts[0][:, 9:]
        drawn = [
            torch.cat([draw.tokens(logits) for _ in range(8)], dim=1)
            for draw in (TokenDraw(self.part(), prompt, seeds=range(ROWS)) for prompt in prompts)
        ]
        self.require(
            torch.equal(*drawn),
            f"tokens older than history_tokens = {size} change what is drawn",
            "history_tokens bounds what a sampler looks at",
        )

    def test_frequencies(self) -> None:
        prompt = torch.randint(VOCABULARY, (1, self.facts.history_tokens + 1), generator=generator(5))
        for kind in ("random logits", "equal logits"):
            logits_V = self.logits()[kind][0]
            draw = TokenDraw(self.part(), prompt.expand(DRAWS, -1), seeds=range(DRAWS))
            drawn = draw.tokens(logits_V.expand(DRAWS, 1, -1)).flatten()
            history = prompt[:, prompt.shape[1] - self.facts.history_tokens :]
            context = SamplingContext(torch.zeros(1, dtype=torch.int64), history)
            probabilities = self.part().adjust(logits_V[None], context).softmax(dim=-1)[0]
            counts = torch.bincount(drawn, minlength=VOCABULARY)
            likelihood = chi_square_likelihood(counts, probabilities)
            self.require(
                likelihood > LEAST_LIKELY,
                f"tokens drawn from {kind} do not have its frequencies (chi-square: {likelihood:.1g})",
                "tokens are drawn with the probabilities that adjust leaves",
            )

    def test_chain(self) -> None:
        if self.subject.registry is not load_registry():
            pytest.skip("a chain builds samplers of the installed registry")
        config, logits, context = self.subject.config, self.logits()["random logits"], self.context()
        chain_config = ChainConfig.model_validate({"steps": [config, config]})
        chain = SamplerChain(chain_config)
        self.require(
            ChainConfig.model_validate(chain_config.model_dump(mode="json")) == chain_config,
            "a chain of it, written down and read, changed",
            "a recipe holds chains",
        )
        once = self.part().adjust(logits, context)
        self.require_same(
            chain.adjust(logits, context),
            self.part().adjust(once, context),
            "a chain of it twice is not it applied twice",
            "samplers compose",
            tolerance=0.0,
        )
