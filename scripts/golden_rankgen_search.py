"""Write tests/golden/rankgen_search.json: what the authors' `RankGenGenerator` finds with a tiny model.

    python scripts/golden_rankgen_search.py CLONE    (a clone of github.com/martiansideofthemoon/rankgen, Apache-2.0)

Their class runs as it is, one context at a time (its second one fails), with a stub in place of the encoder whose
scores are checksums of letters. One beam, and words that survive its round trip through text.
"""

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.decoding import tiny

MODULUS, NEW = 9973, 8


def checksum(text: str) -> int:
    return sum(place * ord(letter) for place, letter in enumerate(text.strip(), 1)) % MODULUS


class Stub:
    """Stands for the encoder: the score of a text is a checksum of its letters."""

    def encode(self, texts: Any, vectors_type: str) -> dict[str, torch.Tensor]:
        texts = [texts] if isinstance(texts, str) else texts
        ones = vectors_type == "prefix"
        return {"embeddings": torch.tensor([[1.0 if ones else float(checksum(text))] for text in texts])}


def main() -> None:
    clone = Path(sys.argv[1])
    spec = importlib.util.spec_from_file_location("authors", clone / "rankgen" / "rankgen_generator.py")
    authors = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(authors)  # type: ignore[union-attr]
    torch.Tensor.cuda = lambda self: self  # type: ignore[method-assign] (the class moves a tensor for nothing)
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<image>": 3} | {f"w{i}": i for i in range(4, tiny.VOCAB)}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", unk_token="<pad>")
    cases = []
    eos_bias = -2.0
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        model = tiny.model("gpt2", eos_bias=eos_bias)
        authors.AutoModelForCausalLM = type("M", (), {"from_pretrained": staticmethod(lambda *a, **k: model)})
        search = authors.RankGenGenerator(Stub(), folder)
        # texts are joined without a space by the class, so each word brings its own
        search.postprocess = lambda rows: ["".join(f" w{i}" for i in row.tolist() if i > 3) for row in rows]
        for seed in range(40):
            draw = torch.Generator().manual_seed(seed)
            prompt = torch.randint(5, tiny.VOCAB, (5,), generator=draw).tolist()
            samples, block, top_p = [(1, 3, 0.9), (5, 2, 0.9), (4, 3, 0.8), (6, 8, 1.0)][seed % 4]
            torch.manual_seed(seed)
            found, _ = search.beam_search(
                [" ".join(f"w{i}" for i in prompt)],
                beam_size=1,
                top_p=top_p,
                num_tokens=block,
                num_samples=samples,
                max_length=NEW,
            )
            cases.append(
                {
                    "seed": seed,
                    "prompt": prompt,
                    "samples": samples,
                    "block": block,
                    "top_p": top_p,
                    "text": found[0][0],
                }
            )
    golden = {
        "made by": "python scripts/golden_rankgen_search.py CLONE",
        "code": "github.com/martiansideofthemoon/rankgen (Apache-2.0), rankgen/rankgen_generator.py",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "modulus": MODULUS,
        "max_new_tokens": NEW,
        "eos_bias": eos_bias,
        "cases": cases,
    }
    out = Path(__file__).parents[1] / "tests" / "golden" / "rankgen_search.json"
    out.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    print(out, len(cases))


if __name__ == "__main__":
    main()
