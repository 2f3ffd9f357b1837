"""Our requests as vLLM's parameters, and vLLM's outputs as our results."""

from __future__ import annotations

from typing import Any

from ptharness.engines.base import Completion, Generated, GenerateRequest
from ptharness.engines.vllm_score import Ask
from ptharness.errors import EngineError
from ptharness.tokenizer import decode


def sampling_parameters(request: GenerateRequest) -> Any:
    """vLLM's parameters for a request: nothing is left to its own defaults."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import RequestOutputKind

    sampling = request.sampling
    if 0 < sampling.temperature < 0.01 or not 0 <= sampling.temperature <= 2:
        raise EngineError(
            f"request {request.index}: temperature {sampling.temperature}: vLLM draws at 0 "
            "(greedy) or from 0.01 to 2"
        )
    try:
        return SamplingParams(
            # Greedy completions are all the same: one is drawn and repeated.
            n=request.samples if sampling.temperature else 1,
            seed=request.seed,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            max_tokens=sampling.max_tokens,
            stop=list(sampling.stop),
            stop_token_ids=list(request.stop_token_ids),
            ignore_eos=True,
            detokenize=bool(sampling.stop),
            skip_special_tokens=sampling.skip_special_tokens,
            logprobs=0,
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
    except (ValueError, VLLMValidationError) as error:
        raise EngineError(f"request {request.index}: {error}") from error


def scoring_parameters(ask: Ask) -> Any:
    """vLLM's parameters for a log-likelihood: of prompt tokens with their ranks, if any are
    scored, and of the wanted tokens after the prompt; or of all tokens in both places.

    vLLM answers wrongly where both kinds are in one batch.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        ignore_eos=True,
        detokenize=False,
        prompt_logprobs=(-1 if ask.distributions else 0) if ask.scored else None,
        logprobs=-1 if ask.distributions else None,
        logprob_token_ids=None if ask.distributions else list(ask.wanted),
        flat_logprobs=True,
        skip_reading_prefix_cache=not ask.cached,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def to_generated(request: GenerateRequest, output: Any, tokenizer: Any) -> Generated:
    drawn = sorted(output.outputs, key=lambda completion: completion.index)
    texts = decode(
        tokenizer,
        [completion.token_ids for completion in drawn],
        skip_special_tokens=request.sampling.skip_special_tokens,
    )
    completions = tuple(
        Completion(
            token_ids=tuple(completion.token_ids),
            token_logprobs_nats=tuple(completion.logprobs.logprobs),
            text=text,
            finish_reason=completion.finish_reason,
        )
        for completion, text in zip(drawn, texts, strict=True)
    )
    if len(completions) == 1:
        completions *= request.samples
    return Generated(request.index, completions)
