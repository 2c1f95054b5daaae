"""A figure of how late words come: for each model, the share of its words that are there by a given delay."""

from collections.abc import Mapping, Sequence

from kilter.lab.plots import colour, theme, to_svg

SERIES = ("series-1", "series-2", "series-3", "series-4", "baseline")
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
        fig = Figure(figsize=(6.4, 3.5 + 0.21 * len(drawn)))
        top = 1 - (0.16 + 0.21 * len(drawn)) / fig.get_figheight()
        shares = np.linspace(0, 1, 401)  # the figure stays small, however many words there are
        axes = fig.subplots(gridspec_kw={"left": 0.1, "right": 0.98, "bottom": 0.46 / fig.get_figheight(), "top": top})
        axes.grid(True)
        axes.axvline(0, color=colour("muted"), linewidth=1.1, zorder=1)
        told = []
        for place, (name, values) in enumerate(drawn.items()):
            median, early = np.median(values), 100 * np.mean(values < 0)
            label = f"{name}: median {median:+z.0f} ms, {early:.0f} % early".replace("-", "\N{MINUS SIGN}")
            style = {"color": colour(SERIES[place % len(SERIES)]), "linewidth": 1.7}
            dashes = DASHES[place % len(DASHES)]
            axes.plot(np.quantile(values, shares), 100 * shares, label=label, dashes=dashes or (None, None), **style)
            told.append(label)
        # the few words at the very ends would flatten all the rest
        low = min(np.quantile(values, 0.01) for values in drawn.values())
        high = max(np.quantile(values, 0.99) for values in drawn.values())
        margin = 0.04 * max(high - low, 50.0)
        axes.set(xlim=(min(low, 0) - margin, max(high, 0) + margin), ylim=(0, 100), yticks=range(0, 101, 25))
        axes.set(xlabel=f"milliseconds after {against}  (← earlier)", ylabel="words emitted, %")
        fig.legend(loc="upper left", bbox_to_anchor=(0.085, 0.995), frameon=False, handlelength=2.6, fontsize=9)
        return to_svg(fig, title=f"When words come, after {against}", description="; ".join(told))
