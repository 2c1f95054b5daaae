"""The model card that goes with every saved model: what it is, what it was trained on, whom to cite."""

from pathlib import Path
from typing import Any

import kilter
from kilter.lab.files import write_whole
from kilter.lab.recipe import Provenance, Recipe

CARD = """---
{front}---

# {title}

{label}. Trained with kilter {version}, method `{slug}`: {purpose}.

- **base model**: {base}
- **base model's licence**: {base_licence}
- **training data**: {data} ({licence}){attribution}
- **settings**: {settings}
{synthetic}
## Citation

```bibtex
{bibtex}
```
"""


def write_model_card(
    folder: Path,
    recipe: Recipe,
    label: str,
    data: Provenance,
    *,
    base: str | None = None,
    licence: str | None = None,
    library: str = "transformers",
) -> None:
    """Write `README.md` beside the weights; base model and its licence are found out unless they are given."""
    import yaml
    from huggingface_hub import ModelCardData

    base = base or getattr(recipe, "model", None)
    licence = licence or (_licence(base) if base else None)
    front = ModelCardData(
        license=licence, base_model=base, library_name=library, tags=["kilter", f"kilter-{recipe.paper.slug}"]
    ).to_dict()
    chosen = {name: value for name, value in vars(recipe).items() if _is_setting(name, value)}
    card = CARD.format(
        front=yaml.safe_dump(front, sort_keys=False),
        title=Path(base).name if base else f"{recipe.paper.slug} small model",
        label=label,
        version=kilter.__version__,
        slug=recipe.paper.slug,
        purpose=recipe.paper.purpose,
        base=base or "none, trained from scratch",
        base_licence=licence or ("not known" if base else "none"),
        data=data.title,
        licence=data.licence,
        attribution=f", {data.attribution}" if data.attribution else "",
        settings=", ".join(f"{name} {value}" for name, value in chosen.items()),
        synthetic="- **note**: the speech was synthetic\n" if data.synthetic else "",
        bibtex=recipe.paper.bibtex(),
    )
    write_whole(folder / "README.md", card)


def _licence(base: str) -> str | None:
    """Licence in the base model's own card, where that can be had."""
    import yaml
    from huggingface_hub import ModelCard

    try:  # a folder's README.md, or the hub's card of an id
        return ModelCard.load(Path(base, "README.md") if Path(base).is_dir() else base).data.to_dict().get("license")
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _is_setting(name: str, value: Any) -> bool:
    return not name.startswith("_") and isinstance(value, int | float | str) and name not in ("model", "preset", "jobs")
