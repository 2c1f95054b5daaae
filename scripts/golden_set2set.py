"""Write tests/golden/set2set.json: what torch_geometric's Set2Set gives for weights and sets that are drawn here.

    python scripts/golden_set2set.py    (pip install torch-geometric, MIT)

It runs as it is, in float64, on ragged sets that lie one after another.
"""

import json
import sys
from pathlib import Path

import torch
import torch_geometric
from torch_geometric.nn.aggr import Set2Set

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.seq2seq.plain_sets import CASES, SIZES, cell_weights, ragged


def main() -> None:
    cases = []
    for options in CASES:
        theirs = Set2Set(options["dim"], options["steps"]).double()
        theirs.lstm.load_state_dict({f"{name}_l0": one for name, one in cell_weights(options["dim"]).items()})
        with torch.no_grad():
            found = theirs(*ragged(options["dim"]), dim_size=len(SIZES))
        cases.append({**options, "vectors": [[round(value, 9) for value in row] for row in found.tolist()]})
    about = {
        "made by": "python scripts/golden_set2set.py",
        "code": f"torch_geometric {torch_geometric.__version__}, nn/aggr/set2set.py (MIT)",
        "versions": {"torch": torch.__version__},
        "cases": cases,
    }
    file = Path(__file__).parents[1] / "tests" / "golden" / "set2set.json"
    file.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
