"""A reference answer in the group of a stock GRPO trainer: three methods of the instance are wrapped, none is copied.

trl's own loss does the samples, with (1 + lambda) times the objective's advantages, and the references' term of the
folded loss is added. What trl's tables call `advantage` are its own, before that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from trl import GRPOTrainer  # pyright: ignore[reportPrivateImportUsage]

from kilter.core.errors import suggest
from kilter.core.masking import length_mask, padded
from kilter.core.objective import Objective
from kilter.core.options import finite
from kilter.hosts.trl_references import answers, reference_ids, tokenizer_of

_WRAPPED = ("_calculate_rewards", "_generate_and_score_completions", "_compute_loss")
_OUR_OWN = {"scale_rewards": "group", "multi_objective_aggregation": "sum_then_normalize"}
"""Settings of trl about advantages, which the objective makes instead: what they must be left at."""


class AlignGroup:
    """What `align_group` returns: the methods that stand in the place of the trainer's own."""

    def __init__(
        self, trainer: GRPOTrainer, objective: Objective, *, reference: str, reference_reward: float | str
    ) -> None:
        self.trainer: Any = trainer
        self.objective: Any = objective
        self.reference = reference
        self.reference_reward = reference_reward
        self._scores: Any = None  # of the samples by group, and of the references
        self._before = {name: trainer.__dict__[name] for name in _WRAPPED if name in trainer.__dict__}
        self._own: dict[str, Callable[..., Any]] = {name: getattr(trainer, name) for name in _WRAPPED}
        for name in _WRAPPED:
            setattr(trainer, name, getattr(self, name))
        self.trainer._buffered_inputs = None  # what was generated before has no references

    def detach(self) -> None:
        """Give the stock trainer back.

        Raises:
            ValueError: it is not attached any more, or something was attached after it.
        """
        if any(_owner(self.trainer, name) is not self for name in _WRAPPED):
            raise ValueError("this handle is not attached (any more), or another was attached after it")
        for name in _WRAPPED:
            delattr(self.trainer, name)
        self.trainer.__dict__.update(self._before)
        self.trainer._buffered_inputs = None

    # Scores and advantages ----------------------------------------------------------------------------------

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Float[Tensor, "all functions"]:
        """The trainer's, whose scores are kept, with those of the references."""
        found = self._own["_calculate_rewards"](inputs, prompts, completions, completion_ids_list)
        if self.trainer.model.training:
            scores = self._rewards(found).view(-1, self.trainer.num_generations)
            if self.reference_reward == "score":
                self._scores = scores, self._scored(inputs, prompts, len(scores))
            else:
                self._scores = scores, scores.new_full((len(scores),), float(self.reference_reward))
        return found

    def _rewards(self, by_function: Tensor) -> Tensor:
        """The weighted sum of what the reward functions say; NaN where none of them says anything."""
        weighted = by_function * self.trainer.reward_weights.to(by_function.device)
        return weighted.nansum(1).masked_fill(by_function.isnan().all(1), torch.nan)

    def _scored(self, inputs: Sequence[Mapping[str, Any]], prompts: Any, groups: int) -> Float[Tensor, " groups"]:
        """What the reward functions say of each group's reference."""
        if getattr(self.trainer, "environments", None):
            raise ValueError(
                "reference_reward='score' cannot ask an environment about an answer that it has not seen given; give "
                "the reward of a reference as a number"
            )
        size = self.trainer.num_generations
        step = 1 if len(inputs) % size else size  # a group that two processes share is asked for row by row
        rows = inputs[::step]
        ids = reference_ids(self.trainer, rows, self.reference)
        with self._nothing_logged():
            found = self._own["_calculate_rewards"](rows, prompts[::step], answers(rows, self.reference), ids)
        rewards = self._rewards(found)[:: size // step]
        if len(missing := rewards.isnan().nonzero()):
            raise ValueError(
                f"reference_reward='score': the reward functions gave no number for the reference of group "
                f"{int(missing[0])} of {groups}, column {self.reference!r}; let one of them score it, or give a number"
            )
        return rewards

    @contextmanager
    def _nothing_logged(self) -> Iterator[None]:
        """What a reward function logs of references belongs to no row of trl's tables, and is dropped."""
        names = ("_log_completion_extra", "_log_metric")
        before = {name: self.trainer.__dict__[name] for name in names if name in self.trainer.__dict__}
        for name in names:
            setattr(self.trainer, name, lambda *_, **__: None)
        try:
            yield
        finally:
            for name in names:
                delattr(self.trainer, name)
            self.trainer.__dict__.update(before)

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """The trainer's, with the objective's advantages, and for each row its group's reference."""
        found = self._own["_generate_and_score_completions"](inputs)
        if not self.trainer.model.training:
            return found
        if found.get("num_images") is not None:
            raise ValueError("the batch holds images, with which no reference can be read; leave them out")
        scores, of_references = self._scores
        advantages, reference_advantages = self.objective.advantages(scores, of_references)
        rows, size = len(inputs), self.trainer.num_generations
        first = self.trainer.accelerator.process_index * rows
        own = torch.arange(first, first + rows, device=scores.device)
        ids, lengths = padded(reference_ids(self.trainer, inputs, self.reference))
        found["advantages"] = (1 + self.objective.lambda_) * advantages.flatten()[own]
        found["reference_ids"] = ids.to(scores.device)
        found["reference_mask"] = length_mask(lengths, ids.shape[1]).long().to(scores.device)
        found["reference_advantages"] = reference_advantages[own // size]
        found["reference_group"] = own // size
        return found

    # The loss -----------------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        """The trainer's, and the references' term."""
        loss = self._own["_compute_loss"](model, inputs)
        if not self.trainer.model.training:
            return loss
        _, number, counts = inputs["reference_group"].unique(return_inverse=True, return_counts=True)
        row = torch.empty_like(counts).scatter_(0, number, torch.arange(len(number), device=number.device))
        size = self.trainer.num_generations
        one = {name: inputs[name][row] for name in _READ}
        longest = int(one["reference_mask"].sum(1).max())
        kept, mask = one["reference_ids"][:, :longest], one["reference_mask"][:, :longest]
        without = not (self.objective.beta or self.objective.lambda_)
        with _looking(loss.device) if without else nullcontext():
            log_probs = self.trainer._get_per_token_logps_and_entropies(
                model, torch.cat([one["prompt_ids"], kept], 1), torch.cat([one["prompt_mask"], mask], 1), longest
            )[0]
        with torch.autocast(loss.device.type, enabled=False):
            out = self.objective.reference_term(
                log_probs, mask, one["reference_advantages"], counts.to(one["reference_advantages"].dtype), size
            )
        for name, value in out.stats.items():
            over_all = self.trainer.accelerator.gather(value).mean()
            self.trainer._metrics["train"][name].append(over_all.item())
        return loss + out.loss / self.trainer.current_gradient_accumulation_steps


_READ = ("prompt_ids", "prompt_mask", "reference_ids", "reference_mask", "reference_advantages")


@contextmanager
def _looking(device: torch.device) -> Iterator[None]:
    """References without any weight are looked at only: no graph, and the random stream as it was."""
    cuda = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(cuda):
        yield


def attached_to(trainer: Any) -> AlignGroup | None:
    """The handle that is attached to a trainer."""
    owners = (_owner(trainer, name) for name in _WRAPPED)  # something else may be over one of them
    return next((owner for owner in owners if isinstance(owner, AlignGroup)), None)


def _owner(trainer: Any, name: str) -> Any:
    return getattr(trainer.__dict__.get(name), "__self__", None)


def align_group(
    trainer: GRPOTrainer,
    objective: Objective,
    *,
    reference: str = "chosen",
    reference_reward: float | int | str = 0.0,
) -> AlignGroup:
    r"""Let a GRPO trainer learn from the reference answers of its data, too, also where every sample fails.

    $$\mathcal L = \mathcal L_\text{trl}\bigl((1 + \lambda) A\bigr)
      - \frac1N \sum_y n_y \Bigl(\beta + \frac\lambda G\Bigr) A_y\, \ell_y$$

    Call it after `GRPOTrainer(…, GRPOConfig(loss_type="grpo"))` and before `trainer.train()`. The KL penalty, clipping,
    entropy bonus, generation, adapters, evaluation and resuming stay trl's; so do its logged rewards. With β = λ = 0
    and advantages as trl's it is its GRPO. ℓ is the mean log-probability, at trl's temperature, of the reference's
    tokens: what the chat template writes after its generation prompt, up to and with EOS, or of plain texts the text
    tokenised alone and EOS; cut at `max_completion_length`. The n of a micro-batch's N rows that share a reference read
    it once.

    Args:
        trainer: a `trl.GRPOTrainer`; its training rows have the column.
        objective: e.g. `kilter.preference.GroupRelativeAlignment()`.
        reference: the column with the reference answers: a text, or in a chat the assistant's message.
        reference_reward: R of the reference: 0 where rewards compare a sample with it, 1 where it is right by
            definition; "score" asks the trainer's reward functions about it, as of one more completion.

    Returns:
        The handle; `handle.detach()` gives the stock trainer back. `reference_advantage` and `reference_log_prob` are
        logged, means over the references of a step.

    Raises:
        TypeError: no GRPO trainer, or no objective with advantages and a term of references.
        ValueError: `loss_type` other than "grpo", whose average is over other tokens; other settings that would not be
            followed; no such column; attached twice; a reward of the reference that is neither finite nor "score". In
            training: a reference that is no answer, or that "score" finds no reward for.

    Example:
        >>> from trl import GRPOConfig, GRPOTrainer  # doctest: +SKIP
        >>> from kilter.preference import GroupRelativeAlignment
        >>> trainer = GRPOTrainer(model, judge, GRPOConfig(loss_type="grpo"), pairs)  # doctest: +SKIP
        >>> handle = align_group(trainer, GroupRelativeAlignment(), reference="chosen")  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP

    Reference: Wang et al., "Learning to Align, Aligning to Learn", 2025. Departures: trl's ratio and clipping, which
    count where samples are used for more than one update, are not the paper's.
    """
    if not isinstance(trainer, GRPOTrainer):
        raise TypeError(f"trainer must be a trl GRPOTrainer, got {_said(trainer)}")
    wanted = ("advantages", "reference_term", "beta", "lambda_")
    if not isinstance(objective, Objective) or not all(hasattr(objective, name) for name in wanted):
        raise TypeError(
            f"objective must have advantages and a term of references, as GroupRelativeAlignment() has, got "
            f"{_said(objective)}"
        )
    if reference_reward != "score":
        if isinstance(reference_reward, str):
            raise ValueError(f"reference_reward must be a number or 'score', got {reference_reward!r}")
        finite("reference_reward", reference_reward)
    _check_settings(trainer)
    _check_column(trainer, reference)
    if attached_to(trainer) is not None:
        raise ValueError("trainer has an objective attached already; call its handle's detach() first")
    return AlignGroup(trainer, objective, reference=reference, reference_reward=reference_reward)


def _said(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _check_settings(trainer: Any) -> None:
    """Refuse what would change the loss, or would be passed over."""
    if trainer.loss_type != "grpo":
        raise ValueError(
            f"loss_type={trainer.loss_type!r} of the trainer averages over other tokens than each answer's own; make "
            'it with GRPOConfig(loss_type="grpo")'
        )
    for name, value in _OUR_OWN.items():
        if (found := getattr(trainer, name)) != value:
            raise ValueError(
                f"{name}={found!r} of the trainer would not be followed, since the objective makes the advantages; "
                f"leave it at {value!r}"
            )
    if getattr(trainer, "use_liger_kernel", False):
        raise ValueError("use_liger_kernel=True computes the loss elsewhere; leave it out")
    if tokenizer_of(trainer.processing_class).eos_token_id is None:
        raise ValueError(
            "the trainer's tokenizer has no eos_token, so neither a completion nor a reference has an end; set "
            "tokenizer.eos_token before making the trainer"
        )


def _check_column(trainer: Any, reference: Any) -> None:
    if trainer.args.remove_unused_columns:
        raise ValueError(f"remove_unused_columns=True drops the column {reference!r}; leave it out of GRPOConfig")
    names = getattr(trainer.train_dataset, "column_names", None)  # a stream may not know
    if names is not None and reference not in names:
        raise ValueError(f"reference={reference!r} is no column of the training data{suggest(str(reference), names)}")
