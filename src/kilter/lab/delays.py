"""A figure of how late words come: for each model, the share of its words that are there by a given delay."""

from collections.abc import Mapping, Sequence

from kilter.lab.layout import PAD, Key, settle
from kilter.lab.numbers import fixed
from kilter.lab.theme import SERIES, colour, theme, to_svg

TINTS = (*SERIES, "baseline")
DASHES = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2))


def delay_curves(delays: Mapping[str, Sequence[float]], against: str) -> str:
    """Cumulative share of words by delay, one curve a model, as themed SVG.

    Args:
        delays: milliseconds by model; a model without any has no curve.
        against: what the delays are after, e.g. "the end of the word".

    Raises:
        ValueError: no model has any delay.
    """
    import numpy as np
    from matplotlib.figure import Figure

    drawn = {name: np.asarray(values, dtype=float) for name, values in delays.items() if len(values)}
    if not drawn:
        raise ValueError("there is no delay to draw: no model has a word in common with the reference")
    with theme():
        shares = np.linspace(0, 1, 401)  # the figure stays small, however many words there are
        fig = Figure(figsize=(6.4, 3.5))
        axes = fig.subplots()
        axes.grid(True)
        axes.axvline(0, color=colour("muted"), linewidth=1.1, zorder=1)
        entries = []
        for place, (name, values) in enumerate(drawn.items()):
            early = fixed(100 * float(np.mean(values < 0)), 0)
            label = f"{name}: median {fixed(float(np.median(values)), 0, signed=True)} ms, {early} % early"
            look = {"linewidth": 1.7, "dashes": DASHES[place % len(DASHES)] or (None, None)}
            ink = colour(TINTS[place % len(TINTS)])
            axes.plot(np.quantile(values, shares), 100 * shares, color=ink, **look)
            entries.append((label, ink, look))
        # the few words at the very ends would flatten all the rest
        low = min(np.quantile(values, 0.01) for values in drawn.values())
        high = max(np.quantile(values, 0.99) for values in drawn.values())
        margin = 0.04 * max(high - low, 50.0)
        axes.set(xlim=(min(low, 0) - margin, max(high, 0) + margin), ylim=(0, 100), yticks=range(0, 101, 25))
        axes.set(xlabel=f"milliseconds after {against}  (←\N{NO-BREAK SPACE}earlier)", ylabel="words emitted, %")
        key = Key(entries, 72 * fig.get_figwidth() - 2 * PAD - Key.MARK)
        fig.set_figheight(fig.get_figheight() + key.height / 72)
        settle(fig, axes, top=key.height + 4)
        key.draw(fig, PAD, 72 * fig.get_figheight() - PAD, coloured=False)
        told = "; ".join(label for label, *_ in entries)
        return to_svg(fig, title=f"When words come, after {against}", description=told)
