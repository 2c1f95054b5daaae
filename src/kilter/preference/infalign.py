"""InfAlign: a reward that is right for the decoder behind which the tuned policy will stand, or by which it is attacked.

Paper: A. Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025, arXiv 2412.19792.
Departure: transforms run from 0 to 1, so that beta keeps its meaning. The parts stand in files of their own.
"""

from kilter.core.paper import Claim, Paper

PAPER = Paper(
    slug="infalign",
    title="InfAlign: Inference-aware language model alignment",
    authors=(
        "Ananth Balashankar",
        "Ziteng Sun",
        "Jonathan Berant",
        "Jacob Eisenstein",
        "Michael Collins",
        "Adrian Hutter",
        "Jong Lee",
        "Chirag Nagpal",
        "Flavien Prost",
        "Aradhana Sinha",
        "Ananda Theertha Suresh",
        "Ahmad Beirami",
    ),
    year=2025,
    venue="International Conference on Machine Learning (ICML), PMLR 267",
    url="https://proceedings.mlr.press/v267/balashankar25a.html",
    lever="objective",
    purpose="a language model tuned for the decoder that it will stand behind, or be attacked by",
    names=(
        "calibrate",
        "reward_transform",
        "fixed_point",
        "win_rate_at_kl",
        "finite_fixed_point",
        "QuantileRewardRegression",
    ),
    claims=(
        Claim(
            text="behind best-of-4, a reward made for it wins more against the base than the plain reward does",
            published="3 to 8 points of inference-time win rate",
            metric="best_of",
            better="higher",
            baseline="raw",
            arm="exp",
            by=3.0,
            guard=("plain_loss", 5.0),  # the win rate without a decoder may fall by that
        ),
        Claim(
            text="without a decoder, calibration alone wins more than the plain reward does",
            metric="plain",
            better="higher",
            baseline="raw",
            arm="identity",
        ),
        Claim(
            text="against an attacker who keeps the worst of several draws, too, a reward made for it wins more",
            published="3 to 8 points of inference-time win rate",
            metric="worst_of",
            better="higher",
            baseline="raw",
            arm="exp-worst",
            by=3.0,
        ),
        Claim(
            text="calibration helps against rewards that are hacked",
            reason="needs a reward model that is corrupted on purpose",
        ),
    ),
    arxiv="2412.19792",
)
