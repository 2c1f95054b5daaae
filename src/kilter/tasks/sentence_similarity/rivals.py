"""What any recipe on sentence similarity can be set beside: SimCSE, and whitening once all is trained.

Sources: SimCSE (Gao et al., EMNLP 2021), whose several views each have a softmax of their own as in WhitenedCSE;
whitening of finished vectors (Su et al., 2021; Huang et al., 2021).
"""

from collections.abc import Callable
from typing import Any

from kilter.lab.arms import Levers, Term


def rivals(temperature: float, *, head: bool, rate: float | None = None) -> dict[str, Term]:
    """Terms of the task, by name; SimCSE has this temperature, a head or not, and maybe a learning rate of its own."""

    def simcse(views: float) -> Levers:
        def objective(encoder: Any) -> Any:
            from kilter.embeddings import WhitenedCSE
            from kilter.hosts.sentence_modules import width

            return WhitenedCSE(width(encoder), method=None, temperature=temperature, head=head)

        own = {} if rate is None else {"learning_rate": rate}
        return Levers(objective=objective, rows=views_of(int(views)), options=own)

    return {
        "simcse": Term("SimCSE, {:g} views", simcse, usual=2.0, role="context", strength=whole_views),
        "whitening": Term(
            "whitened afterwards", lambda strength: Levers(options={"whiten": True}), after=True, role="context"
        ),
    }


def views_of(count: int) -> Callable[[Any, Any, int], Any]:
    """Curator of training rows: every sentence in so many columns, which dropout makes views of it.

    Of texts in several columns, which are views already, the first follows again after the last.
    """

    def repeated(rows: Any, encoder: Any, seed: int) -> Any:
        from datasets import Dataset

        names = rows.column_names
        if len(names) > count:
            raise ValueError(
                f"the training data has {len(names)} text columns ({', '.join(names)}), and the arm takes {count} "
                f"views: ask for {len(names)}, or leave columns out"
            )
        columns = {name: [*rows[name]] for name in names}
        return Dataset.from_dict({f"view_{k + 1}": columns[names[k % len(names)]] for k in range(count)})

    return repeated


def whole_views(views: float) -> str:
    """Why so many views cannot be; empty where they can."""
    return "" if views >= 2 and not views % 1 else "the strength is a number of views, a whole one of at least 2"
