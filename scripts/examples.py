"""Make what the documentation shows of single inputs: python scripts/examples.py [NAME …], into evidence/examples/.

Each takes minutes at most. Timings and trained models are not among them.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import wrap
from typing import Any

import soundfile

from kilter.data.assets import locate
from kilter.data.e2e import load_e2e
from kilter.data.fsdd import RATE, DigitStrings, load_takes
from kilter.data.prompts import load_prompts
from kilter.data.referenced import Referenced, spread
from kilter.lab.files import read_json, read_rows, write_json, write_rows

FOLDER = Path(__file__).parents[1] / "evidence" / "examples"
SPOKEN = 1
"""The test string that is shown."""
MODEL = ["--model", "smollm2", "--device", "cpu"]


def kilter(folder: Path, *arguments: str) -> str:
    """What a command of kilter prints when it is run in a folder."""
    command = [sys.executable, "-m", "kilter.cli", *arguments]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def diversity(folder: Path) -> dict[str, Any]:
    """Three decoders on meaning representations of E2E, after three examples of what is to be done."""
    splits = load_e2e(locate("e2e").path)
    asked = "{0}\nDescription:".format
    shown = "".join(f"{asked(said(item))} {item.references[0]}\n\n" for item in spread(splits.dev, 3))
    items = spread(splits.test, 24)
    write_rows(folder / "e2e.jsonl", [{"prompt": shown + asked(said(i)), "references": i.references} for i in items])
    decoders = {
        "beam": ["--decoder", "beam", "--num-beams", "6"],
        "diverse": ["--num-beams", "6", "--groups", "3"],
        "sampled": ["--decoder", "sample", "--n", "6", "--top-p", "0.9", "--top-k", "0"],
    }
    common = [*MODEL, "--prompts", "e2e.jsonl", "--max-new-tokens", "28"]
    for name, options in decoders.items():
        kilter(folder, "generate", *common, *options, "--out", f"{name}.jsonl")
    files = [f"{name}.jsonl" for name in decoders]
    rows = {name: (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() for name in decoders}
    second = {name: json.loads(lines[1])["outputs"] for name, lines in rows.items()}
    return {
        "inputs": len(items),
        "outputs": 6,
        "table": kilter(folder, "diversity", *files).splitlines(),
        "figures": json.loads(kilter(folder, "diversity", *files, "--json"))["files"],
        "prompt": said(items[1]),
        "shown": {
            name: [one["text"].split("\n\n")[0].strip() for one in first(found)] for name, found in second.items()
        },
    }


def first(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Three of six outputs: the first of each group, where there are three."""
    heads = list({one["group"]: one for one in reversed(outputs)}.values())
    return heads[::-1] if len(heads) == 3 else outputs[:3]


def said(item: Referenced) -> str:
    return item.filled(item.source)


def steam_train(folder: Path) -> dict[str, Any]:
    """One prompt by groups of beams and by plain beam search."""
    (folder / "prompts.txt").write_text("The steam train\n", encoding="utf-8")
    common = ["generate", *MODEL, "--prompts", "prompts.txt", "--max-new-tokens", "14"]
    found = {name: json.loads(kilter(folder, *common, "--decoder", name)) for name in ("diverse-beam", "beam")}
    return {name: [one["text"] for one in row["outputs"]] for name, row in found.items()}


def demo(folder: Path) -> dict[str, Any]:
    """What `make demo` prints, one utterance of its report, and word times and latency by the models it leaves."""
    takes = load_takes(locate("fsdd", allow_generated=False).path)
    printed = kilter(folder, "run", "align-with-purpose", "--preset", "demo", "--device", "cpu")
    (run,) = (folder / "runs").iterdir()
    summary = read_json(run / "summary.json")
    strings = DigitStrings(takes, count=200, seed=0, split="test")
    arms = {name: run / "arms" / name / "seed-0" for name in summary["arms"]}
    rows = []
    for index in range(len(strings)):
        row = strings[index]
        soundfile.write(folder / f"test-{index}.wav", row["audio"], RATE, subtype="PCM_16")
        rows.append({"audio": f"test-{index}.wav", "text": row["text"], "words": row["words"]})
    write_rows(folder / "test.jsonl", rows)
    for name, arm in arms.items():
        (folder / name).symlink_to(next(arm.glob("**/config.json")).parent)
    models = [part for name in arms for part in ("--model", f"{name}/")]
    after_end = kilter(folder, "latency", "test.jsonl", *models, "--device", "cpu", "--out", "lat")
    after_ctc = ["--model", "awp/", "--against", "ctc/", "--device", "cpu", "--out", "lat2"]
    align = ["align", f"test-{SPOKEN}.wav", "--model", "residual/", "--text", rows[SPOKEN]["text"], "--format", "ctm"]
    return {
        "printed": [part for line in printed.splitlines() for part in folded(line)],
        "aligned": kilter(folder, *align, "--device", "cpu").splitlines(),
        "after_end": after_end.splitlines(),
        "after_ctc": kilter(folder, "latency", "test.jsonl", *after_ctc).splitlines(),
        "spoken": SPOKEN,
        "heard": {summary["arms"][name]["label"]: hearing(arm)["emissions"] for name, arm in arms.items()},
        "delays": {
            one["label"]: [round(delay) for row in one["delays"].values() for delay in row]
            for one in read_json(folder / "lat" / "latency.json")["models"]
        },
    }


def folded(line: str) -> list[str]:
    """A line as a terminal would show it, but between words."""
    return wrap(line, 100, subsequent_indent="  ") if len(line) > 100 else [line]


def hearing(arm: Path) -> dict[str, Any]:
    """What an arm made of the utterance that is shown."""
    return read_rows(arm / "utterances.jsonl")[SPOKEN]


def spanish_prompts(folder: Path) -> dict[str, Any]:
    """How much the preset `words` of Align With Purpose judges."""
    prompts = load_prompts(locate("asterisk-prompts").path, "es")
    return {"recordings": len(prompts), "words": sum(len(prompt.text.split()) for prompt in prompts)}


def windows(folder: Path) -> dict[str, Any]:
    """By how much what a network says changes where a recording goes through it in windows; random weights."""
    import numpy as np
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    from kilter.models.recogniser import Recogniser
    from kilter.models.windows import Windows

    takes = load_takes(locate("fsdd", allow_generated=False).path)
    audio = np.concatenate([row["audio"] for row in DigitStrings(takes, count=60, seed=0, split="test")])
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 12}
    convolutions = {"conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}

    def network(layers: int, norm: str) -> Any:
        torch.manual_seed(0)
        return Wav2Vec2ForCTC(
            Wav2Vec2Config(**sizes, **convolutions, num_hidden_layers=layers, feat_extract_norm=norm)
        ).eval()

    torch.manual_seed(0)
    small = Recogniser.small(("zero", "one", "two"), "residual", RATE)
    wave = Wav2Vec2FeatureExtractor(sampling_rate=RATE, return_attention_mask=True)
    networks = {
        "near": Recogniser(small.model.eval(), small.features, None),
        "attention": Recogniser(network(4, "layer"), wave, None),
        "group_norm": Recogniser(network(0, "group"), wave, None),
    }
    found: dict[str, Any] = {"seconds": round(len(audio) / RATE), "windows": [20, 60], "margin": 2}
    for name, one in networks.items():
        with torch.no_grad():
            one.model.lm_head.weight.mul_(20)  # so loud that one token or another is meant
        whole = _probabilities(one, audio, Windows(1e4, 2.0))
        found[name] = [_change(whole, _probabilities(one, audio, Windows(size, 2.0))) for size in (20.0, 60.0)]
    return found


def _probabilities(recogniser: Any, audio: Any, windows: Any) -> Any:
    recogniser.windows = windows
    return recogniser.outputs([{"id": "all", "audio": audio}])[0][0].exp()


def _change(whole: Any, parts: Any) -> dict[str, float]:
    """Per cent: how far the probabilities of a frame are apart, and frames in which another token is the likeliest."""
    return {
        "apart": round(50 * float((whole - parts).abs().sum(-1).mean()), 1),
        "other_token": round(100 * float((whole.argmax(-1) != parts.argmax(-1)).float().mean()), 1),
    }


def dga_weights(folder: Path) -> dict[str, Any]:
    """How the weights of domains went in the first seed of the recorded run of dynamic gradient alignment."""
    kilter(folder, "run", "dga", "--preset", "full", "--arms", "dga", "--seeds", "1", "--out", "run")
    rows = read_json(folder / "run" / "arms" / "dga" / "seed-0" / "mixture.json")["rows"]
    weights = [{name: round(share, 4) for name, share in row["weights"].items()} for row in rows]
    return {"steps": [row["step"] for row in rows], "weights": weights, "epochs": rows[-1]["epochs"]}


def grao_lock_in(folder: Path) -> dict[str, Any]:
    """GRAO and GRPO on ten answers: a policy that is a row of logits, the reference its third best answer.

    Rewards are 1, 0 or -1 against the reference. Answers 0 to 6 are worse than it, which is 7; 8 and 9 are better.
    """
    import torch

    from kilter.preference import GroupRelativeAlignment

    prompts, samples, reference, steps, rate = 16, 8, 7, 300, 0.3
    grpo = GroupRelativeAlignment(beta=0, lambda_=0, reference_in_stats=False)
    arms = {"GRAO": GroupRelativeAlignment(), "GRPO": grpo}
    found: dict[str, Any] = {"settings": {"prompts": prompts, "samples": samples, "rate": rate}}
    for name, start in (("common", -1.0), ("rare", -2.0)):
        found[name] = {}
        for arm, objective in arms.items():
            logits = torch.tensor([0.0] * reference + [start] * 3, requires_grad=True)
            generator = torch.Generator().manual_seed(0)
            kept = []
            for _ in range(steps):
                log_probs = logits.log_softmax(0)
                now = log_probs.detach().exp()
                kept.append([round(float(now[reference]), 4), round(float(now[reference + 1 :].sum()), 4)])
                drawn = torch.multinomial(now.expand(prompts, -1), samples, replacement=True, generator=generator)
                advantages, of_reference = objective.advantages((drawn - reference).sign().float())
                answers = log_probs[drawn.flatten(), None], torch.ones(drawn.numel(), 1, dtype=torch.bool)
                one = log_probs[reference].expand(prompts, 1), torch.ones(prompts, 1, dtype=torch.bool)
                loss = objective(*answers, advantages.flatten(), *one, of_reference).loss
                logits.data -= rate * torch.autograd.grad(loss, logits)[0]
            found[name][arm] = {"reference": [row[0] for row in kept], "better": [row[1] for row in kept]}
    return found


EXAMPLES = {
    "demo": demo,
    "diversity": diversity,
    "steam-train": steam_train,
    "spanish-prompts": spanish_prompts,
    "windows": windows,
    "dga-weights": dga_weights,
    "grao-lock-in": grao_lock_in,
}


def main() -> None:
    for name in sys.argv[1:] or EXAMPLES:
        with tempfile.TemporaryDirectory() as folder:
            found = EXAMPLES[name](Path(folder))
        FOLDER.mkdir(parents=True, exist_ok=True)
        write_json(FOLDER / f"{name}.json", {"command": f"python scripts/examples.py {name}", **found})


if __name__ == "__main__":
    main()
