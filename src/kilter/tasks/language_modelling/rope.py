"""RoPE of a model that was trained without scaling, scaled where it reads more than it was trained on.

By transformers' own rules: linear interpolation, dynamic NTK and YaRN. The departure: the factor is that of the text at
hand, and not one for all lengths, so that texts no longer than those learnt from are read as they were learnt.
"""

from copy import deepcopy
from typing import Any, Literal

Scaling = Literal["linear", "dynamic", "yarn"]


class ScaledRope:
    """A causal model as it is judged: called with a text longer than `trained`, its RoPE is scaled to that length.

    Args:
        model: with rotary positions, as Llama has them; stays as it is.
        scaling: the rule.
        trained: tokens up to which it was trained.

    Raises:
        ValueError: the model has no RoPE that could be scaled.
    """

    def __init__(self, model: Any, scaling: Scaling, trained: int) -> None:
        if not hasattr(model.base_model, "rotary_emb") or not hasattr(model.config, "rope_parameters"):
            raise ValueError(f"{scaling} scales RoPE, and {type(model).__name__} has none; leave the arm out")
        self.model, self.scaling, self.trained = model, scaling, trained

    @property
    def device(self) -> Any:
        """Where the model is."""
        return self.model.device

    def __call__(self, input_ids: Any, **named: Any) -> Any:
        """The model's own output."""
        times = input_ids.shape[1] / self.trained
        if times <= 1:
            return self.model(input_ids=input_ids, **named)
        base = self.model.base_model
        plain = base.rotary_emb
        base.rotary_emb = self._scaled(plain, times)
        try:
            return self.model(input_ids=input_ids, **named)
        finally:
            base.rotary_emb = plain

    def _scaled(self, plain: Any, times: float) -> Any:
        config = deepcopy(self.model.config)
        config.max_position_embeddings = self.trained
        config.rope_parameters = {
            "rope_theta": config.rope_parameters["rope_theta"],
            "rope_type": self.scaling,
            "factor": 1.0 if self.scaling == "dynamic" else times,  # dynamic multiplies by the length itself
            "original_max_position_embeddings": self.trained,
        }
        return type(plain)(config).to(self.device)
