"""The stable names and signatures: what is pinned here changes only through the deprecation rule."""

import importlib
import inspect
from typing import Any

import pytest

SIGNATURES = {
    "kilter.speech:AlignWithPurpose": "property, *, samples=5, margin=0.0, temperature=1.0, score='mean_logprob', "
    "sample_reduction='mean', blank=None",
    "kilter.speech:AlignWithPurpose.forward": "self, log_probs, input_lengths, references=None, generator=None",
    "kilter.speech:sample_alignments": "log_probs, input_lengths, num_samples=5, *, blank=0, temperature=1.0, "
    "generator=None",
    "kilter.speech:score_alignments": "log_probs, alignments, input_lengths, *, score='mean_logprob'",
    "kilter.speech:align_with_purpose": "log_probs, alignments, edited, input_lengths, *, margin=0.0, "
    "score='mean_logprob', sample_reduction='mean'",
    "kilter.speech:collapse": "alignments, input_lengths, blank=0",
    "kilter.speech:LowLatency": "*, blank=0, frames=1, candidates='repeats', skip_noops=False, compat=False",
    "kilter.speech:LowLatency.__call__": "self, alignments, input_lengths, references=None, generator=None",
    "kilter.speech:low_latency": "alignments, input_lengths, *, blank=0, frames=1, candidates='repeats', "
    "skip_noops=False, compat=False, generator=None",
    "kilter.speech:MinimumWER": "vocabulary, *, blank=0, max_char_distance=2, strict=True, compat=False",
    "kilter.speech:MinimumWER.__call__": "self, alignments, input_lengths, references=None, generator=None",
    "kilter.speech:minimum_wer": "alignments, input_lengths, references, vocabulary, *, blank=0, max_char_distance=2, "
    "strict=True, compat=False, generator=None",
    "kilter.speech:TransducerAlignWithPurpose": "*, samples=5, margin=0.0, blank=0",
    "kilter.speech:TransducerAlignWithPurpose.forward": "self, log_probs, input_lengths, targets, target_lengths, "
    "generator=None",
    "kilter.speech:ctc_greedy": "log_probs, input_lengths, *, blank=0",
    "kilter.speech:Hypothesis": "tokens, score, times",
    "kilter.hosts.transformers:align_ctc": "model, objective, *, weight, start=None, schedule='constant', "
    "in_eval=False, ctc_weight=1.0",
    "kilter.hosts.transformers:align_seq2seq": "model, objective, *, start=0, ramp=0, in_eval=False",
    "kilter.speech:PeakFirst": "*, weight",
    "kilter.speech:PeakFirst.forward": "self, log_probs, input_lengths",
    "kilter.speech:BayesRiskCTC": "*, risk, variant='end', blank=0",
    "kilter.speech:BayesRiskCTC.forward": "self, log_probs, input_lengths, targets, target_lengths",
    "kilter.speech:DelayPenalty": "*, penalty, threshold=0.99, blank=0",
    "kilter.speech:DelayPenalty.forward": "self, log_probs, input_lengths, targets, target_lengths",
    "kilter.speech:delay_penalty": "log_probs, input_lengths, *, penalty, threshold=0.99, blank=0",
    "kilter.speech:MinimumWordErrorRate": "vocabulary, *, n_best=4, beam_size=16, ctc_weight=0.01, blank=0",
    "kilter.speech:MinimumWordErrorRate.forward": "self, log_probs, input_lengths, references",
    "kilter.speech:TrimTail": "rows, *, max_frames=20, frame=1, column='audio', seed=0",
    "kilter.speech:ctc_prefix_beam_search": "log_probs, input_lengths, *, beam_size=16, n_best=1, blank=0, fuse=None",
    "kilter.speech:ctc_forced_align": "log_probs, input_lengths, targets, target_lengths, *, blank=0",
    "kilter.decoding:DiverseBeamSearch": "*, diversity='hamming', n=2, temperature=1.0, discount=1.0, "
    "charge_eos=False, order=None, sample_groups=False",
    "kilter.decoding:SiblingBeamSearch": "*, rank_penalty",
    "kilter.decoding:MMIBeamSearch": "*, weight, unconditional=None",
    "kilter.decoding:BestOfN": "scorer, n=20, *, tokenizer=None, generator=None",
    "kilter.decoding:RankGenSearch": "scorer, *, beams=2, samples=10, block=20, first_stage='single', tokenizer=None, "
    "generator=None",
    "kilter.decoding:RankGenLoss.forward": "self, prefix, continuation, generated=None, document=None",
    "kilter.decoding:RankGenScorer.score_matrix": "self, prefixes, continuations",
    "kilter.embeddings:ContextPrediction": "dim, *, languages=1, temperature=0.1, bank_size=4096, "
    "asymmetric_norm=True, head=True, both_directions=True, centres_as_negatives=True, bank_source='eval', "
    "gather=False",
    "kilter.embeddings:ContextPrediction.forward": "self, centre, context, language=None",
    "kilter.embeddings:context_prediction_loss": "centre, context, language=None, bank=None, bank_language=None, *, "
    "temperature=0.1, both_directions=True, centres_as_negatives=True",
    "kilter.embeddings:ContextPairs": "documents, languages=None, *, window=5, seed=0",
    "kilter.embeddings:LanguageBatches": "languages, batch_size, *, smoothing=0.7, seed=0",
    "kilter.embeddings:add_experts": "model, domains, *, tokenizer=None, layers='all', routing='enforced', "
    "domain_tokens=True, top_k=2, compat=False, lora_rank=None",
    "kilter.embeddings:merge_experts": "model, weights=None, *, tokenizer=None",
    "kilter.embeddings:DomainContrast": "*, form='mnr_plus', similarity='dot', temperature=1.0, "
    "learn_temperature=False",
    "kilter.embeddings:DomainContrast.forward": "self, anchor, positive, domain=None",
    "kilter.embeddings:PairHead": "dim, outputs=1, *, hidden=512, features='concat', symmetric=False",
    "kilter.embeddings:PairHead.forward": "self, u, v",
    "kilter.embeddings:PairHead.score_matrix": "self, U, V",
    "kilter.embeddings:DistilledSentenceEmbedding": "head, *, distill_weight=0.5, task='binary'",
    "kilter.embeddings:DistilledSentenceEmbedding.forward": "self, u, v, teacher_logits, labels=None",
    "kilter.embeddings:PairSearch.search": "self, queries, k=10, *, advance=None",
    "kilter.embeddings:PairSearch.save": "self, folder, *, encoder=None",
    "kilter.embeddings:PairSearch.open": "folder, *, head=None, encoder=None, device='cpu'",
    "kilter.embeddings:shuffled_group_whitening": "x, groups, *, permutation=None, method='zca', epsilon=0.0001, "
    "detach=True, generator=None",
    "kilter.embeddings:WhitenedCSE": "dim, *, groups=128, shuffle=True, views='per_view', temperature=0.05, "
    "method='zca', epsilon=0.0001, detach=True, head=True, gather=False, negatives=True",
    "kilter.embeddings:WhitenedCSE.forward": "self, views, generator=None, group=None",
    "kilter.embeddings:whitened_cse_loss": "views, group=None, *, temperature=0.05, negatives=True",
    "kilter.pretraining:position_digits": "positions, num_digits, *, base=10, axes=1",
    "kilter.pretraining:SequentialPositionEncoder": "max_position, *, axes=1, width=768, out_dim=None, layers=2, "
    "heads=None, base=10, direction='causal'",
    "kilter.pretraining:SequentialPositionEncoder.forward": "self, positions",
    "kilter.pretraining:SequentialPositionEncoder.table": "self, n",
    "kilter.pretraining:SeqPE": "max_position, *, axes=1, width=None, heads=None, apply='attn_scalar', "
    "qk_map='single', contrast_weight=0.1, transfer_weight=0.1, shift_rate=0.1, sampler='released'",
    "kilter.pretraining:attach": "model, seqpe",
    "kilter.pretraining:detach": "model",
    "kilter.pretraining:position_contrast": "pivot, candidates, positive",
    "kilter.pretraining:position_transfer": "student, teacher, *, heads=1, metric='kl', mix=1.0",
    "kilter.pretraining:reweight": "log_weights, alignments, step_size",
    "kilter.pretraining:gradient_alignments": "model, loss_fn, domain_batches, target_batch, *, "
    "method='central_difference', clip=None, normalise='none', step=0.002",
    "kilter.pretraining:DomainMixture": "sizes, *, weights=None, bases=None, generator=None",
    "kilter.pretraining:DynamicGradientAlignment.update": "self, alignments, *, learning_rate=None",
    "kilter.seq2seq:ProcessBlock": "dim, steps, *, form='pyg', learned_start=False",
    "kilter.seq2seq:ProcessBlock.forward": "self, memory, mask=None",
    "kilter.seq2seq:ProcessBlock.fold": "self",
    "kilter.seq2seq:PointerWriter": "dim, *, glimpses=1, mask_visited=False",
    "kilter.seq2seq:PointerWriter.forward": "self, memory, state, targets, mask=None",
    "kilter.seq2seq:PointerWriter.decode": "self, memory, state, mask=None",
    "kilter.seq2seq:ReadProcessWrite": "in_dim, dim=128, *, steps=5, glimpses=1, mask_visited=False",
    "kilter.seq2seq:ReadProcessWrite.forward": "self, items, targets, mask=None",
    "kilter.seq2seq:ReadProcessWrite.decode": "self, items, mask=None",
    "kilter.seq2seq:PointerNetwork": "in_dim, dim=128, *, glimpses=1, mask_visited=False",
    "kilter.seq2seq:OrderSearch": "*, sampler='ancestral', warmup_steps=1000",
    "kilter.seq2seq:OrderSearch.draw": "self, step_log_probs, num_elements, batch_size, generator=None, "
    "candidates=None",
    "kilter.seq2seq:OrderSearch.forward": "self, step_log_probs, num_elements, batch_size, generator=None, "
    "candidates=None",
    "kilter.seq2seq:reverse_blocks": "words, size=3, *, pad='<pad>'",
    "kilter.core:ModelObjective.forward": "self, model, **batch",
    "kilter.seq2seq:SentenceProjection": "width, out_width=None",
    "kilter.seq2seq:SentenceProjection.forward": "self, states, mask",
    "kilter.seq2seq:imposter": "hidden, labels, output, *, step=1.0, relative=False, ignore_index=-100",
    "kilter.seq2seq:distant_target": "hidden, source_vectors, mask, output, project, *, step=3.0, temperature=0.1, "
    "kl_step=None, kl_steps=1, relative=False",
    "kilter.seq2seq:perturbed_contrast": "source, target, imposter=None, distant=None, *, temperature=0.1, "
    "positive_temperature=None, batch_negatives=True",
    "kilter.seq2seq:ContrastivePerturbation": "width, *, temperature=0.1, positive_temperature=None, "
    "negative_step=1.0, positive_step=3.0, kl_steps=1, kl_step=None, relative=False, use_negative=True, "
    "use_positive=True, use_batch_negatives=True, skip_duplicates=True, weight=1.0, compat=None",
    "kilter.seq2seq:ContrastivePerturbation.from_states": "self, source_states, target_states, labels, output, *, "
    "source_mask=None",
    "kilter.preference:calibrate": "rewards, reference, *, power=1, presorted=False",
    "kilter.preference:reward_transform": "u, kind='exp', *, decoder='best_of', n=4, rate=10.0, beta=None, "
    "normalize=True, floor=0.0",
    "kilter.preference:tilt": "phi, beta",
    "kilter.preference:win_rate": "density, decoder='plain', n=4",
    "kilter.preference:density_kl": "density",
    "kilter.preference:fixed_point": "decoder='best_of', n=4, beta=0.1, *, grid=4001, tol=1e-10, max_iter=2000",
    "kilter.preference:FixedPoint": "phi, density, win_rate, kl, iterations, converged",
    "kilter.preference:win_rate_at_kl": "kl, kind='exp', *, decoder='best_of', n=4, rate=10.0",
    "kilter.preference:log_partition": "kind='exp', beta=0.1, *, decoder='best_of', n=4, rate=10.0, normalize=True",
    "kilter.preference:finite_win_rate": "policy, base, rewards, decoder='best_of', n=4",
    "kilter.preference:finite_fixed_point": "base, rewards, decoder='best_of', n=4, beta=0.1, *, tol=1e-10, "
    "max_iter=2000",
    "kilter.preference:FiniteSolution": "policy, reward, win_rate, kl, iterations, converged",
    "kilter.preference:QuantileRewardRegression": "*, beta=0.1, transform='exp', decoder='best_of', n=4, rate=10.0, "
    "normalize=True, num_ref=100, compat=None",
    "kilter.preference:QuantileRewardRegression.forward": "self, policy_log_probs, base_log_probs, calibrated_rewards",
}
NAMES = {
    "kilter.core": ["Objective", "ModelObjective", "Decoder", "LossOutput", "Paper", "Claim"],
    "kilter.evaluation.latency": ["drift_to_reference", "drift_between", "total_latency", "early_share"],
    "kilter.evaluation.word_errors": ["word_error_rate", "character_error_rate"],
    "kilter.decoding": ["diverse_beam_search", "RankGenScorer", "RankGenLoss"],
    "kilter.hosts.transformers": ["align_ctc", "align_seq2seq", "load"],
    "kilter.pretraining": ["DynamicGradientAlignment", "DomainMixture", "SeqPE", "attach", "detach"],
}


def find(where: str) -> Any:
    module, _, path = where.partition(":")
    if module.startswith("kilter.hosts"):
        pytest.importorskip(module.rpartition(".")[2])
    thing = importlib.import_module(module)
    for name in path.split(".") if path else []:
        thing = getattr(thing, name)
    return thing


@pytest.mark.parametrize("where", SIGNATURES)
def test_signature(where: str) -> None:
    parameters = inspect.signature(find(where)).parameters.values()
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    assert str(inspect.Signature(plain)) == f"({SIGNATURES[where]})"


@pytest.mark.parametrize("module", NAMES)
def test_names(module: str) -> None:
    assert not [name for name in NAMES[module] if not hasattr(find(module), name)]


def test_loss_output_fields() -> None:
    from dataclasses import fields

    from kilter.core import LossOutput

    assert [field.name for field in fields(LossOutput)] == ["loss", "parts", "stats"]


def test_everything_exported_exists_and_explains_itself() -> None:
    from tests.conformance.case import FAMILIES

    for family in FAMILIES:
        package = importlib.import_module(f"kilter.{family}")
        assert package.__all__ == sorted(package.__all__)
        for name in package.__all__:
            assert inspect.getdoc(getattr(package, name)), f"kilter.{family}.{name} has no docstring"
