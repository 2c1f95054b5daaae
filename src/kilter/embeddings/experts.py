"""Experts in any encoder: a set of feed-forward weights for each domain, the same outputs before training.

Paper: L. Hallee et al., "Contrastive Learning and Mixture of Experts Enables Precise Vector Embeddings", arXiv
2401.15713. Departure: the pretrained LayerNorm stays where it is, so that the converted model begins as the model it
was; the release puts a new one before the experts and leaves the old one out (`compat=True`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kilter.core.checks import finite, floating, integer, one_per_row, shaped, within
from kilter.ops.experts import Routing


def add_experts(
    model: nn.Module,
    domains: Sequence[str],
    *,
    tokenizer: Any = None,
    layers: Literal["all", "middle"] | Sequence[int] = "all",
    routing: Routing = "enforced",
    domain_tokens: bool = True,
    top_k: int = 2,
    compat: bool = False,
    lora_rank: int | None = None,
) -> Any:
    r"""Give an encoder one set of feed-forward weights for each domain; attention, embeddings and norms are shared.

    $$h_{\ell+1} = \mathrm{LN}\big(h + E^{(r)}_\ell(h)\big)$$

    r is the domain of the text, E⁽ʳ⁾ a copy of the layer's feed-forward block. A text costs what it cost before; memory
    grows by N - 1 blocks a layer. The model is changed in place and says what it said before, whatever the domain.
    Parameters of experts without a text in a batch have no gradient.

    The domain of a text is said in one of these ways:

    - `model.encode(texts, domain="law")`;
    - the text begins with the domain's token, its name in capitals: `"[LAW] the court found"`. So batches of several
      domains are encoded, and so `SentenceTransformerTrainer` is told, with a `DatasetDict` that has a data set for
      each domain and `args.prompts = {"law": "[LAW] ", "med": "[MED] "}` (data sets and prompts by the same name);
    - `model.encode(texts, prompt_name="law")`, which is that token, as a prompt of the model;
    - `encoder(input_ids, attention_mask, domain=...)` of the encoder of transformers: a name, a list of names, or
      `(B,)` numbers, -1 for none.

    Where no domain is said, the mean of what all experts say is taken in each layer. Domain i has the token id V + i,
    which takes the place of the token that every text begins with ([CLS], <s>), and begins with its vector. A tokenizer
    without such a token has the domain's before the text.

    Saved as always (`model.save_pretrained(folder)`); the libraries' own classes refuse the folder, and
    `kilter.hosts.sentence_transformers.load` or `kilter.hosts.transformers.load` restores it. `merge_experts` makes a
    plain model of it. Works with accumulation, GradCache, gradient checkpointing, and `torch.compile`, where all
    experts are run and each is given a gradient; in DDP with `find_unused_parameters`.

    Args:
        model: a `SentenceTransformer`, or an encoder of transformers; BERT's kind, or with one feed-forward block in a
            layer (DistilBERT, ModernBERT, T5, Gemma, Llama …).
        domains: their names, which differ in capitals too; one is dense fine-tuning with a token.
        tokenizer: of an encoder of transformers; it learns the tokens.
        layers: which ones are converted, counted from 0.
        routing: `enforced`: the domain decides. `supervised`: it does, and where none is said, a linear router in each
            layer, which `router_loss` teaches; in the release it does always. `top_k`: routers decide, for all texts,
            and mix the best `top_k` experts; the domain is a token only.
        domain_tokens: the domain's token is read by the model. Without, it says the domain, and the model reads what
            stood there.
        top_k: experts of a text, with that routing.
        compat: the released form, for comparison: the model is another one before training. BERT's kind only.
        lora_rank: experts are LoRAs, by peft, of one frozen block: nearly no memory.

    Returns:
        The model.

    Raises:
        TypeError: another model, names that are none.
        ValueError: no domain, one twice, a layer that is not there, a token that the tokenizer has already, a model
            with experts, no tokenizer where tokens are wanted, options out of range.
        ModuleNotFoundError: `lora_rank` without peft.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> size = dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=20)
        >>> encoder = BertModel(BertConfig(**size)).eval()
        >>> ids = torch.tensor([[2, 7, 3], [2, 9, 3]])
        >>> before = encoder(ids).last_hidden_state
        >>> encoder = add_experts(encoder, ["med", "law"], domain_tokens=False)
        >>> after = encoder(ids, domain=["law", "med"]).last_hidden_state
        >>> (after - before).abs().max()
        tensor(0., grad_fn=<MaxBackward1>)

    Reference: Hallee et al., 2024; A. Komatsuzaki et al., "Sparse Upcycling", ICLR 2023.
    """
    from kilter.hosts.experts import add

    return add(
        model,
        domains,
        tokenizer=tokenizer,
        layers=layers,
        routing=routing,
        domain_tokens=domain_tokens,
        top_k=top_k,
        compat=compat,
        lora_rank=lora_rank,
    )


def merge_experts(
    model: nn.Module, weights: Sequence[float | int] | Mapping[str, float | int] | None = None, *, tokenizer: Any = None
) -> Any:
    """A plain model again, with the mean of the experts' weights; it loads without kilter.

    With one domain's weight alone it says what the model says of texts of that domain, without being told. The token
    that begins every text takes the mean of the domains' vectors, by the same weights; the domains' tokens are gone.

    Args:
        model: with experts, by `add_experts`; it stays as it is.
        weights: for each domain, by its name or in their order; they are divided by their sum. None: all the same.
        tokenizer: of an encoder of transformers; it forgets the tokens.

    Returns:
        The new model, of the class that the model had before.

    Raises:
        TypeError: another model.
        ValueError: no experts, those of the released form, or weights that are negative, unknown or all 0.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> size = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20)
        >>> encoder = add_experts(BertModel(BertConfig(**size)), ["med", "law"], domain_tokens=False)
        >>> type(merge_experts(encoder, {"law": 1})).__name__
        'BertModel'
    """
    from kilter.hosts.experts import merge

    return merge(model, weights, tokenizer=tokenizer)


def router_loss(logits: Float[Tensor, "layers batch experts"], domain: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    r"""How unlikely the routers find each text's domain: what teaches them, beside the loss of the vectors.

    $$\mathcal L = -\frac1{LB} \sum_\ell \sum_i \log \mathrm{softmax}\big(g_\ell(x_i)\big)_{r_i}$$

    Of every layer by itself, because each chooses by itself; the release takes the mean of the logits over layers
    first, by which a layer may stay wrong where others are right.

    `kilter.hosts.expert_sentences.RouterLoss` adds it to a loss of sentence-transformers.

    Args:
        logits: of every layer's router; `kilter.hosts.experts.router_logits` collects them.
        domain: number of each text's domain; rows of -1 do not count.

    Raises:
        TypeError: logits that are no floating point, domains that are no integers.
        ValueError: shapes that do not fit, logits that are not finite, domains that are none.

    Example:
        >>> router_loss(torch.zeros(2, 3, 4), torch.tensor([0, 3, -1]))  # log(4)
        tensor(1.3863)
    """
    floating("logits", logits)
    shaped("logits", logits, "layers, batch, experts")
    finite("logits", logits.transpose(0, 1), mend="lower the learning rate")
    integer("domain", domain, "be numbers of domains")
    one_per_row("domain", domain, logits.shape[1], "logits")
    within("domain", domain, -1, logits.shape[2] - 1, f"but there are {logits.shape[2]} experts", row="row")
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1)
    told = domain.long().repeat(len(logits))
    with torch.autocast(wide.device.type, enabled=False):
        total = nn.functional.cross_entropy(wide, told, ignore_index=-1, reduction="sum")
    return total / (told != -1).sum().clamp(min=1)
