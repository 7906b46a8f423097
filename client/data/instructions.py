"""Instructions with their outputs, and the text of one for a base without a chat template.

The text is Stanford Alpaca's, which many files are written for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.data.row_checks import is_filled, read_text

_PREFACE = "Below is an instruction that describes a task{}. Write a response that appropriately completes the request."
_PAIRED = ", paired with an input that provides further context"


@dataclass(frozen=True)
class Instruction:
    """What is asked, with its inputs, and in place of Alpaca's first sentences a system's words, if there are any."""

    asked: str
    inputs: tuple[str, ...] = ()
    system: str = ""

    @property
    def text(self) -> str:
        """The prompt after which the answer is written."""
        parts = [self.system or _PREFACE.format(_PAIRED if self.inputs else ""), f"### Instruction:\n{self.asked}"]
        parts += ["### Input:\n" + "\n\n".join(self.inputs)] if self.inputs else []
        return "\n\n".join([*parts, "### Response:\n"])

    @property
    def plain(self) -> str:
        """The text that an encoder reads: a system's words, instruction and inputs, with blank lines between."""
        return "\n\n".join(filter(None, (self.system, self.asked, *self.inputs)))

    @property
    def messages(self) -> tuple[Mapping[str, str], ...]:
        """The turns before the answer: instruction and inputs with blank lines between."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return (*system, {"role": "user", "content": "\n\n".join([self.asked, *self.inputs])})


def read_instruction(fields: Mapping[str, Any], asked: str, inputs: Sequence[str], system: str) -> Instruction:
    """Return the instruction in these columns of a row, of which the inputs' and the system's may be empty.

    Raises:
        BadRow: one of them has no text.
    """
    more = tuple(read_text(fields, column) for column in inputs if is_filled(fields.get(column)))
    said = read_text(fields, system) if is_filled(fields.get(system)) else ""
    return Instruction(read_text(fields, asked), more, said)
