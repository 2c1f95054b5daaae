"""Recipe of DSE: a cross-encoder's scores at a bi-encoder's price, for pairs of sentences.

MiniLM is the teacher, fine-tuned as a cross-encoder for each set, and its first three layers are the student. The paper
distilled BERT-large into BERT-large on the pair tasks of GLUE, and on SNLI and MNLI; most of these could not be had.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Term
from kilter.lab.options import share
from kilter.tasks.sentence_pairs import Pupil, SentencePairs

_ALL = ("siamese", "teacher", "untrained", "dse", "dse-1", "dse+dot", "dse+portable")


@dataclass(kw_only=True)
class DistilledPairsRecipe(SentencePairs):
    """Score pairs of sentences nearly as a cross-encoder does, with one vector kept of each sentence.

    A teacher reads both sentences together, which is accurate, and far too slow to compare one with a million. The
    student encodes each sentence once, and a small head learns to say of two vectors what the teacher says of the pair.

    Without --train it learns and is judged on STS-B, SICK and SNLI. With --train pairs.csv it learns from your labelled
    pairs and leaves in arms/dse/seed-0 the student with its head (model) and an index of your sentences (index), which
    kilter search opens; --teacher is a cross-encoder of yours, else one is trained on your labels.
    """

    distill_weight: Annotated[float, share()] = 0.5
    """α, the share of the teacher's logits in the loss, of arm dse (published: 0.5); arm dse-1 has no labels at all"""

    paper = cards()["dse"]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("siamese", "teacher", "untrained", "dse"), **SentencePairs.smoke},
        "demo": {
            "arms": ("siamese", "teacher", "dse"),
            "student": "minilm-3",
            "sets": ("stsb",),
            "pairs": 1000,
            "test_pairs": 500,
            "epochs": 2.0,
            "teacher_epochs": 1.0,
            "jobs": 2,
        },
        "full": {
            "arms": _ALL,
            "student": "minilm-3",
            "pairs": 800,
            "test_pairs": 800,
            "epochs": 1.5,
            "teacher_epochs": 2.0,
            "learning_rate": 3e-4,
            "seeds": 3,
            "jobs": 2,
        },
        "published": {  # the paper's own settings where they are settings, for a machine with accelerators
            "arms": _ALL,
            "teacher_base": "google-bert/bert-large-uncased-whole-word-masking",
            "student": "google-bert/bert-large-uncased-whole-word-masking",
            "epochs": 5.0,
            "batch_size": 32,
            "learning_rate": 2e-5,
            "head_rate": None,
            "teacher_rate": 2e-5,
            "seeds": 5,
        },
        "own": {"arms": ("siamese", "teacher", "dse")},  # what --train means
    }

    def brings(self) -> Mapping[str, Term]:
        """Distillation of the teacher's logits beside the labels."""
        how: Any = {"usual": self.distill_weight, "option": "distill_weight", "strength": _a_share}
        return {"dse": Term("Distilled student, α {:g}", _distilled, **how)}

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what distillation, the labels, the head and the vectors are for."""
        pairs = [
            ("siamese", "dse"),
            ("siamese", "dse-1"),
            ("dse-1", "dse"),
            ("dse+dot", "dse"),
            ("dse+portable", "dse"),
        ]
        ours = [Claim("average", "higher", one, other) for one, other in pairs]
        ours += [Claim(f"{name}_spearman", "higher", "untrained", "dse") for name in ("stsb", "sick_r")]
        return self.with_claims(ours)

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """How much smaller this is than the paper."""
        if self.train_data is not None:
            return super().notes(summary)
        return [
            *super().notes(summary),
            "The paper distils BERT-large, fine-tuned on whole tasks of GLUE, into a student as large for five epochs; "
            f"here it is {self.teacher_base} into {self.student}, {self.pairs or 'all'} pairs of each set, "
            f"each seen {self.epochs:g} times.",
        ]


RECIPE = DistilledPairsRecipe


def _distilled(strength: float) -> Levers:
    def objective(pupil: Pupil) -> Any:
        from kilter.embeddings import DistilledSentenceEmbedding

        return DistilledSentenceEmbedding(pupil.head, distill_weight=strength, task=pupil.kind)

    return Levers(objective=objective)


def _a_share(strength: float) -> str:
    return "" if 0 <= strength <= 1 else "the strength is α, a share from 0 to 1"
