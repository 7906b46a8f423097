"""Instructions with their outputs, and the text of one for a base without a chat template.

The text is Stanford Alpaca's, which many files are written for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.data.chats.messages import list_of
from client.data.row_checks import BadRow, is_filled, read_text

_PREFACE = "Below is an instruction that describes a task{}. Write a response that appropriately completes the request."
_PAIRED = ", paired with an input that provides further context"


@dataclass(frozen=True)
class Instruction:
    """What is asked.

    Args:
        asked: the last question.
        inputs: more of it.
        system: a system's words, which are in place of Alpaca's first sentences.
        earlier: questions before it with their answers.
    """

    asked: str
    inputs: tuple[str, ...] = ()
    system: str = ""
    earlier: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The prompt after which the answer is written."""
        parts = [self.system or _PREFACE.format(_PAIRED if self.inputs else "")]
        parts += [f"### Instruction:\n{question}\n\n### Response:\n{answer}" for question, answer in self.earlier]
        parts += [f"### Instruction:\n{self.asked}"]
        parts += ["### Input:\n" + "\n\n".join(self.inputs)] if self.inputs else []
        return "\n\n".join([*parts, "### Response:\n"])

    @property
    def plain(self) -> str:
        """The text that an encoder reads, with blank lines between its parts: a system's words, earlier questions with
        their answers, the question and its inputs.
        """
        earlier = (said for pair in self.earlier for said in pair)
        return "\n\n".join(filter(None, (self.system, *earlier, self.asked, *self.inputs)))

    @property
    def messages(self) -> tuple[Mapping[str, str], ...]:
        """The turns before the answer: instruction and inputs with blank lines between."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        turns = (zip(("user", "assistant"), pair, strict=True) for pair in self.earlier)
        before = [{"role": role, "content": said} for pair in turns for role, said in pair]
        return (*system, *before, {"role": "user", "content": "\n\n".join([self.asked, *self.inputs])})


def read_instruction(
    fields: Mapping[str, Any], asked: str, inputs: Sequence[str], system: str, history: str
) -> Instruction:
    """Return the instruction in these columns of a row, of which only that of what is asked has to be filled.

    Raises:
        BadRow: one of them has no text, or the history no pairs of a question and its answer.
    """
    more = tuple(read_text(fields, column) for column in inputs if is_filled(fields.get(column)))
    said = read_text(fields, system) if is_filled(fields.get(system)) else ""
    return Instruction(read_text(fields, asked), more, said, _earlier(fields.get(history), history))


def _earlier(value: Any, column: str) -> tuple[tuple[str, str], ...]:
    pairs = list_of(value)
    if is_filled(value) and not pairs and value not in ([], (), "[]"):
        raise BadRow(f"{column!r} is not a list of pairs of a question and its answer but {type(value).__name__}")
    return tuple(_pair(each, f"{column}[{number}]") for number, each in enumerate(pairs))


def _pair(value: Any, name: str) -> tuple[str, str]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise BadRow(f'{name!r} is not a pair of a question and its answer, ["...", "..."]')
    question, answer = (read_text({f"{name}[{place}]": said}, f"{name}[{place}]") for place, said in enumerate(value))
    return question, answer
