"""Recipe of expert upcycling: one encoder with a set of weights for each domain, beside one dense model and N of them.

The domains are sections of Debian's package descriptions, a summary and its description a pair. The paper trained on
abstracts of five fields of biomedicine that are cited together; its data could not be had here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Term
from kilter.lab.options import above, at_least
from kilter.tasks.domain_retrieval import DomainRetrieval

_ALL = (
    "untrained",
    "separate",
    "dense",
    "dense+tokens",
    "experts",
    "experts+untold",
    "experts+lora",
    "experts+released",
)
_MARGIN = 1.0
"""Points that N experts may be behind N models and count as equal: as many as the paper's files have as gain."""


@dataclass(kw_only=True)
class ExpertsRecipe(DomainRetrieval):
    """Serve several domains with one encoder that has a set of weights for each of them.

    Every feed-forward block is copied once for each domain, a text goes through the copies of its domain, and all else
    is shared; before training the outputs are those of the encoder as given, and a text costs what it did.

    Without --train it learns from five sections of Debian's packages and is judged within each. With --train
    med=med.csv law=law.jsonl it learns from pairs of your own and leaves the encoder in arms/experts/seed-0/model: load
    it with kilter.hosts.sentence_transformers.load, then encode(texts, domain="law").
    """

    layers: Literal["all", "middle"] = "all"
    """layers with experts: all, or the middle one only (published: either)"""
    lora_rank: Annotated[int, at_least(1)] = 16
    """rank of the LoRAs of arm experts+lora, which are all that tells its experts apart"""
    lora_rate: Annotated[float | None, above(0)] = None
    """learning rate of that arm; by default the same"""

    paper = cards()["moe-embeddings"]
    shown: ClassVar[tuple[str, ...]] = ("dense", "separate", "experts")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "arms": ("untrained", "separate", "dense", "experts", "experts+lora"),
            **DomainRetrieval.smoke,
            "lora_rank": 2,
        },
        "demo": {
            "arms": ("untrained", "separate", "dense", "experts"),
            "model": "minilm-3",
            "steps": 50,
            "learning_rate": 1e-4,
            "dev_pairs": 60,
            "test_pairs": 80,
            "jobs": 2,
        },
        "full": {
            "arms": _ALL,
            "model": "minilm-3",
            "steps": 125,
            "learning_rate": 3e-4,
            "lora_rate": 5e-4,
            "seeds": 3,
            "jobs": 2,
        },
        "published": {  # the paper's own settings where they are settings, for a machine with accelerators
            "arms": ("untrained", "separate", "dense", "experts"),
            "seeds": 3,
            "model": "allenai/scibert_scivocab_uncased",
            "steps": 100_000,
            "batch_size": 20,
            "learning_rate": 1e-5,
            "max_tokens": 512,
            "dev_pairs": 1000,
            "test_pairs": 1000,
            "save_steps": 5000,
        },
        "own": {"arms": ("untrained", "dense", "experts")},  # what --train means
    }

    def brings(self) -> Mapping[str, Term]:
        """Experts, with LoRAs in their place or as they were released; and a dense model that is told the domain."""
        return {
            "experts": Term(
                "Model with experts",
                self._experts,
                variants={
                    "lora": " as LoRAs",
                    "released": ", converted as released",
                    "middle": " in the middle layer",
                    "silent": " without domain tokens",
                },
            ),
            "tokens": Term(
                "told the domain by a token", lambda strength: Levers(module=self._tokens), after=True, role="context"
            ),
        }

    def _tokens(self, encoder: Any) -> Any:
        from kilter.tasks.domain_retrieval.networks import with_tokens

        return with_tokens(encoder, self.domains)

    def _experts(
        self,
        strength: float | None,
        *,
        lora: bool = False,
        released: bool = False,
        middle: bool = False,
        silent: bool = False,
    ) -> Levers:
        def upcycled(encoder: Any) -> Any:
            from kilter.embeddings import add_experts

            return add_experts(
                encoder,
                self.domains,
                layers="middle" if middle else self.layers,
                domain_tokens=not silent,
                compat=released,
                lora_rank=self.lora_rank if lora else None,
            )

        rate = {"learning_rate": self.lora_rate} if lora and self.lora_rate is not None else {}
        return Levers(objective=self.contrast, module=upcycled, options=rate)

    def made_by(self, arm: str) -> dict[str, Any]:
        """Without the options of LoRAs where there are none."""
        found = super().made_by(arm)
        return found if "lora" in arm.split("+") else {k: v for k, v in found.items() if not k.startswith("lora_")}

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what the experts, their tokens and the domain's being told are each for."""
        others = ("untrained", "dense", "dense+tokens", "experts+untold", "experts+lora", "experts+released")
        pairs = [*((other, "experts") for other in others), ("untrained", "dense")]
        pairs += [("dense", "separate"), ("dense", "dense+tokens")]
        ours = []
        for metric in ("f1", "retrieval"):
            ours += [Claim(metric, "higher", one, other) for one, other in pairs]
            ours.append(Claim(metric, "higher", "separate", "experts", by=-_MARGIN))
        return self.with_claims(ours)

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """How to load what an own run left; else how much smaller this is than the paper."""
        if self.train_data:
            arm = next((arm for arm in summary["arms"] if arm.startswith("experts")), None)
            load = f'model = kilter.hosts.sentence_transformers.load("arms/{arm}/seed-0/model")'
            how = f'To load it, in the folder of the run: {load}, then model.encode(texts, domain="{self.domains[0]}").'
            return [*super().notes(summary), *[how] * (arm is not None)]
        return [
            *super().notes(summary),
            "The paper trains models of 110 million parameters and more until they stop getting better, on pairs of "
            f"abstracts; these are {self.steps} steps of {self.batch_size} pairs of one or two sentences, which is "
            f"{self.steps // len(self.domains)} steps for each domain.",
        ]


RECIPE = ExpertsRecipe
