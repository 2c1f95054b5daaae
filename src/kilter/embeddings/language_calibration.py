"""Lay the vectors of several languages over each other without a single translation: shift, scale, rotate.

Paper: N. Wu et al., "Unsupervised Context Aware Sentence Representation Pretraining for Multi-lingual Dense Retrieval",
IJCAI 2022, arXiv 2206.03281, the calibration after pretraining; for any encoder. Departure: the rotation starts from
the spaces themselves, without an adversary, and is taken only where rows that it was not fitted to bear it out.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kilter.core.checks import finite, floating, one_of, shaped, whole
from kilter.core.errors import suggest
from kilter.embeddings.language_maps import STEPS, LanguageMap, Step, apply, moments_of, standard, together
from kilter.embeddings.unsupervised_rotation import unsupervised_rotation

Statistics = Literal["per_language", "joint"]

_FILE = "calibration"


class LanguageCalibration:
    r"""Statistics of each language's vectors, and what they are made into: one space for all languages.

    $$y = \frac{x - \mu_\ell}{\sigma_\ell} W_\ell$$

    μ and σ are mean and standard deviation of each component over the sentences of language ℓ (*shift*, *scale*). W is
    orthogonal (*rotate*): it lays the language over the pivot, found from both sides' vectors alone, see
    `kilter.embeddings.unsupervised_rotation`; the pivot is not rotated. A rotation leaves all cosines within a language
    as they are. Where none is borne out by rows that it was not fitted to, as of encoders whose languages lie over each
    other once they are shifted and scaled, W is the identity. A component that does not vary has no scale: it becomes 0
    (`dead` names them).

    Nothing needs to be parallel. Statistics of other sentences of each language than those that are compared are
    *inductive*; of the very sentences that are compared, *transductive*: the same call on other data, with figures that
    flatter. The control is `statistics="joint"`: one mean and deviation for all languages, each with the same weight,
    and no rotation, as the same one for all would change no similarity. What it gains has nothing to do with language
    (encoders with a few huge components gain most of it so); report it beside the others.

    A scale for each component does not commute with a rotation. Where a language is a rotated copy of another, `rotate`
    after `shift` alone undoes it; after `scale` exactly only if the spread is the same in all directions.

    Args:
        statistics: of each language by itself, or the control.
        neighbours: of CSLS, for the rotation.
        sample: vectors of each language that the rotation is found from, at most; time grows with its square.

    Attributes:
        languages: names, in the order they were given; empty before `fit`.
        pivot: the language that the others are rotated to.
        steps: what is done, in the order it is done.
        dead: for each language the components without a scale.

    Raises:
        TypeError: options that are no numbers.
        ValueError: options out of range.

    Example:
        >>> english = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
        >>> german = 3 * english.flip(1) + 1  # in a real use sentences of its own, whose vectors the encoder made
        >>> calibration = LanguageCalibration().fit({"en": english, "de": german})
        >>> (calibration.transform(german, "de") - calibration.transform(english, "en")).abs().max() < 1e-4
        tensor(True)

        Inductive: fit on what there is of each language, then use it on anything, or bake it into the model:

            calibration = LanguageCalibration().fit({"en": model.encode(english), "de": model.encode(german)})
            vectors = calibration.transform(model.encode(queries), "de")
            calibration.bake(model, "de").save_pretrained("model-de")  # loads without kilter

        Transductive: `fit({"en": passages, "de": queries}, …)` on the two sides of the search itself.

    Reference: Wu et al. 2022; the rotation after Conneau et al. 2018 and Artetxe et al. 2018.
    """

    def __init__(self, *, statistics: Statistics = "per_language", neighbours: int = 10, sample: int = 5000) -> None:
        one_of("statistics", statistics, Statistics)
        whole("neighbours", neighbours, 1)
        whole("sample", sample, 2)
        self.statistics: Statistics = statistics
        self.neighbours = neighbours
        self.sample = sample
        self.pivot = ""
        self.steps: tuple[Step, ...] = ()
        self._maps: dict[str, LanguageMap] = {}
        self._normalized = False

    @property
    def languages(self) -> tuple[str, ...]:
        """Names of the languages, in the order they were given."""
        return tuple(self._maps)

    @property
    def dead(self) -> dict[str, list[int]]:
        """For each language the components that do not vary, and become 0; none where nothing is scaled."""
        return {name: (one.scale == 0).nonzero().flatten().tolist() for name, one in self._maps.items()}

    def fit(
        self, vectors: Mapping[str, Any], pivot: str = "en", steps: Sequence[Step] = STEPS
    ) -> "LanguageCalibration":
        """Learn the statistics; what was learnt before is forgotten.

        Args:
            vectors: for each language `(n, dim)` vectors of its sentences, tensors or arrays, n its own. Of a model
                that ends with `Normalize` better those before it, as of
                `kilter.hosts.sentence_modules.without_normalize`.
            pivot: the language that the others are rotated to.
            steps: which of shift, scale and rotate; they are done in this order.

        Returns:
            The calibration itself.

        Raises:
            TypeError: vectors that are no floating point numbers.
            ValueError: no language, fewer than two vectors of one, vectors of different widths, NaN or infinity, an
                unknown step, no vectors of the pivot though there is to be a rotation.
        """
        chosen = _steps(steps)
        given = _checked(vectors)
        if "rotate" in chosen and pivot not in given:
            raise ValueError(f"pivot {pivot!r} is none of the languages{suggest(str(pivot), given)}")
        moments = {name: moments_of(x) for name, x in given.items()}
        if self.statistics == "joint":
            moments = dict.fromkeys(given, together([*moments.values()]))
        maps = {name: standard(*moments[name], chosen) for name in given}
        if "rotate" in chosen and self.statistics == "per_language":
            target = apply(maps[pivot], given[pivot])
            for name in [one for one in given if one != pivot]:
                found = unsupervised_rotation(
                    apply(maps[name], given[name]), target, neighbours=self.neighbours, sample=self.sample
                )
                maps[name] = maps[name]._replace(rotation=found.cpu().double())
        self._maps = maps
        self.pivot, self.steps = pivot, chosen
        self._normalized = all(map(_of_length_one, given.values()))
        return self

    def transform(self, x: Any, name: str) -> Any:
        """The calibrated vectors of a language.

        Args:
            x: `(n, dim)` vectors, tensor or array, on any device.
            name: which language they are in.

        Returns:
            The same kind, shape and precision; an array for an array.

        Raises:
            TypeError: vectors that are no floating point numbers.
            ValueError: an unknown language, another width, NaN or infinity, or `fit` was not called.
        """
        known = self._map(name)
        vectors = _tensor("x", x)
        if vectors.shape[1] != len(known.mean):
            raise ValueError(f"x is {vectors.shape[1]} wide, {name!r} was fitted on vectors {len(known.mean)} wide")
        finite("x", vectors, mend="look where the encoder is given an empty text or overflows")
        found = apply(known, vectors).to(vectors.dtype)
        return found if isinstance(x, Tensor) else found.numpy()

    def bake(self, model: Any, name: str) -> Any:
        """A copy of a model that gives the calibrated vectors of one language: its modules and a stock `Dense`.

        Saved, it is an ordinary model that loads without kilter and without `trust_remote_code`. If the model ends with
        `Normalize`, the `Dense` stands before it, as the statistics are of vectors of any length. Were all vectors that
        were fitted of length one, it stands behind, with another `Normalize` after it.

        Args:
            model: a `SentenceTransformer`, that whose vectors were fitted; it is not changed.
            name: the language of the texts that the copy is for.

        Raises:
            TypeError: no SentenceTransformer.
            ValueError: an unknown language, vectors of another width, or `fit` was not called.
            ModuleNotFoundError: sentence-transformers is missing.
        """
        from kilter.hosts.sentence_modules import with_affine_end

        return with_affine_end(model, *self._map(name).affine(), normalized=self._normalized)

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write `calibration.safetensors` and `calibration.json`."""
        from safetensors.torch import save

        tensors = {
            f"{part}.{name}": value
            for name, one in self._maps.items()
            for part, value in one._asdict().items()
            if value is not None
        }
        data = save({key: value.contiguous().clone() for key, value in tensors.items()})
        about = {
            "languages": [*self._maps],
            "pivot": self.pivot,
            "steps": [*self.steps],
            "statistics": self.statistics,
            "neighbours": self.neighbours,
            "sample": self.sample,
            "normalized": self._normalized,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        _write(Path(folder, f"{_FILE}.safetensors"), data)
        _write(Path(folder, f"{_FILE}.json"), (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def from_pretrained(cls, folder: str | PathLike[str]) -> "LanguageCalibration":
        """Read what `save_pretrained` wrote.

        Raises:
            FileNotFoundError: there is no calibration.
            ValueError: it is not whole.
        """
        from safetensors.torch import load

        data = Path(folder, f"{_FILE}.safetensors").read_bytes()
        try:
            about = json.loads(Path(folder, f"{_FILE}.json").read_text(encoding="utf-8"))
            if hashlib.sha256(data).hexdigest() != about["sha256"]:
                raise ValueError(f"{_FILE}.json belongs to another {_FILE}.safetensors")
            found = cls(**{name: about[name] for name in ("statistics", "neighbours", "sample")})
            found.pivot, found.steps, found._normalized = about["pivot"], _steps(about["steps"]), about["normalized"]
            tensors = load(data)
            for name in about["languages"]:
                mean, scale = tensors[f"mean.{name}"], tensors[f"scale.{name}"]
                found._maps[name] = LanguageMap(mean, scale, tensors.get(f"rotation.{name}"))
        except (ValueError, KeyError) as error:
            raise ValueError(f"{folder}: holds no calibration that is whole ({error}); save it anew") from error
        return found

    def _map(self, name: str) -> LanguageMap:
        if not self._maps:
            raise ValueError("there is no language yet; call fit first")
        if name not in self._maps:
            raise ValueError(f"there is no language {name!r}; there are: {', '.join(self._maps)}")
        return self._maps[name]


# Vectors --------------------------------------------------------------------------------------------------------------


def _steps(steps: Sequence[Step]) -> tuple[Step, ...]:
    if isinstance(steps, str):
        raise ValueError(f"steps must be several of {', '.join(STEPS)}, got the text {steps!r}; give ({steps!r},)")
    for step in steps:
        one_of("steps", step, STEPS)
    return tuple(step for step in STEPS if step in steps)


def _checked(vectors: Mapping[str, Any]) -> dict[str, Tensor]:
    if not isinstance(vectors, Mapping) or not vectors:
        raise ValueError("vectors must be a mapping of at least one language to its vectors, {name: (n, dim)}")
    given: dict[str, Tensor] = {}
    for name, value in vectors.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"vectors: a language must have a name, got {name!r}")
        x = _tensor(what := f"vectors[{name!r}]", value).detach()
        if len(x) < 2:
            raise ValueError(f"{what} has {len(x)} rows; a language needs two vectors at least, better a thousand")
        if given and x.shape[1] != (width := next(iter(given.values())).shape[1]):
            raise ValueError(f"{what} is {x.shape[1]} wide, vectors[{next(iter(given))!r}] {width}; encode all alike")
        finite(what, x.cpu(), mend="look where the encoder is given an empty text or overflows")
        given[name] = x
    return given


def _tensor(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        try:
            value = torch.tensor(value)  # a copy: arrays may be read-only
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name} must be a tensor or an array (rows, dim), got {type(value).__name__}") from error
    floating(name, value)
    shaped(name, value, "rows, dim", "give one row for each sentence")
    return value


def _of_length_one(x: Tensor) -> bool:
    lengths = torch.linalg.vector_norm(x, dim=1, dtype=torch.promote_types(x.dtype, torch.float32))
    return bool(((lengths - 1).abs() < 1e-3).all())


# Files ----------------------------------------------------------------------------------------------------------------


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
