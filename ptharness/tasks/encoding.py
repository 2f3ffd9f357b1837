"""Token ids of prompts and continuations, exactly as lm-eval's `hf` model makes them.

Source: lm_eval/models/huggingface.py (`tok_encode`, `tok_batch_encode`,
`apply_chat_template`) and lm_eval/api/model.py (`TemplateLM._encode_pair`,
`TemplateLM.loglikelihood`), 0.4.13. Nothing is truncated here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ptharness.errors import TaskError
from ptharness.prompts import Template

Ids = list[int]


class PromptEncoder:
    """Encodes for one `transformers` tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def prefix_token_id(self) -> int:
        """What stands for an empty context: beginning-of-sequence, else end-of-sequence."""
        for token_id in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token_id is not None:
                return int(token_id)
        raise TaskError(
            "the tokenizer names neither bos_token nor eos_token, and an empty context needs "
            "one of them; set one in tokenizer_config.json"
        )

    def prompts(self, texts: Sequence[str]) -> list[Ids]:
        """Prompts to complete: special tokens added unless the text brings its own BOS."""
        bos = self.tokenizer.bos_token
        encoded = self._encode(texts, lambda text: bool(bos) and text.startswith(bos))
        return [ids or [self.prefix_token_id()] for ids in encoded]

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
        """Contexts and the continuations to score after them.

        Spaces at the end of a context move to its continuation. An empty context becomes
        the prefix token, or the continuation's first token where that is the prefix token.
        """
        moved = [_move_spaces(*pair) for pair in pairs]
        given = [(context, context + rest) for context, rest in moved if context]
        whole = iter(self._encode([text for _, text in given], self._starts_with_prefix))
        contexts = self._encode([context for context, _ in given], self._starts_with_prefix)
        alone = [rest for context, rest in moved if not context]
        conditioned = iter(contexts)
        unconditioned = iter(self._encode(alone, lambda _: True))
        encoded = []
        for (context, rest), (_, asked) in zip(moved, pairs, strict=True):
            if context:
                before = next(conditioned)
                after = next(whole)[len(before) :]
            else:
                before, after = self._without_context(next(unconditioned))
            if not after:
                raise TaskError(
                    f"the continuation {asked!r} after ...{context[-40:]!r} makes no token of its "
                    f"own ({rest!r}); give it text, or end the context with a space"
                )
            encoded.append((before, after))
        return encoded

    def continuations(self, rows: Sequence[tuple[str, Ids, str]]) -> list[Ids]:
        """What comes after a prompt (its text and its token ids), in the tokens that it has there.

        Unlike in `pairs`, the prompt's tokens stay: a text is encoded alone where it would run
        into them.
        """
        whole = self.prompts([prompt + text for prompt, _, text in rows])
        keeps = [
            ids[: len(before)] == before for ids, (_, before, _) in zip(whole, rows, strict=True)
        ]
        others = [text for (*_, text), kept in zip(rows, keeps, strict=True) if not kept]
        alone = iter(self._encode(others, lambda _: True))
        return [
            ids[len(before) :] if kept else next(alone)
            for ids, (_, before, _), kept in zip(whole, rows, keeps, strict=True)
        ]

    def whole(self, texts: Sequence[str]) -> list[tuple[Ids, Ids]]:
        """Texts to score from their first token on, after the prefix token (`hf`'s
        `loglikelihood_rolling`). A text without a token stays without one.
        """
        prefix = [self.prefix_token_id()]
        return [(prefix, ids) for ids in self._encode(texts, self._starts_with_prefix)]

    def _without_context(self, ids: Ids) -> tuple[Ids, Ids]:
        prefix = self.prefix_token_id()
        return (ids[:1], ids[1:]) if ids[:1] == [prefix] else ([prefix], ids)

    def _starts_with_prefix(self, text: str) -> bool:
        return text.startswith(self.tokenizer.decode(self.prefix_token_id()))

    def _encode(self, texts: Sequence[str], plain: Callable[[str], bool]) -> list[Ids]:
        """Encode each distinct text once; `plain` says which take no special tokens."""
        distinct = dict.fromkeys(texts)
        ids: dict[str, Ids] = {}
        for without in (False, True):
            group = [text for text in distinct if plain(text) == without]
            if group:
                keywords = {"add_special_tokens": False} if without else {}
                for text, encoded in zip(group, self._batch(group, keywords), strict=True):
                    ids[text] = encoded
        return [ids[text] for text in texts]

    def _batch(self, texts: list[str], keywords: dict[str, bool]) -> list[Ids]:
        encoded = self.tokenizer(texts, **keywords)["input_ids"]
        return [[int(token) for token in ids] for ids in encoded]


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def chat_renderer(tokenizer: Any, template: Template) -> Callable[..., str] | None:
    """What turns messages into a prompt, None where no chat template applies.

    As in lm-eval, a template that refuses a system message is tried again without it.
    """
    chosen = _chosen_template(tokenizer, template)
    if not chosen:
        return None
    own = {} if template.chat_template == "auto" else {"chat_template": chosen}

    def render(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        from jinja2.exceptions import TemplateError

        def apply(messages: list[dict[str, str]]) -> str:
            return str(
                tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                    **own,
                )
            )

        try:
            return apply(messages)
        except TemplateError:
            return apply([message for message in messages if message["role"] != "system"])

    return render


def _chosen_template(tokenizer: Any, template: Template) -> Any:
    if template.chat_template == "none":
        return None
    if template.chat_template == "auto":
        return getattr(tokenizer, "chat_template", None)
    return template.chat_template
