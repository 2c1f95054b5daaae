"""Experts in an encoder that people have: a model of transformers, or of sentence-transformers, changed in place.

A host calls `forward` itself, so that hooks on it never run; the model's class is exchanged for a subclass instead.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from math import isfinite
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from kilter.core.errors import extra
from kilter.core.options import one_of, whole
from kilter.hosts.expert_blocks import Layers, Plan, chosen, mean, sites, uninstall
from kilter.hosts.expert_lora import check_loras
from kilter.hosts.expert_models import convert, is_converted, restore_class
from kilter.hosts.expert_texts import token_of
from kilter.hosts.loading import Unloadable, code_of_others, folder_of
from kilter.hosts.sentence_modules import stock
from kilter.hosts.wrapped import unwrapped
from kilter.ops.experts import Routing


def add(
    model: nn.Module,
    domains: Sequence[str],
    *,
    tokenizer: Any,
    layers: Layers,
    routing: Routing,
    domain_tokens: bool,
    top_k: int,
    compat: bool,
    lora_rank: int | None,
) -> nn.Module:
    """See `kilter.embeddings.add_experts`."""
    encoder, module = encoder_of(model)
    names = _names(domains)
    if is_converted(encoder):
        raise ValueError("model has experts already; merge_experts(model) makes it a plain one")
    one_of("routing", routing, Routing)
    whole("top_k", top_k, 1)
    if lora_rank is not None:
        whole("lora_rank", lora_rank, 1)
    tokenizer = tokenizer if module is None else module.tokenizer
    if tokenizer is None and domain_tokens:
        raise ValueError("domain_tokens needs the tokenizer of the encoder: give tokenizer, or domain_tokens=False")
    places = sites(encoder)
    numbers = chosen(layers, len(places))
    if compat and any(places[number].name != "output" for number in numbers):
        raise ValueError(f"compat is for layers of BERT's kind; {type(encoder).__name__} has others")
    prompts: Any = {} if module is None else unwrapped(model).prompts
    if clash := [name for name in names if prompts.get(name)]:
        raise ValueError(f"domains: the model has a prompt called {clash[0]!r} already; choose another name")
    if lora_rank is not None:
        check_loras(getattr(*places[number]) for number in numbers)
    first, front, rows = _tokens(encoder, tokenizer, names, domain_tokens)
    plan = Plan(
        domains=names,
        layers=numbers,
        routing=routing,
        top_k=top_k,
        domain_tokens=domain_tokens,
        first_token=first,
        front=front,
        rows=rows,
        compat=compat,
        lora_rank=lora_rank,
        architecture=type(encoder).__name__,
        base_type=encoder.config.model_type,
    )
    convert(encoder, plan)
    if module is not None:
        from kilter.hosts.expert_sentences import ExpertsTransformer

        module.__class__ = ExpertsTransformer
        module.take_signature()
        prompts.update({name: token_of(name) for name in names})
    return model


def encoder_of(model: nn.Module) -> tuple[Any, Any]:
    """The model of transformers in what a user has, and the module of sentence-transformers around it, if any.

    Raises:
        TypeError: there is none, or it carries an adapter of peft.
    """
    from transformers import PreTrainedModel

    outer, module = unwrapped(model, adapters=False), None
    if type(outer).__module__.startswith("sentence_transformers") and isinstance(outer, nn.Sequential):
        module = outer[0]
        if not (isinstance(module, stock().Transformer) and hasattr(module, "preprocess")):
            raise TypeError(
                f"model must begin with a Transformer module that has preprocess (sentence-transformers 6), begins "
                f"with {type(module).__name__}"
            )
        outer = unwrapped(module.model, adapters=False)
    if not isinstance(outer, PreTrainedModel):
        raise TypeError(
            f"model must be a SentenceTransformer or an encoder of transformers, got {type(outer).__name__}; merge an "
            "adapter of peft first (merge_and_unload)"
        )
    return outer, module


def converted(model: nn.Module) -> tuple[Any, Any]:
    """As `encoder_of`, of a model that has experts."""
    encoder, module = encoder_of(model)
    if not is_converted(encoder):
        raise ValueError("model has no experts; add_experts(model, domains) gives it some")
    return encoder, module


def _names(domains: Sequence[str]) -> tuple[str, ...]:
    if isinstance(domains, str) or not isinstance(domains, Sequence) or not domains:
        raise ValueError(f"domains must be a list of at least one name, got {domains!r}")
    for name in domains:
        if not isinstance(name, str):
            raise TypeError(f"domains must hold names, got {name!r}")
        if not name.strip() or name != name.strip():
            raise ValueError(f"domains must hold names without blanks around them, got {name!r}")
    tokens = [token_of(name) for name in domains]
    for name, token in zip(domains, tokens, strict=True):
        if tokens.count(token) > 1:
            raise ValueError(f"domains names {name!r} twice (its token is {token}); a domain has one expert")
    return tuple(domains)


def _tokens(
    encoder: Any, tokenizer: Any, names: tuple[str, ...], domain_tokens: bool
) -> tuple[int | None, int | None, int | None]:
    """Give every domain a token with the vector of what begins a text; its first id, that beginning, and rows before.

    Without a beginning the vectors are those of the text's end, or the mean of all.
    """
    if tokenizer is None:
        return None, None, None
    front = _front(tokenizer)
    if front is None and not domain_tokens:
        raise ValueError(
            "domain_tokens=False needs a tokenizer whose texts begin with a token of its own, which the domain's "
            "stands for on its way; leave domain_tokens on, or give a bare encoder without tokenizer"
        )
    tokens, known = [token_of(name) for name in names], tokenizer.get_vocab()
    if clash := [token for token in tokens if token in known]:
        raise ValueError(f"domains: the tokenizer has {clash[0]} already; choose another name")
    from tokenizers import AddedToken

    before = len(tokenizer)
    tokenizer.add_tokens([AddedToken(each, rstrip=True, normalized=False) for each in tokens], special_tokens=True)
    ids = tokenizer.convert_tokens_to_ids(tokens)
    if ids != [*range(before, before + len(names))]:
        raise ValueError(f"the tokenizer gave the domains the ids {ids}; they must follow its {before} tokens")
    rows = encoder.get_input_embeddings().weight.shape[0]
    encoder.resize_token_embeddings(max(rows, before + len(names)), mean_resizing=False)
    with torch.no_grad():
        weight = encoder.get_input_embeddings().weight
        like = next((id for id in (front, tokenizer.eos_token_id) if id is not None), None)
        weight[ids] = weight[:rows].mean(0) if like is None else weight[like].clone()
    return before, front, rows


def _front(tokenizer: Any) -> int | None:
    """The token that begins every text."""
    some = tokenizer("a")["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    return some[0] if some and some[0] in tokenizer.all_special_ids and some[0] not in plain[:1] else None


def merge(
    model: nn.Module, weights: Sequence[float | int] | Mapping[str, float | int] | None, *, tokenizer: Any
) -> nn.Module:
    """See `kilter.embeddings.merge_experts`."""
    encoder, module = converted(model)
    plan = Plan.of(encoder.config)
    if plan.compat:
        raise ValueError("experts of the released form (compat=True) have no plain model to be merged into")
    shares = _shares(plan, weights)
    tokenizer = tokenizer if module is None else module.tokenizer
    merged = deepcopy(unwrapped(model, adapters=False))
    encoder, module = encoder_of(merged)
    uninstall(encoder, shares)
    if plan.first_token is not None:
        _without_tokens(encoder, plan, shares)
    restore_class(encoder)
    if module is not None:
        module.__class__ = stock().Transformer
        _forget(module.tokenizer, plan)
        for name in plan.domains:
            if merged.prompts.get(name) == token_of(name):
                del merged.prompts[name]
    elif tokenizer is not None:
        _forget(tokenizer, plan)
    return merged


def _shares(plan: Plan, weights: Sequence[float | int] | Mapping[str, float | int] | None) -> list[float]:
    count = len(plan.domains)
    if weights is None:
        return [1 / count] * count
    if isinstance(weights, Mapping):
        for name in weights:
            one_of("weights", name, plan.domains)
        weights = [weights.get(name, 0.0) for name in plan.domains]
    values = [float(weight) for weight in weights]
    if len(values) != count or not all(isfinite(v) and v >= 0 for v in values) or not sum(values) > 0:
        raise ValueError(
            f"weights must be {count} numbers from 0 ({', '.join(plan.domains)}), not all of them 0, got {values}"
        )
    return [value / sum(values) for value in values]


@torch.no_grad()
def _without_tokens(encoder: Any, plan: Plan, shares: Sequence[float]) -> None:
    """What begins a text takes the mean of the domains' vectors, which stood there in training."""
    weight, count = encoder.get_input_embeddings().weight, len(plan.domains)
    if plan.domain_tokens and plan.front is not None and plan.first_token is not None:
        first, *others = weight[plan.first_token : plan.first_token + count]
        weight[plan.front] = mean(first, others, shares)
    if len(weight) <= max(plan.rows or 0, (plan.first_token or 0) + count):  # none was added later
        encoder.resize_token_embeddings(plan.rows, mean_resizing=False)


def _forget(tokenizer: Any, plan: Plan) -> None:
    """Take the domains' tokens out of a fast tokenizer where they are its last; any other keeps them, unused."""
    if plan.first_token is None or not getattr(tokenizer, "is_fast", False):
        return
    if len(tokenizer) > plan.first_token + len(plan.domains):
        return
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    ours = {token_of(name) for name in plan.domains}
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in ours]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))


@contextmanager
def router_logits(model: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Logits `(rows, experts)` of the routers that run inside, layer by layer, each with its rows' domains.

    Raises:
        ValueError: the model has no routers.
    """
    encoder, _ = converted(model)
    if Plan.of(encoder.config).routing == "enforced":
        raise ValueError('the model has no routers; add_experts(model, domains, routing="supervised") gives it some')
    with encoder.expert_assignment.keeping() as kept:
        yield kept


def load(name: str | PathLike[str], **how: Any) -> Any:
    """See `kilter.hosts.sentence_transformers.load`."""
    library = extra("sentence_transformers", "embeddings")
    place = folder_of(name)
    if place is None or not (place / "modules.json").is_file():
        raise Unloadable(
            f"{name}: not a folder of a SentenceTransformer; kilter.hosts.transformers.load reads encoders"
        )
    kinds = [module["type"] for module in json.loads((place / "modules.json").read_text(encoding="utf-8"))]
    ours = "kilter.hosts.expert_sentences.ExpertsTransformer"
    if ours not in kinds:
        raise Unloadable(f"{name}: has no experts; SentenceTransformer({str(name)!r}) loads it")
    if foreign := code_of_others(place):
        raise Unloadable(f"{name}: needs code of others ({', '.join(foreign)}); load it with trust_remote_code=True")
    found = library.SentenceTransformer(str(name), trust_remote_code=True, **how)
    found.trust_remote_code = False  # it was for our own module
    return found
