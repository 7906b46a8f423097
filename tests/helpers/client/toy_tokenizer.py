"""Word-level tokenizers built in memory: one word, one token, so that expected ids can be read off."""

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from common.settings.node import NodeData

WORDS = ["<pad>", "<unk>", "<bos>", "<eos>", "user", "assistant", "system", *(f"w{n}" for n in range(40))]
PLAIN_CHAT = (
    "{% for message in messages %}{{ message.role + ' ' + message.content + ' <eos>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
)
MARKED_CHAT = (
    "{% for message in messages %}{{ message.role + ' ' }}{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content + ' <eos>' }}{% endgeneration %}"
    "{% else %}{{ message.content + ' <eos>' }}{% endif %}{% endfor %}"
)


def words(text: str) -> list[int]:
    """Ids of words parted by spaces."""
    return [WORDS.index(word) for word in text.split()]


def word_tokenizer(adds_bos: bool = False, **settings: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose special tokens are only those that `settings` name (`eos_token="<eos>"`)."""
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
        settings = {"bos_token": "<bos>"} | settings
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)


def node_data(**settings: object) -> NodeData:
    """Return the settings of a node's rows, those of causal language modelling by default."""
    return NodeData(**({"path": "rows", "task": "causal-lm"} | settings))
