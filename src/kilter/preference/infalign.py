"""InfAlign: a reward that is right for the decoder that the tuned policy will stand behind, or be attacked by.

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
    url="https://arxiv.org/abs/2412.19792",
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
            metric="win_best",
            better="higher",
            baseline="raw",
            arm="exp",
            by=3.0,
            guard=("win_plain", 5.0),  # points that it may lose without the decoder
        ),
        Claim(
            text="without a decoder, calibration alone wins more than the plain reward does",
            metric="win_plain",
            better="higher",
            baseline="raw",
            arm="identity",
        ),
        Claim(
            text="against an attacker who keeps the worst of several draws, too, a reward made for it wins more",
            published="3 to 8 points of inference-time win rate",
            metric="win_worst",
            better="higher",
            baseline="raw",
            arm="exp",
            by=3.0,
        ),
        Claim(
            text="calibration helps against rewards that are hacked",
            reason="needs a reward model that is corrupted on purpose",
        ),
    ),
    arxiv="2412.19792",
)
