"""Is it a batch of sets, with something in each? What the modules for sets ask of items, masks and pointers."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from kilter.core.checks import finite, first, floating, integer, mask_fits, readable, shaped, within


def cleared(
    name: str,
    items: Float[Tensor, "batch items width"],
    width: int,
    option: str,
    mask: Bool[Tensor, "batch items"] | None,
) -> Float[Tensor, "batch items width"]:
    """The `items`, once they are known for sets as wide as the `option` says, with 0 where `mask` has none.

    Raises:
        TypeError: items not floating point, a mask that is not boolean.
        ValueError: other shapes, no items at all; on the CPU also a row that `mask` leaves nothing of, NaN and infinity
            at real items.

    Example:
        >>> import torch
        >>> cleared("items", torch.ones(1, 2, 1), 1, "in_dim", torch.tensor([[True, False]])).flatten()
        tensor([1., 0.])
    """
    floating(name, items)
    shaped(name, items, "batch, items, channels", "put each set into a row of a batch")
    if items.shape[2] != width:
        raise ValueError(f"{name} has {items.shape[2]} channels and {option} is {width}; give one of them anew")
    if not items.shape[1]:
        raise ValueError(f"{name} is of shape {tuple(items.shape)}, sets without an item; leave empty sets out")
    if mask is not None:
        mask_fits("mask", mask, items.shape[:2], name)
        if readable(mask) and (at := first(~mask.any(1))):
            raise ValueError(f"row {at[0]}: mask is False everywhere, which is an empty set; leave empty sets out")
        items = items.masked_fill(~mask[..., None], 0)
    finite(name, items, mend="look at that row of the data, or lower the learning rate")
    return items


def check_pointers(
    targets: Int[Tensor, "batch steps"],
    memory: Float[Tensor, "batch items dim"],
    mask: Bool[Tensor, "batch items"] | None,
) -> None:
    """Check that `targets` point at items of `memory` that are there.

    Raises:
        TypeError: not integers.
        ValueError: other shapes; on the CPU also a number outside the set, or of an item that `mask` leaves out.
    """
    integer("targets", targets, "hold numbers of items")
    shaped("targets", targets, "batch, steps", "give the order of each set in a row")
    rows, items = memory.shape[:2]
    if len(targets) != rows:
        raise ValueError(f"targets has {len(targets)} rows, there are {rows} sets; give an order for each")
    within("targets", targets, 0, items - 1, f"but the sets have items 0 to {items - 1}", row="row")
    if mask is None or not readable(targets, mask):
        return
    if at := first(~mask.gather(1, targets.long())):
        raise ValueError(
            f"row {at[0]}: targets points at item {int(targets[tuple(at)])} in step {at[1]}, which mask leaves out; "
            "beyond the end of an order, repeat an item of the set and leave the step out of the loss"
        )
