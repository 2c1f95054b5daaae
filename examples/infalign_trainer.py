"""Two lines in an RLOO script: the policy is trained for best of four, behind which it will stand.

python examples/infalign_trainer.py MODEL prompts.txt OUT [STEPS]    (a prompt a line)
"""

import sys

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import RLOOConfig, RLOOTrainer

from kilter.hosts.trl import add_reference_rewards
from kilter.preference import inference_aware_reward

name, prompts, out = sys.argv[1:4]
steps = int((sys.argv[4:] or ["50"])[0])
model, tokenizer = AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token


def variety(completions, **columns):
    """The reward, as TRL takes it: different words in an answer."""
    return [float(len(set(text.split()))) for text in completions]


data = load_dataset("text", data_files=prompts, split="train").rename_column("text", "prompt")
data = add_reference_rewards(  # what the base model gets; once, a killed call goes on
    data, model, tokenizer, variety, num_ref=32, max_new_tokens=16, batch_size=32, cache=f"{out}.jsonl"
)

arguments = RLOOConfig(
    out,
    beta=0.1,  # on the scale of the transform, which runs from 0 to 1
    max_steps=steps,
    num_generations=4,
    per_device_train_batch_size=8,
    max_completion_length=16,
    learning_rate=1e-5,
    bf16=False,
    logging_steps=1,
    report_to="none",
)
reward = inference_aware_reward(variety, decoder="best_of", n=4)
trainer = RLOOTrainer(model, reward_funcs=reward, args=arguments, train_dataset=data, processing_class=tokenizer)
trainer.train()

trainer.save_model(out)  # a stock model; sample four of it and keep the best
for row in trainer.state.log_history:
    if "win_rate" in row:
        print({part: row[part] for part in ("reward", "win_rate", "kl")})
