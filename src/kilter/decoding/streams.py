"""Random streams, one for each input, so that an input's samples do not depend on what it shares a batch with."""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Generator, Tensor


class Streams:
    """A generator for each of N inputs, seeded by a run's seed and by the input itself.

    An input draws the same alone, in a batch and at another place in it; equal inputs of one batch draw differently.

    Args:
        inputs: what tells the inputs apart, each a tensor.
        generator: the seed is drawn from it (by default from torch's own); a sequence gives each input its own
            generator instead.

    Raises:
        ValueError: there is another number of generators than of inputs.
    """

    def __init__(self, inputs: Sequence[Tensor], generator: Generator | Sequence[Generator] | None = None) -> None:
        if isinstance(generator, Sequence):
            if len(generator) != len(inputs):
                raise ValueError(
                    f"generator: there are {len(generator)} for {len(inputs)} inputs; give one, or each its own"
                )
            self.generators = list(generator)
            return
        source = torch.default_generator if generator is None else generator
        run = torch.randint(2**62, (1,), generator=source, device=source.device).item()
        seen: Counter[bytes] = Counter()
        self.generators = []
        for tensor in inputs:
            content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            seed = blake2b(f"{run} {seen[content]} ".encode() + content, digest_size=7).digest()
            seen[content] += 1
            self.generators.append(Generator(tensor.device).manual_seed(int.from_bytes(seed, "big")))

    def exponential(self, like: Tensor) -> Tensor:
        """Exponential noise of the shape of `like (N, …)`, row i drawn from the stream of input i."""
        noise = torch.empty_like(like)
        for row, generator in zip(noise, self.generators, strict=True):
            if generator.device == row.device:
                row.exponential_(generator=generator)
            else:
                row.copy_(torch.empty(row.shape, device=generator.device).exponential_(generator=generator))
        return noise

    def gumbel(self, like: Tensor) -> Tensor:
        """Gumbel noise of the shape of `like (N, …)`."""
        return -self.exponential(like).log()

    def draw(self, probabilities: Tensor) -> Tensor:
        """A token of each row of `probabilities (N, W, V)`: `(N, W)`, as `torch.multinomial` draws it."""
        return (probabilities / self.exponential(probabilities)).argmax(-1)
