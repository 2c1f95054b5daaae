"""The names objectives may ask for, with shape and meaning; a host passes what it has by these names.

A test fails when an objective's `forward` uses a name that is not here.
"""

AXES = {
    "batch": "utterances or sequences, always first",
    "time": "frames of a speech model",
    "vocab": "token ids, blank included where there is one",
    "tokens": "positions of a target",
    "states": "tokens of the target a transducer may have emitted, 0 to all of them: one more than tokens",
    "samples": "alignments drawn for one utterance, or answers for one prompt",
    "prompts": "prompts, each with one reference answer",
    "answer": "positions of a reference answer",
    "dim": "components of a vector that stands for a text",
    "experts": "copies of a part of a model, one for each domain",
    "layers": "of a model, those that have experts",
    "outputs": "scores of a pair of texts: one, or one for each class",
    "views": "vectors of one sentence that differ by chance: dropout, another text of the same meaning",
}

INPUTS = {
    "log_probs": "Float (batch, time, vocab) or, of a transducer, (batch, time, states, vocab): log-softmax of the "
    "model's outputs",
    "input_lengths": "Int (batch,): valid frames of each utterance; frames beyond are ignored",
    "targets": "Int (batch, tokens): token ids, padded with anything beyond target_lengths",
    "target_lengths": "Int (batch,): valid tokens of each target",
    "references": "list of batch strings: what was said, for objectives that compare words",
    "prefix": "Float (batch, dim): vectors of the texts to be continued",
    "continuation": "Float (batch, dim): vectors of what follows each prefix in its document",
    "generated": "Float (batch, dim) or None: vectors of what a language model wrote after each prefix",
    "document": "Int (batch,) or None: number of the document each row comes from",
    "views": "Float (views, batch, dim): vectors of several views of each sentence",
    "group": "Int (batch,) or None: number of the sentence each row is a view of, or of the prompt each row "
    "answers; None takes every row for another, or as many for each prompt in order",
    "centre": "Float (batch, dim): vectors of sentences",
    "context": "Float (batch, dim): vectors of a sentence near each centre, from the same document",
    "language": "Int (batch,) or None: number of the language each row is in",
    "anchor": "Float (batch, dim): vectors of texts",
    "positive": "Float (batch, dim): vectors of the text that belongs to each anchor",
    "domain": "Int (batch,) or None: number of the domain each row is of; None takes all rows for one",
    "u": "Float (batch, dim): vectors of the first text of each pair",
    "v": "Float (batch, dim): vectors of the second text of each pair",
    "teacher_logits": "Float (batch, outputs) or (batch,), or None: what a cross-encoder says of each pair, before "
    "sigmoid or softmax",
    "labels": "Float (batch,) or None: class or score of each pair",
    "sample_log_probs": "Float (batch, tokens): log-probabilities of the tokens of each sampled answer",
    "sample_mask": "Bool or Int (batch, tokens): true, or 1, where a sample has a token",
    "advantages": "Float (batch,): how much better each sample is than its group",
    "reference_log_probs": "Float (prompts, answer): log-probabilities of the tokens of each reference answer",
    "reference_mask": "Bool or Int (prompts, answer): true, or 1, where a reference has a token",
    "reference_advantages": "Float (prompts,): how much better each reference is than its group",
    "policy_log_probs": "Float (batch,): log-probability of each answer under the model in training, over all tokens",
    "base_log_probs": "Float (batch,): the same under the model that it began as",
    "calibrated_rewards": "Float (batch,): share of the base model's answers to the same prompt that each answer beats",
    "generator": "torch.Generator or None: where random draws come from; None is torch's global stream",
}
