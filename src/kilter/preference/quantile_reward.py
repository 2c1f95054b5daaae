"""The offline way to the same policy: a regression on calibrated rewards, which samples nothing while it trains.

Paper: S. Matrenok et al., "Quantile Reward Policy Optimization", 2025, arXiv 2507.08068; transforms are InfAlign's.
Departure: log Z is exact for every transform; theirs approximates that of the plain quantile (`compat`).
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kilter.core.checks import finite, first, floating, one_of, one_per_row, positive, readable, shaped, whole
from kilter.core.objective import LossOutput, Objective
from kilter.preference.decoders import Decoder
from kilter.preference.reward_transform import Transform, check_transform, reward_transform
from kilter.preference.transform_curves import log_partition


class QuantileRewardRegression(Objective):
    r"""The log-ratio of policy and base is fitted to where the optimum has it.

    $$\mathcal L = \frac1B \sum_i \Big(\Phi(u_i) - \beta \log Z - \beta \log \frac{\pi}{\pi_0}(y_i|x_i)\Big)^2$$

    It is 0 at the policy that training with reward Φ and KL penalty β ends at. Answers may come from anywhere, the base
    model among it: draw them once, calibrate them, and train on them as on any data.

    Args:
        beta: β, the weight of KL(policy || base).
        transform: Φ; see `reward_transform`.
        decoder: what the policy will stand behind; see `win_rate`.
        n: draws of `best_of` and `worst_of`.
        rate: of `exp`.
        normalize: let `exp` and `poly` run from 0 to 1.
        num_ref: K, references of each prompt: `log` is held above 1/(2K).
        compat: `qrpo` has log Z as the authors' code: of `identity` log β + 1/β, which is right for small β, of `log`
            exact; it knows no other transform.

    Shape:
        - `policy_log_probs`: float `(B,)`, sums over the tokens of an answer; it alone has a gradient.
        - `base_log_probs`: float `(B,)`, the same of the base model.
        - `calibrated_rewards`: float `(B,)` within 0..1; see `calibrate`.
        - returns `LossOutput`: part `regression`; stats `log_ratio`, the mean of log π/π₀, and `target`, that of what
          it is fitted to, both in nats.

    Raises:
        TypeError: tensors that are not floating point, an option of another type.
        ValueError: an unknown transform or decoder, an option out of range, a fixed point that does not converge;
            shapes that do not fit; on the CPU also NaN, infinity and rewards outside 0..1.

    Example:
        >>> qrr = QuantileRewardRegression(beta=0.5, transform="identity")
        >>> policy, base = torch.tensor([-3.0, -2.0]), torch.tensor([-3.0, -3.0])
        >>> qrr(policy, base, torch.tensor([0.5, 1.0])).loss
        tensor(0.0065)

    Reference: Matrenok et al., 2025; Balashankar et al., ICML 2025.
    """

    def __init__(
        self,
        *,
        beta: float | int = 0.1,
        transform: Transform = "exp",
        decoder: Decoder = "best_of",
        n: int = 4,
        rate: float | int = 10.0,
        normalize: bool = True,
        num_ref: int = 100,
        compat: Literal["qrpo"] | None = None,
    ) -> None:
        super().__init__()
        positive("beta", beta)
        one_of("transform", transform, Transform)
        check_transform(transform, decoder, n=n, rate=rate, beta=beta, normalize=normalize)
        whole("num_ref", num_ref, 1)
        if compat is not None:
            one_of("compat", compat, ("qrpo",))
            if transform not in ("identity", "log"):
                raise ValueError(f"compat='qrpo' has no transform={transform!r}; give identity or log, or leave it out")
        self.beta = beta
        self.transform: Transform = transform
        self.decoder: Decoder = decoder
        self.n = n
        self.rate = rate
        self.normalize = normalize
        self.num_ref = num_ref
        self.compat: Literal["qrpo"] | None = compat
        if compat == "qrpo" and transform == "identity":
            self.log_z = math.log(beta) + 1 / beta
        else:
            self.log_z = log_partition(transform, beta, decoder=decoder, n=n, rate=rate, normalize=normalize)

    def forward(
        self,
        policy_log_probs: Float[Tensor, " batch"],
        base_log_probs: Float[Tensor, " batch"],
        calibrated_rewards: Float[Tensor, " batch"],
    ) -> LossOutput:
        """The mean squared distance from the optimum's log-ratio; see the class."""
        self._check(policy_log_probs, base_log_probs, calibrated_rewards)
        wide = torch.promote_types(policy_log_probs.dtype, torch.float32)
        phi = reward_transform(
            calibrated_rewards.detach().to(wide),
            self.transform,
            decoder=self.decoder,
            n=self.n,
            rate=self.rate,
            beta=self.beta,
            normalize=self.normalize,
            floor=1 / (2 * self.num_ref),
        )
        target = phi - self.beta * self.log_z
        log_ratio = policy_log_probs.to(wide) - base_log_probs.detach().to(wide)
        rows = max(len(target), 1)
        loss = (target - self.beta * log_ratio).square().sum() / rows
        stats = {"log_ratio": log_ratio.detach().sum() / rows, "target": target.sum() / (self.beta * rows)}
        return LossOutput(loss, {"regression": loss}, stats)

    def _check(self, policy_log_probs: Tensor, base_log_probs: Tensor, calibrated_rewards: Tensor) -> None:
        floating("policy_log_probs", policy_log_probs, "give sums of log-probabilities")
        shaped("policy_log_probs", policy_log_probs, "batch", "sum over the tokens of an answer")
        for name, tensor in (("base_log_probs", base_log_probs), ("calibrated_rewards", calibrated_rewards)):
            floating(name, tensor)
            one_per_row(name, tensor, len(policy_log_probs), "policy_log_probs")
        for name, tensor in (("policy_log_probs", policy_log_probs), ("base_log_probs", base_log_probs)):
            finite(name, tensor, mend="an answer must be possible; look at how its log-probabilities are summed")
        if readable(calibrated_rewards) and (at := first(~((calibrated_rewards >= 0) & (calibrated_rewards <= 1)))):
            value = float(calibrated_rewards[tuple(at)])
            raise ValueError(
                f"row {at[0]}: calibrated_rewards is {value:.4g}, not within 0..1; calibrate the rewards, and leave "
                "out answers that have none"
            )
