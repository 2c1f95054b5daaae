"""What a run says of a claim: one of four words, a sentence in the arms' own labels, and the figures for it.

A verdict keeps beside its sentence what was compared (`Claim.key`), so that the ledger finds it by that.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kilter.core.paper import Claim
from kilter.lab.metrics import Measured, Metric
from kilter.lab.numbers import fixed

if TYPE_CHECKING:
    from kilter.evaluation.intervals import Interval

_NAMES = ("Bayes", "F1max")
"""Words that keep their capital in the middle of a sentence, though the rest of them is small."""


def judge(claim: Claim, arms: Measured) -> dict[str, Any] | None:
    """Verdict on a claim by the rules of the evidence page; None if the run cannot speak to it.

    holds: at least five seeds, and the interval clears the claim and the guard. holds in direction: the interval
    excludes zero (of a multiple: one), but not the claim's size, the guard, or with fewer seeds. contradicted: it
    excludes zero the wrong way. not seen here: anything else. Where a claim is to be no more than so far behind (`by`
    below zero), that takes the place of zero.
    """
    if claim.arm not in arms.figures or claim.baseline not in arms.figures or claim.metric not in arms.metrics:
        return None
    compare = arms.ratio if claim.times else arms.difference
    found = compare(claim.arm, claim.metric, claim.baseline)
    if found is None or found.low is None or found.high is None:
        return None
    seeds = len(arms.figures[claim.arm].keys() & arms.figures[claim.baseline].keys())
    nothing, size = (1.0, claim.times) if claim.times else (min(0.0, claim.by), claim.by)
    low, high = (-found.high, -found.low) if claim.better == "lower" else (found.low, found.high)
    guarded, guard_words = _guard(claim, arms)
    if high < nothing:
        verdict = "contradicted"
    elif low <= nothing:
        verdict = "not seen here"
    elif low >= size and guarded and seeds >= 5:
        verdict = "holds"
    else:
        verdict = "holds in direction"
    metric = arms.metrics[claim.metric]
    said = _times(found) if claim.times else f"{metric.label} {_signed(found, metric)}"
    why = f"{said}{guard_words}; {seeds} seed{'s' * (seeds != 1)}"
    return {"claim": sentence(claim, arms.metrics, arms.labels), "verdict": verdict, "why": why, **claim.key}


def sentence(claim: Claim, metrics: Mapping[str, Metric], labels: Mapping[str, str]) -> str:
    """The claim in a sentence, in the words of the arms' labels.

    Example:
        >>> labels = {"both": "Ranker against both, best of the samples", "given": "The encoder, best of the samples"}
        >>> metrics = {"inbook": Metric("True passage against another", "%", "higher")}
        >>> sentence(Claim("inbook", "higher", "given", "both"), metrics, labels)
        'Ranker against both beats the encoder at true passage against another'
    """
    metric = metrics[claim.metric]
    what = _inside(metric.label)
    ours, theirs = _name(claim.arm, claim.baseline, labels), _inside(_name(claim.baseline, claim.arm, labels))
    after = ours + "," * (", " in ours)
    if claim.times:
        text = f"{after} has at least {claim.times:g} times the {what} of {theirs}"
    elif claim.by < 0:
        behind = f"no more than {_size(-claim.by, metric)} behind"
        text = f"{after} is {behind} {theirs}{',' * (', ' in theirs)} at {what}"
    else:
        size = f" by at least {_size(claim.by, metric)}" if claim.by else ""
        text = f"{after} beats {theirs}{',' * (', ' in theirs)}{size} at {what}"
    text += _both(claim.arm, claim.baseline, labels)
    if claim.guard:
        guard = metrics[claim.guard[0]]
        text += f", with a {_inside(guard.label)} no more than {claim.guard[1]:g} {_points(guard)} worse"
    return text


def front(
    arms: Measured, x: str, y: str, own: Sequence[str], rivals: Sequence[str], name: str
) -> dict[str, Any] | None:
    """Verdict on whether a method is on the front of two metrics, both better when lower; None without rivals.

    Its arms and the rivals' are compared by their means. contradicted: of every arm some rival is better in both, in
    `x` with a paired interval that excludes zero. holds in direction: one arm at least is behind nobody.
    """
    means = {
        arm: (a.mean, b.mean)
        for arm in (*own, *rivals)
        if (a := arms.value(arm, x)) is not None and (b := arms.value(arm, y)) is not None
    }
    if not means.keys() & set(own) or not means.keys() & set(rivals):
        return None
    ahead, behind, beaten = [], [], True
    for arm in (arm for arm in own if arm in means):
        a, b = means[arm]
        better = [r for r in rivals if r in means and means[r] != (a, b) and means[r][0] <= a and means[r][1] <= b]
        if not better:
            ahead.append(arms.labels[arm])
            continue
        best = min(better, key=lambda r: means[r])
        gaps = [arms.difference(rival, x, arm) for rival in better]
        beaten &= any(gap is not None and gap.high is not None and gap.high < 0 for gap in gaps)
        shift, cost = (_plain(means[best][i] - means[arm][i], arms.metrics[one]) for i, one in enumerate((x, y)))
        behind.append(f"{arms.labels[arm]} is behind {_inside(arms.labels[best])} ({shift}, {cost})")
    verdict = "holds in direction" if ahead else "contradicted" if beaten else "not seen here"
    said = [f"on the front: {', '.join(ahead)}"] if ahead else []
    claim = f"{name} is on the front of {_inside(arms.metrics[x].label)} and {_inside(arms.metrics[y].label)}"
    compared = {"metrics": [x, y], "arms": [*own], "rivals": [*rivals]}
    return {"claim": claim, "verdict": verdict, "why": "; ".join(said + behind), **compared}


def _name(arm: str, other: str, labels: Mapping[str, str]) -> str:
    """An arm's label without what stands after a comma or in brackets, where it is not needed to tell it.

    It is not needed where it is the other arm's too, or where no other arm of the run begins so.
    """
    label = labels[arm]
    head = _head(label)
    if head == _head(labels[other]):
        return label
    return head if _tail(label) == _tail(labels[other]) != "" or _only(head, labels) else label


def _both(arm: str, baseline: str, labels: Mapping[str, str]) -> str:
    """What two arms have in common, in brackets, where others of the run begin as each of them does without it."""
    heads, tail = [_head(labels[one]) for one in (arm, baseline)], _tail(labels[arm])
    told = tail != _tail(labels[baseline]) or heads[0] == heads[1] or any(_only(head, labels) for head in heads)
    return f" ({tail})" if tail and not told else ""


def _only(head: str, labels: Mapping[str, str]) -> bool:
    return [_head(one) for one in labels.values()].count(head) == 1


def _tail(label: str) -> str:
    return label.partition(", ")[2]


def _head(label: str) -> str:
    return re.split(r", | \(", label)[0]


def _inside(label: str) -> str:
    """A label in the middle of a sentence: a small first letter, unless it is a name or a short form."""
    word = re.split(r"[ ,]", label)[0]
    return label if word in _NAMES or not word[1:].islower() else label[0].lower() + label[1:]


def _guard(claim: Claim, arms: Measured) -> tuple[bool, str]:
    if claim.guard is None:
        return True, ""
    name, worst = claim.guard
    found = arms.difference(claim.arm, name, claim.baseline)
    if found is None or found.high is None or found.low is None:
        return False, f"; {_inside(arms.metrics[name].label)} was not measured"
    metric = arms.metrics[name]
    rise = found.high if metric.better == "lower" else -found.low
    return rise <= worst, f"; {_inside(metric.label)} {_signed(found, metric)}"


def _signed(found: "Interval", metric: Metric) -> str:
    mean, low, high = (_number(value, metric) for value in (found.mean, found.low, found.high))
    return " ".join(filter(None, (mean, _points(metric), f"[{low}, {high}]")))


def _times(found: "Interval") -> str:
    return f"×{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _plain(value: float, metric: Metric) -> str:
    return f"{_number(value, metric)} {_points(metric)}".rstrip()


def _number(value: float | None, metric: Metric) -> str:
    return "?" if value is None else fixed(value, metric.digits, signed=True)


def _size(value: float, metric: Metric) -> str:
    points = _points(metric)
    return f"{value:g} {points.removesuffix('s') if value == 1 and points == 'points' else points}".rstrip()


def _points(metric: Metric) -> str:
    return "points" if metric.unit == "%" else metric.unit
