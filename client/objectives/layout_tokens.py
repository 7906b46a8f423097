"""Tokens of a language model's rows, each layout in its way; and what is told of columns that are not read."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from client.data.chats.chat import Chat, read_chat, read_two
from client.data.chats.instructions import Instruction, read_instruction
from client.data.chats.template import has_template, mentions
from client.data.chats.tokens import chat_tokens
from client.data.layouts import KNOWN, Layout, has_messages, known_layout, unread
from client.data.row_checks import read_each, read_text
from client.data.rows import Row, by_line
from client.data.tokens import Tokens, joined_texts, joined_tokens


def layout_tokens(
    layout: Layout, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, file: Path, fold: bool
) -> tuple[Tokens, ...]:
    """Return ids (t,) and learned (t,) of each row.

    An instruction goes through the chat template if there is one, else through Alpaca's text.

    Raises:
        DataError: the tokenizer has no chat template for chats, or a row cannot be used.
    """
    if layout.kind == "text" or (layout.kind == "pair" and not has_messages(rows, layout)):
        return joined_tokens(rows, tokenizer, file, *layout.columns)
    if layout.kind == "instruction" and not has_template(tokenizer):
        return joined_texts(read_each(file, by_line(rows), lambda row: _plain(row, layout)), tokenizer)
    chats = read_each(file, by_line(rows), lambda row: _chat(row, layout))
    numbered = [(row.line, chat) for row, chat in zip(rows, chats, strict=True)]
    return chat_tokens(numbered, tokenizer, file, fold)


def layout_notes(layout: Layout, columns: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return what is told of columns that belong to a known layout and are not read, or not by the template."""
    alike = next(each.columns for each in KNOWN if each.kind == "chat") if layout.kind == "chat" else ()
    notes = unread_notes((*layout.all_columns, *alike), columns)
    return (*_whole_text_notes(layout, columns), *notes, *_template_notes(layout, columns, tokenizer))


def _whole_text_notes(layout: Layout, columns: Sequence[str]) -> Iterator[str]:
    """Yield what is told of a text beside an instruction and its answer, as Stanford's Alpaca has all three."""
    known = known_layout(columns)
    if layout.kind == "text" and known:
        yield (
            f'the column {layout.columns[0]!r} is learned whole, also what asks in it; set text = "" (in a recipe: '
            f"[data] text) to learn only the answers, from {' and '.join(map(repr, known.columns))}"
        )


def _template_notes(layout: Layout, columns: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    given = next((column for column in layout.tools if column in columns), None)
    if given and has_template(tokenizer) and not mentions(tokenizer, "tools"):
        yield (
            f"the column {given!r} is not learned from, as the chat template does not write tools; set "
            "chat_template = FILE (in a recipe: [data] chat_template) to one that does"
        )
    if layout.history in columns and not has_template(tokenizer):
        yield (
            f"the answers in the column {layout.history!r} are read but not learned, as the base has no chat template; "
            "set chat_template = FILE (in a recipe: [data] chat_template) to learn them too"
        )


def unread_notes(read: Sequence[str], columns: Sequence[str]) -> Iterator[str]:
    """Yield what is told of each column that a known layout asks with, and that is not read."""
    for column, layout in unread(read, columns):
        known = ", ".join(repr(each) for each in layout.all_columns if each in columns)
        if layout.kind == "chat":
            yield f"the column {column!r} is not read; make it the first message of the chat, with the role 'system'"
        else:
            yield (
                f"the column {column!r} is not read, though rows of {known} ask with it; leave out the keys that name "
                "other columns (prompt, completion), or put its text into the prompt's column"
            )


def _chat(row: Row, layout: Layout) -> Chat:
    if layout.kind == "pair":
        return read_two(row.fields, *layout.columns)
    if layout.kind == "instruction":
        instruction, answer = _read(row, layout)
        return Chat((*instruction.messages, {"role": "assistant", "content": answer}))
    return read_chat(row.fields, layout.columns[0], layout.system, layout.tools)


def _plain(row: Row, layout: Layout) -> tuple[str, str]:
    instruction, answer = _read(row, layout)
    return instruction.text, answer


def _read(row: Row, layout: Layout) -> tuple[Instruction, str]:
    asked, answer = layout.columns
    instruction = read_instruction(row.fields, asked, layout.inputs, layout.system, layout.history)
    return instruction, read_text(row.fields, answer)
