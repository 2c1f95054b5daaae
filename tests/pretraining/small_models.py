"""What the tests of pretraining train: a linear regression, and a small language model with tied embeddings."""

from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


def squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Half the mean squared error."""
    x, y = batch
    return 0.5 * (model(x)[:, 0] - y).square().mean()


def regression(rows: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return numbers(rows, 4, seed=seed, dtype=dtype), numbers(rows, seed=seed + 100, dtype=dtype)


class Tiny(nn.Module):
    """Two blocks of attention between tied embeddings, with dropout and a batch norm that counts."""

    def __init__(self, vocabulary: int = 20, width: int = 16, dropout: float = 0.3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, dropout, "gelu", batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.head.weight, std=0.2)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embedding(ids)
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        for block in self.blocks:
            hidden = block(hidden, src_mask=mask, is_causal=True)
        return self.head(self.norm(hidden.transpose(1, 2)).transpose(1, 2))


def next_token(model: nn.Module, ids: Tensor) -> Tensor:
    """Mean cross entropy per token."""
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def tokens(rows: int, seed: int, low: int = 0, high: int = 20) -> Tensor:
    return torch.randint(low, high, (rows, 9), generator=Generator().manual_seed(seed))


def rows_of(count: int, low: int, high: int, seed: int) -> list[dict[str, Any]]:
    """Rows as transformers' language models take them."""
    return [{"input_ids": one, "labels": one} for one in tokens(count, seed, low, high)]
