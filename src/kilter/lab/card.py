"""The model card that goes with every saved model: what it is, what it was trained on, whom to cite."""

from collections.abc import Mapping
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


def write_model_card(folder: Path, recipe: Recipe, label: str, data: Provenance) -> None:
    """Write `README.md` beside the weights."""
    import yaml
    from huggingface_hub import ModelCardData

    base = getattr(recipe, "model", None)
    licence = _licence(base) if base else None
    front = ModelCardData(
        license=licence, base_model=base, library_name="transformers", tags=["kilter", f"kilter-{recipe.paper.slug}"]
    ).to_dict()
    chosen = {name: value for name, value in vars(recipe).items() if _is_setting(name, value)}
    card = CARD.format(
        front=yaml.safe_dump(front, sort_keys=False),
        title=Path(base).name if base else f"{recipe.paper.slug} small recogniser",
        label=label,
        version=kilter.__version__,
        slug=recipe.paper.slug,
        purpose=recipe.paper.purpose,
        base=base or "none, trained from scratch",
        base_licence=licence or ("not stated by its card" if base else "none"),
        data=data.title,
        licence=data.licence,
        attribution=f", {data.attribution}" if data.attribution else "",
        settings=", ".join(f"{name} {value}" for name, value in chosen.items()),
        synthetic="- **note**: the speech was synthetic\n" if data.synthetic else "",
        bibtex=recipe.paper.bibtex(),
    )
    write_whole(folder / "README.md", card)


def _licence(base: str) -> str | None:
    """Licence in the base model's own card, where there is one on disk."""
    import yaml

    card = Path(base, "README.md")
    if not card.is_file():
        return None
    parts = card.read_text(encoding="utf-8").split("---", 2)
    front: Mapping[str, Any] = (yaml.safe_load(parts[1]) or {}) if len(parts) == 3 and not parts[0].strip() else {}
    return str(front["license"]) if front.get("license") else None


def _is_setting(name: str, value: Any) -> bool:
    return not name.startswith("_") and isinstance(value, int | float | str) and name not in ("model", "preset", "jobs")
