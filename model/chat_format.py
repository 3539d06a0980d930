"""The one renderer: a dialogue in, tokens out, for answering and for training. Knows no weights, no engine.

A tokenizer's own chat template is used where there is one. A base model such as GPT-2 gets the plain one:

    What the system message says.

    Ann: Hello!
    Assistant: Hello, Ann.
    User: And I?
    Assistant:

where "User" stands for speakers without a name, and a reply ends where the next line would name a speaker.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from jinja2 import TemplateError

from model.errors import BadRequest, ModelUnusable
from model.request import ChatMessage
from model.speakers import LABELS, Turn, alternate, guard, label_of, whole_characters
from model.tokenizer import Tokenizer

Span = tuple[int, int]

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'system' and loop.first %}{{ message.content + '\n\n' }}"
    "{% else %}{{ message.label + ': ' + message.content + '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # Unicode noncharacters: no text needs them, so nobody can forge the marks
_START, _END = "\ufdd2", "\ufdd3"
_MARKS = re.compile(f"[{_START}{_END}]")
_PADDING = " \n \n "
_MARKED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}|[{_OPEN}{_CLOSE}]")


class ChatFormat:
    """How one model's dialogues are written. Safe to call from several threads.

    What people wrote never becomes a control token: `<|im_end|>` in a message is spelled in characters.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Learn what the tokenizer's template accepts. Raises `ModelUnusable` if it renders nothing."""
        self._tokenizer = tokenizer
        self._name = str(tokenizer.name_or_path) or "the tokenizer"
        self.plain = not tokenizer.chat_template
        self._template = _plain_template(tokenizer) if self.plain else tokenizer.get_chat_template()
        self._control = _control_tokens(tokenizer, self._template)
        self._controls = re.compile("|".join(map(re.escape, self._control)) or "(?!)")
        self._control_ids = frozenset(self._control.values())
        newline = self._ids("\n")
        # SentencePiece puts a space before every text it encodes; what continues a text must not get one.
        self._anchor = newline if self._ids("\na") != newline + self._ids("a") else []
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._normalizes = getattr(backend, "normalizer", None) is not None
        self._learn_roles()
        self._learn_end_of_turn()
        self._reply_shape = self._learn_reply_shape()

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Tokens that end a reply: the tokenizer's end of sequence and the template's end of turn."""
        return self._stop_token_ids

    def stop_strings(self, messages: Sequence[ChatMessage]) -> tuple[str, ...]:
        """Texts that end a reply to `messages` where no token does: the label of whoever would be next."""
        if not self.plain:
            return self._stop_texts
        labels = dict.fromkeys([*LABELS.values(), *(label_of(message) for message in messages)])
        return tuple(f"\n{label}:" for label in labels)

    def render(self, messages: Sequence[ChatMessage]) -> list[int]:
        """The prompt for a reply to `messages`. Raises `BadRequest` where the template refuses them."""
        turns = self._turns(messages)
        text = self._apply(turns, prompt=True)
        return self._encode(text, self._spans(turns, text, prompt=True))[0]

    def render_dialogue(
        self, messages: Sequence[ChatMessage], *, last_only: bool = False
    ) -> tuple[list[int], list[bool]]:
        """A whole dialogue and which of its tokens to learn: the replies, each with its end of turn.

        `render` of the messages before a reply is a prefix of the dialogue: what is learnt is what answering
        asks for. A reply that opens the dialogue answers nothing and is not learnt. With `last_only` the last
        reply alone is learnt, which also suits templates that rewrite earlier turns (Qwen3 drops reasoning).
        Raises `ModelUnusable` where the template breaks the prefix, `BadRequest` where it refuses the messages.
        """
        turns = self._turns(messages)
        text = self._apply(turns, prompt=False)
        spans = self._spans(turns, text, prompt=False)
        replies = sum(turn["role"] == "assistant" for turn in turns[1:])
        found = spans and spans[-1][1] == len(text) if last_only else len(spans) == replies
        if not found:
            raise ModelUnusable(
                f"The chat template of {self._name} writes a dialogue of {len(turns)} messages otherwise than "
                "the prompts in it, so that its replies cannot be told apart."
            )
        return self._encode(text, spans, learn=spans[-1:] if last_only else spans)

    # From messages to turns that the template accepts

    def _turns(self, messages: Sequence[ChatMessage]) -> list[Turn]:
        if not messages:
            raise BadRequest("There is no message to render.")
        labels = set(LABELS.values()) if self.plain else set()
        turns: list[Turn] = []
        for message in messages:
            label = label_of(message)
            if message.role == "user" and label != LABELS["user"]:
                labels.add(label)
            content = guard(whole_characters(message.content), labels)
            if not self.plain and label not in LABELS.values():
                content = f"{label}: {content}"
            role = self._role(message.role, len(turns))
            turns.append({"role": role, "content": self._mark(content)})
            if self.plain:
                turns[-1]["label"] = self._mark(label)
        return list(alternate(turns)) if self._alternates else turns

    def _role(self, role: str, position: int) -> str:
        """A system message that the template would refuse or drop is told by the user."""
        refused = self._system == "never" or (self._system == "first" and position > 0)
        return "user" if role == "system" and refused else role

    def _mark(self, content: str) -> str:
        content = content.replace(_OPEN, "").replace(_CLOSE, "")
        marked: str = self._controls.sub(lambda match: f"{_OPEN}{match[0]}{_CLOSE}", content)
        # A normalizer can turn harmless characters (a fullwidth "＜") into a control token.
        if self._normalizes and not self._control_ids.isdisjoint(self._encode_piece(marked, start=True)):
            return f"{_OPEN}{content}{_CLOSE}"
        return marked

    # From turns to text

    def _apply(self, turns: Sequence[Turn], *, prompt: bool) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                list(turns),
                chat_template=self._template,
                add_generation_prompt=prompt,
                tokenize=False,
                # Reasoning takes minutes on a small machine; other templates ignore these two.
                enable_thinking=False,
                thinking=False,
            )
        except (TemplateError, LookupError, TypeError, ValueError, AttributeError) as error:
            roles = ", ".join(turn["role"] for turn in turns[:6]) + (", ..." if len(turns) > 6 else "")
            raise BadRequest(
                f"The chat template of {self._name} refuses a dialogue of {len(turns)} messages "
                f"({roles}): {error}"
            ) from error
        return text

    def _spans(self, turns: Sequence[Turn], text: str, *, prompt: bool) -> list[Span]:
        """Where in `text` each reply stands: from the end of the prompt for it to the end of its turn."""
        spans = self._spans_by_marks(turns, text, prompt=prompt)
        return self._spans_by_prefixes(turns, text, range(1, len(turns))) if spans is None else spans

    def _spans_by_marks(self, turns: Sequence[Turn], text: str, *, prompt: bool) -> list[Span] | None:
        """In one more rendering, whose contents stand between marks. None where the marks change what is written."""
        if self._reply_shape is None:
            return None
        marked = [{**turn, "content": _between_marks(turn["content"])} for turn in turns]
        try:
            pieces = _MARKS.split(self._apply(marked, prompt=prompt))
        except BadRequest:
            return None
        if len(pieces) != 2 * len(turns) + 1 or "".join(pieces) != text:
            return None
        shape, spans, end, last = self._reply_shape, [], 0, 0
        for index, turn in enumerate(turns):
            start = end + len(pieces[2 * index])
            end = start + len(pieces[2 * index + 1])
            left, core, right = _trimmed(turn["content"])
            if pieces[2 * index + 1] != core:
                return None
            if turn["role"] != "assistant" or not index:
                continue
            last = index
            before = start - shape.lead - (len(left) if shape.keeps_left else 0)
            after = end + (len(right) if shape.keeps_right else 0)
            if text.endswith(shape.header, 0, before) and text.startswith(shape.tail, after):
                spans.append((before, after + len(shape.tail)))
        # The obvious way has the last word where there is most at stake.
        sure = self._spans_by_prefixes(turns, text, [last]) if last else []
        return spans if sure == spans[len(spans) - len(sure) :] and len(sure) == bool(spans) else None

    def _spans_by_prefixes(self, turns: Sequence[Turn], text: str, which: Iterable[int]) -> list[Span]:
        """The obvious way: two more renderings a reply, which takes a time that grows with the square of them."""
        spans: list[Span] = []
        for index in which:
            if turns[index]["role"] != "assistant":
                continue
            try:
                before = self._apply(turns[:index], prompt=True)
                after = self._apply(turns[: index + 1], prompt=False)
            except BadRequest:
                continue
            if text.startswith(after) and after.startswith(before):
                spans.append((len(before), len(after)))
        return spans

    # From text to tokens

    def _encode(
        self, text: str, spans: Sequence[Span], learn: Sequence[Span] = ()
    ) -> tuple[list[int], list[bool]]:
        """Tokens of `text`, cut at the spans, for a reply is written after the last token of its prompt."""
        ids: list[int] = []
        mask: list[bool] = []
        done = 0
        for span in [*spans, (len(text), len(text))]:
            for end in span:
                piece = self._encode_piece(text[done:end], start=done == 0)
                learnt = self._turn_length(piece) if span in learn and done == span[0] else 0
                ids += piece
                mask += [True] * learnt + [False] * (len(piece) - learnt)
                done = end
        return ids, mask

    def _turn_length(self, reply: list[int]) -> int:
        """Tokens up to the end of turn; the template's own line break behind it is never generated."""
        ends = [index for index, token in enumerate(reply) if token in self._stop_token_ids]
        return ends[-1] + 1 if ends else len(reply)

    def _encode_piece(self, text: str, *, start: bool) -> list[int]:
        ids: list[int] = []
        for index, part in enumerate(_MARKED.split(text)):
            if part and index % 2:
                ids += self._spell(part)
            elif part:
                ids += self._ids(part) if start and index == 0 else self._ids_within(part)
        return ids

    def _spell(self, text: str) -> list[int]:
        ids = [token for character in text for token in self._ids_within(character)]
        return [token for token in ids if token not in self._control_ids]

    def _ids_within(self, text: str) -> list[int]:
        """Tokens of a text that continues another."""
        if self._anchor:
            ids = self._ids("\n" + text)
            if ids[: len(self._anchor)] == self._anchor:
                return ids[len(self._anchor) :]
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return ids

    # What the template is like, learnt once from what it does with small dialogues

    def _learn_roles(self) -> None:
        self._alternates = False
        self._system: Literal["anywhere", "first", "never"] = "anywhere"
        if self.plain:
            return
        if not self._accepts("user"):
            raise ModelUnusable(f"The chat template of {self._name} cannot render a single user message.")
        self._alternates = not self._accepts("user", "user")
        if not self._accepts("system", "user", "assistant", "system", "user"):
            self._system = "first" if self._accepts("system", "user") else "never"

    def _accepts(self, *roles: str) -> bool:
        turns = _probe(*roles)
        try:
            text = self._apply(turns, prompt=True)
        except BadRequest:
            return False
        return all(turn["content"] in text for turn in turns)

    def _learn_end_of_turn(self) -> None:
        """The first control token between a reply and the next message ends a turn; failing that, the text."""
        eos = self._tokenizer.eos_token_id
        stops = set() if eos is None else {int(eos)}
        self._stop_texts: tuple[str, ...] = ()
        if not self.plain and self._accepts("user", "assistant", "user"):
            _, reply, following = turns = _probe("user", "assistant", "user")
            text = self._apply(turns, prompt=False)
            between = text.split(reply["content"])[1].split(following["content"])[0]
            if end := self._controls.search(between):
                stops.add(self._control[end[0]])
            elif between.strip():
                self._stop_texts = (between.rstrip(),)
        self._stop_token_ids = frozenset(stops)

    def _learn_reply_shape(self) -> "ReplyShape | None":
        """None where a reply does not begin as its prompt ends."""
        question: Turn = {"role": "user", "content": "probe", "label": LABELS["user"]}
        answer: Turn = {
            "role": "assistant",
            "content": f"{_PADDING}reply{_PADDING}",
            "label": LABELS["assistant"],
        }
        try:
            boundary, prompt = (self._apply([question], prompt=prompt) for prompt in (False, True))
            text = self._apply([question, answer], prompt=False)
        except BadRequest:
            return None
        head, found, tail = text.partition("reply")
        if not (found and prompt.startswith(boundary) and head.startswith(prompt)):
            return None
        left, right = head.endswith(_PADDING), tail.startswith(_PADDING)
        lead = len(head) - len(prompt) - (len(_PADDING) if left else 0)
        tail = tail[len(_PADDING) :] if right else tail
        return ReplyShape(prompt[len(boundary) :], lead, tail, keeps_left=left, keeps_right=right)


@dataclass(frozen=True, slots=True)
class ReplyShape:
    """How a template frames a reply: the prompt's end, characters from there to the content, what follows that.

    `keeps_left` and `keeps_right`: white space around the content is written as it is, and not trimmed.
    """

    header: str
    lead: int
    tail: str
    keeps_left: bool
    keeps_right: bool


def _between_marks(content: str) -> str:
    """Inside the white space around it, so that a template trims what it would trim without them."""
    left, core, right = _trimmed(content)
    return f"{left}{_START}{core}{_END}{right}"


def _trimmed(content: str) -> tuple[str, str, str]:
    """White space, what stands between, white space."""
    core = content.strip()
    left, _, right = content.partition(core) if core else ("", "", content)
    return left, core, right


def _plain_template(tokenizer: Tokenizer) -> str:
    begins = tokenizer.encode("") == [tokenizer.bos_token_id]
    return "{{ bos_token }}" + PLAIN_TEMPLATE if begins else PLAIN_TEMPLATE


def _control_tokens(tokenizer: Tokenizer, template: str) -> dict[str, int]:
    """Special tokens, and added ones that the template writes (Qwen3's `<think>`); the longest first."""
    tokens = {
        added.content: int(token)
        for token, added in tokenizer.added_tokens_decoder.items()
        if added.special or (added.content in template and not added.content.isspace())
    }
    return dict(sorted(tokens.items(), key=lambda item: -len(item[0])))


def _probe(*roles: str) -> list[Turn]:
    return [{"role": role, "content": f"probe{index}"} for index, role in enumerate(roles)]
