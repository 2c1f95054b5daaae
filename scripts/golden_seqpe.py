"""Write tests/golden/seqpe.json: what the authors' encoder and losses give for weights and vectors that are drawn here.

    python scripts/golden_seqpe.py CLONE    (a clone of github.com/ghrua/seqpe, of which the image half is MIT)

Their classes run as they are, in eval mode; of timm they import an initialiser, for which one of torch's stands in.
"""

import json
import sys
import types
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.pretraining.published import CASES, drawn, position_of

SHOWN = 6


def authors(clone: Path) -> Any:
    """Their modules, without the package around them, which asks for much more."""
    for name in ("timm", "timm.models", "timm.models.layers"):
        sys.modules[name] = types.ModuleType(name)
    layers: Any = sys.modules["timm.models.layers"]
    layers.trunc_normal_ = torch.nn.init.trunc_normal_
    layers.PatchEmbed = layers.Mlp = layers.DropPath = layers.lecun_normal_ = None
    models = types.ModuleType("models")
    models.__path__ = [str(clone / "image_seqpe" / "models")]
    sys.modules["models"] = models
    from models import pe_criterion, pe_utils, sequential_pe  # type: ignore[import-not-found]

    return pe_criterion, pe_utils.PeUtils, sequential_pe.SequentialPE


def main() -> None:
    criterion, utils, encoder_class = authors(Path(sys.argv[1]))
    cases = []
    for options in CASES:
        axes, direction, layers, size = (
            options["axes"],
            options["direction"],
            options["layers"],
            options["max_position"],
        )
        digits = utils.get_digit_num(size)
        encoder = encoder_class(
            16, 2, layers, digits, attn_direction=direction, use_last_layernorm=True, mask_padding=False,
            out_proj_dim=SHOWN, data_dim=axes,
        ).eval()  # fmt: skip
        with torch.no_grad():
            for name, one in encoder.named_parameters():
                one.copy_(drawn(name, one.shape))
            positions = [position_of(number, size, axes) for number in range(40)]
            found = encoder(*utils.prepare_seqpe_data(positions, digits))
        cases.append({**options, "vectors": [[round(value, 7) for value in row] for row in found.tolist()]})
    pivot, candidates, labels = drawn("pivot", (5, 8)), drawn("candidates", (5, 7, 8)), torch.arange(5)
    contrast = criterion.SeqPeContrastiveCriterion()(pivot, candidates.flatten(0, 1), labels)
    main_pe, student = drawn("main", (10, 8)), drawn("student", (3, 4, 8))
    places = torch.arange(12).remainder(10)
    transfer = {}
    for metric, beta, heads in (("kl_div", 1.0, 1), ("kl_div", 1.0, 2), ("kl_div", 0.8, 2), ("mse", 1.0, 4)):
        loss = criterion.SeqPeTransferCriterion(beta, metric, heads, seqpe_multi_head_loss=True)
        transfer[f"{metric} {beta} {heads}"] = loss(main_pe, 3, places, student.flatten(0, 1)).item()
    path = Path(__file__).parents[1] / "tests" / "golden" / "seqpe.json"
    golden = {
        "made by": "python scripts/golden_seqpe.py CLONE",
        "code": "github.com/ghrua/seqpe 4c4b908, image_seqpe/models (MIT)",
        "versions": {"torch": torch.__version__},
        "encoder": cases,
        "contrast": contrast.item(),
        "transfer": transfer,
    }
    path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
