"""Distilled sentence embedding: two vectors and a small head say of a pair what a cross-encoder says of its texts.

Paper: O. Barkan et al., "Scalable Attentive Sentence-Pair Modeling via Distilled Sentence Embedding", AAAI 2020, arXiv
1908.05161. As the authors' code has it, which is complete; nothing departs but the head's split layer, see `pair_head`.
"""

from typing import Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional as F

from kilter.core.checks import finite, first, floating, one_of, one_per_row, readable, shaped, share
from kilter.core.decoder import warn
from kilter.core.objective import LossOutput, Objective
from kilter.core.paper import Claim, Paper
from kilter.embeddings.pair_head import PairHead

Task = Literal["binary", "multiclass", "regression"]

_ENOUGH = 8
"""Rows from which on logits that could all be probabilities are said to be some."""


def pair_distillation_loss(
    logits: Float[Tensor, "batch outputs"],
    teacher_logits: Float[Tensor, "batch columns"] | Float[Tensor, " batch"] | None,
    labels: Num[Tensor, " batch"] | Num[Tensor, "batch 1"] | None = None,
    *,
    distill_weight: float | int = 0.5,
    task: Task = "binary",
) -> Float[Tensor, " batch"]:
    r"""How far scores of pairs are from a teacher's, and from the labels.

    $$\ell = (1 - \alpha)\,\ell_\text{label} + \alpha \sum_c (y_c - t_c)^2$$

    The label's part is binary cross entropy, cross entropy or the squared error. A binary teacher's two logits are
    taken as one, $t = t_1 - t_0$, whose sigmoid is the probability of class 1.

    Args:
        logits: y, before sigmoid or softmax: one column, or of several classes one each.
        teacher_logits: t, the same of the teacher: `(B, C)`; of binary tasks `(B, 2)`, `(B, 1)` or `(B,)`. May be None
            where α is 0.
        labels: 0 or 1 (or a probability), the number of a class, or a score. May be None where α is 1.
        distill_weight: α.
        task: what labels are.

    Returns:
        One value per pair; the loss is their mean.

    Raises:
        TypeError: logits that are not floating point, labels that are no numbers.
        ValueError: other rows or columns than `logits` has, labels or teacher that are missing where they count, an
            option out of range; on the CPU also NaN, infinity and labels that are of no class.

    Example:
        >>> y, t = torch.tensor([[1.0], [-2.0]]), torch.tensor([[0.0, 3.0], [1.0, -1.0]])
        >>> pair_distillation_loss(y, t, distill_weight=1)
        tensor([4., 0.])

    Reference: Barkan et al., AAAI 2020.
    """
    share("distill_weight", distill_weight)
    one_of("task", task, Task)
    _check_logits(logits, task)
    y = logits.to(torch.promote_types(logits.dtype, torch.float32))
    t = _teacher(y, teacher_logits, task, distill_weight)
    wanted = _labels(y, labels, task, distill_weight)
    return torch.stack([*_parts(y, t, wanted, task, distill_weight).values()]).sum(0)


def _parts(
    y: Tensor, t: Tensor | None, wanted: Tensor | None, task: Task, distill_weight: float | int
) -> dict[str, Tensor]:
    """The weighted terms of each row; what has no weight is not there, so that it cannot even bring a NaN."""
    terms: dict[str, Tensor] = {}
    if wanted is not None and distill_weight < 1:
        terms["dse_label"] = (1 - distill_weight) * _of_labels(y, wanted, task)
    if t is not None and distill_weight > 0:
        terms["dse_distill"] = distill_weight * (y - t).square().sum(1)
    return terms


def _of_labels(y: Float[Tensor, "batch outputs"], wanted: Tensor, task: Task) -> Float[Tensor, " batch"]:
    if task == "multiclass":
        return F.cross_entropy(y, wanted, reduction="none")
    if task == "regression":
        return (y[:, 0] - wanted).square()
    return -F.logsigmoid(-y[:, 0]) - y[:, 0] * wanted  # cross entropy, without a sigmoid that could round to 0


class DistilledSentenceEmbedding(Objective):
    r"""Train an encoder and its pair head to score pairs as a cross-encoder does, which reads both texts together.

    $$\mathcal L = \frac1B \sum_i (1 - \alpha)\,\ell_\text{label}(y_i) + \alpha \sum_c (y_{ic} - t_{ic})^2, \qquad
      y_i = \mathrm{head}(u_i, v_i)$$

    with u, v the encoder's vectors of each text alone, and t the teacher's logits: before sigmoid or softmax, computed
    once in eval mode, kept in a column beside the pair so that no shuffle can part them. α = 0 fine-tunes a siamese
    encoder on labels, α = 1 needs none.

    In the trainer of sentence-transformers, with text columns u, v and a column `label` that holds in each row a list
    of the teacher's logits and then the label:

        encoder = with_layer_pooling(encoder)  # of kilter.hosts.layer_pooling; or layers=None
        head = PairHead(width(encoder))
        loss = as_st_loss(DistilledSentenceEmbedding(head), encoder)
        SentenceTransformerTrainer(model=encoder, args=args, train_dataset=rows, loss=loss).train()
        head.save_pretrained("student/head")

    Of pairs without labels the list holds logits alone, with `as_st_loss(…, labels="teacher_logits")` and α = 1. The
    head learns from vectors as they are before a `Normalize` at the encoder's end and must later be given the same,
    which `with_layer_pooling` sees to (and `kilter.hosts.sentence_modules.without_normalize`).

    Of a teacher that is very sure, logits can outweigh labels by far; divide them by their standard deviation then.

    Args:
        head: with one output, or of several classes one each; it is trained with the encoder.
        distill_weight: α.
        task: `binary` (labels 0 and 1), `multiclass` (numbers of classes) or `regression` (scores).

    Shape:
        - `u`, `v`: float `(B, D)`; `teacher_logits`: float `(B, C)`, with one output also `(B,)`, of binary tasks also
          `(B, 2)`, or None with α = 0; `labels`: `(B,)` or `(B, 1)`, or None with α = 1.
        - returns `LossOutput`: parts `dse_label`, `dse_distill`; stats `dse_distance` (root mean square between student
          and teacher) and `dse_teacher` (the label's loss that the teacher itself has: higher than that of chance if
          its logits are those of other rows).

    Raises:
        TypeError, ValueError: see `pair_distillation_loss` and `PairHead`; also a head with other outputs than the task
            has.

    Example:
        >>> objective = DistilledSentenceEmbedding(PairHead(8))
        >>> u, v, t = torch.randn(4, 8), torch.randn(4, 8), torch.randn(4, 2)
        >>> sorted(objective(u, v, t, torch.tensor([0, 1, 1, 0])).parts)
        ['dse_distill', 'dse_label']

    Reference: Barkan et al., AAAI 2020.
    """

    def __init__(self, head: PairHead, *, distill_weight: float | int = 0.5, task: Task = "binary") -> None:
        super().__init__()
        if not isinstance(head, PairHead):
            raise TypeError(
                f"head must be a PairHead, got {type(head).__name__}; PairHead(width of the vectors) is one"
            )
        share("distill_weight", distill_weight)
        one_of("task", task, Task)
        if (head.outputs > 1) != (task == "multiclass"):
            needs = "one for each class" if task == "multiclass" else "1"
            raise ValueError(f"head has outputs={head.outputs}, the task {task} needs {needs}")
        self.head = head
        self.distill_weight = distill_weight
        self.task: Task = task
        self._said = False

    def forward(
        self,
        u: Float[Tensor, "batch dim"],
        v: Float[Tensor, "batch dim"],
        teacher_logits: Float[Tensor, "batch outputs"] | Float[Tensor, " batch"] | None,
        labels: Num[Tensor, " batch"] | Num[Tensor, "batch 1"] | None = None,
    ) -> LossOutput:
        """Compute the loss; see the class."""
        y = self.head(u, v)
        t = _teacher(y, teacher_logits, self.task, self.distill_weight)
        wanted = _labels(y, labels, self.task, self.distill_weight)
        if teacher_logits is not None:
            self._look_for_probabilities(teacher_logits.detach())
        rows = max(len(y), 1)
        weighted = _parts(y, t, wanted, self.task, self.distill_weight)
        parts = {name: each.sum() / rows for name, each in weighted.items()}
        stats = {}
        with torch.no_grad():
            if t is not None:
                stats["dse_distance"] = ((y - t).square().sum() / (rows * y.shape[1])).sqrt()
            if t is not None and wanted is not None:
                stats["dse_teacher"] = _of_labels(t, wanted, self.task).sum() / rows
        return LossOutput(torch.stack([*parts.values()]).sum(), parts, stats)

    def _look_for_probabilities(self, t: Tensor) -> None:
        """Say so once where a teacher was asked for probabilities, as cross-encoders are unless told otherwise."""
        if self._said or self.task == "regression" or not self.training or len(t) < _ENOUGH or not readable(t):
            return
        total = t.sum(1) if t.ndim == 2 and t.shape[1] > 1 else torch.ones(())
        if (t >= 0).all() and (t <= 1).all() and ((total - 1).abs() < 1e-3).all():
            self._said = True
            warn(
                "DistilledSentenceEmbedding: all teacher_logits of a batch look like probabilities; give logits, of a "
                "CrossEncoder predict(…, activation_fn=torch.nn.Identity())"
            )


# What is wanted ------------------------------------------------------------------------------------------------------


def _teacher(
    y: Tensor, given: Tensor | None, task: Task, distill_weight: float | int
) -> Float[Tensor, "batch outputs"] | None:
    """The teacher's logits as the student should give them."""
    if given is None:
        if distill_weight > 0:
            raise ValueError(
                f"teacher_logits are needed, since distill_weight={distill_weight:g}; give them, or distill_weight=0 "
                "to train on labels alone"
            )
        return None
    floating("teacher_logits", given, "give the cross-encoder's outputs before sigmoid or softmax")
    t = given[:, None] if given.ndim == 1 else given
    binary = task == "binary"
    mend = "two columns, or their difference" if binary else "one column for each output"
    shaped("teacher_logits", t, "batch, outputs", f"give {mend}")
    if len(t) != len(y):
        raise ValueError(
            f"teacher_logits has {len(t)} rows, and there are {len(y)} pairs; keep the logits in a column beside the "
            "pairs"
        )
    if t.shape[1] != y.shape[1] and not (binary and t.shape[1] == 2):
        raise ValueError(f"teacher_logits has {t.shape[1]} columns, and a pair {y.shape[1]} scores; give {mend}")
    finite("teacher_logits", t, mend="leave that pair out, or look at what the teacher was given")
    t = t.to(y.dtype)
    return t[:, 1:] - t[:, :1] if binary and t.shape[1] == 2 else t


def _labels(y: Tensor, given: Tensor | None, task: Task, distill_weight: float | int) -> Num[Tensor, " batch"] | None:
    """Labels as their loss takes them: of classes whole numbers, else those of `y`'s kind."""
    if given is None:
        if distill_weight < 1:
            raise ValueError(
                f"labels are needed, since distill_weight={distill_weight:g}; give them, or distill_weight=1 for pairs "
                "that have none"
            )
        return None
    if not isinstance(given, Tensor) or given.dtype == torch.bool or given.is_complex():
        kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
        raise TypeError(f"labels must be a tensor of numbers, got {kind}; use .long() or .float()")
    wanted = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    one_per_row("labels", wanted, len(y), "pairs", "give the class or score of each")
    finite("labels", wanted.float(), mend="leave that pair out, or train on pairs without labels with distill_weight=1")
    if task == "regression":
        return wanted.to(y.dtype)
    classes = y.shape[1] if task == "multiclass" else 2
    if readable(wanted):
        wrong = (wanted < 0) | (wanted > classes - 1)
        wrong = wrong | (wanted != wanted.round()) if task == "multiclass" else wrong
        if at := first(wrong):
            raise ValueError(f"row {at[0]}: labels is {wanted[at[0]]:g}, but the task {task} has {_known(classes)}")
    return wanted.long() if task == "multiclass" else wanted.to(y.dtype)


def _known(classes: int) -> str:
    return "0 and 1" if classes == 2 else f"classes 0 to {classes - 1}"


def _check_logits(logits: Tensor, task: Task) -> None:
    floating("logits", logits, "give the pair head's outputs")
    shaped("logits", logits, "batch, outputs", "give the pair head's outputs")
    if (logits.shape[1] > 1) != (task == "multiclass"):
        needs = "two or more, one for each class" if task == "multiclass" else "1"
        raise ValueError(f"logits has {logits.shape[1]} columns, the task {task} needs {needs}")
    finite("logits", logits, mend="lower the learning rate")


PAPER = Paper(
    slug="dse",
    title="Scalable Attentive Sentence-Pair Modeling via Distilled Sentence Embedding",
    authors=(
        "Oren Barkan",
        "Noam Razin",
        "Itzik Malkiel",
        "Ori Katz",
        "Avi Caciularu",
        "Noam Koenigstein",
    ),
    year=2020,
    venue="AAAI Conference on Artificial Intelligence",
    url="https://arxiv.org/abs/1908.05161",
    lever="objective",
    purpose="a cross-encoder's scores of pairs, from vectors that are computed once for each text",
    names=("DistilledSentenceEmbedding", "PairHead", "PairSearch", "pair_distillation_loss"),
    claims=(
        Claim(
            text="pairs are scored by orders of magnitude faster than by the cross-encoder, and nearly as well",
            published="several orders of magnitude; 4.6 % worse than BERT, relative, mean of five GLUE tasks",
            metric="times_faster",
            better="higher",
            baseline="teacher",
            arm="dse",
            by=99.0,  # the teacher is 1 time faster than itself
            guard=("average", 4.0),  # points, of figures that lie around 85
        ),
        Claim(
            text="it is better than variants of ELMo and than other embeddings of sentences",
            reason="needs ELMo and the other models of its time, trained on the pair tasks of GLUE",
        ),
        Claim(
            text="its vectors alone are as good as the best of their time where they are judged as general ones",
            reason="needs SentEval, and training on all of SNLI and MNLI",
        ),
    ),
    arxiv="1908.05161",
)
