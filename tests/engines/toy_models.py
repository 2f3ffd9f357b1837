"""Model classes as lm-eval's users write them: one by tokens, one by text alone."""

from __future__ import annotations

from typing import Any

from lm_eval.api.model import LM, TemplateLM

ASKED: list[Any] = []


class Spelling(LM):
    """Answers a prompt with its last letters backwards; a continuation costs 1 nat a letter."""

    def __init__(self, pretrained: str, batch_size: int = 1) -> None:
        super().__init__()
        self.pretrained = pretrained

    def generate_until(self, requests: list[Any]) -> list[str]:
        ASKED.extend(request.args for request in requests)
        return [request.args[0][-4:][::-1] for request in requests]

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        ASKED.extend(request.args for request in requests)
        return [(-float(len(request.args[1])), request.args[1] == "ab") for request in requests]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        raise NotImplementedError


class Counting(TemplateLM):
    """Draws numbers; a continuation costs 2 nats a token. Its tokenizer adds nothing."""

    def __init__(self, pretrained: str, trust_remote_code: bool = True, **kwargs: Any) -> None:
        from transformers import AutoTokenizer

        super().__init__()
        self.trusts, self.others = trust_remote_code, kwargs
        self.tokenizer = AutoTokenizer.from_pretrained(pretrained)

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def tok_encode(self, string: str, **_: Any) -> list[int]:
        ids: list[int] = self.tokenizer(string, add_special_tokens=False)["input_ids"]
        return ids

    def _loglikelihood_tokens(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        ASKED.extend(requests)
        return [(-2.0 * len(rest), False) for _, _, rest in requests]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        import random

        return [str(random.randrange(10**6)) for _ in requests]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError


class Nameless(LM):
    """Cannot be told which checkpoint it is."""

    def __init__(self, base_url: str = "") -> None:
        super().__init__()

    loglikelihood = loglikelihood_rolling = generate_until = None  # type: ignore[assignment]


class Failing(Spelling):
    """Runs out of memory."""

    def generate_until(self, requests: list[Any]) -> list[str]:
        raise RuntimeError("CUDA out of memory. Tried to allocate 7 GiB")
