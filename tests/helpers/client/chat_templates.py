"""Chat templates of the styles that real models have, and a tokenizer with their special tokens, trained here."""

from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHATML = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA_3 = """\
{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + \
message['content'] | trim + '<|eot_id|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' + \
message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

QWEN_3 = """\
{% if tools %}{{ '<|im_start|>system\\n# Tools\\n' }}{% for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}\
{{ '<|im_end|>\\n' }}{% endif %}\
{% set ns = namespace(last=0) %}{% for message in messages %}{% if message.role == 'user' %}\
{% set ns.last = loop.index0 %}{% endif %}{% endfor %}\
{% for message in messages %}{% set content = message.content if message.content is string else '' %}\
{% if message.role == 'assistant' %}{% set thought = '' %}\
{% if message.reasoning_content is string %}{% set thought = message.reasoning_content %}\
{% elif '</think>' in content %}\
{% set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}\
{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}\
{{ '<|im_start|>assistant\\n' }}{% if loop.index0 > ns.last and (loop.last or thought) %}\
{{ '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}\
{% else %}{{ content }}{% endif %}\
{% for tool_call in message.tool_calls or [] %}{% set call = tool_call.function %}\
{{ ('\\n' if content or not loop.first else '') + '<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}\
{{ call.arguments if call.arguments is string else call.arguments | tojson }}{{ '}\\n</tool_call>' }}{% endfor %}\
{{ '<|im_end|>\\n' }}{% elif message.role == 'tool' %}\
{{ '<|im_start|>user\\n<tool_response>\\n' + content + '\\n</tool_response><|im_end|>\\n' }}\
{% else %}{{ '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

MISTRAL = """\
{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + \
' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + eos_token }}\
{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"""

BLANK = """\
{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token + '\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"""

TEXT_ARGUMENTS = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}\
{% for call in message['tool_calls'] or [] %}{{ call['function']['name'] + call['function']['arguments'] }}{% endfor %}\
{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

PRINTED_ARGUMENTS = TEXT_ARGUMENTS.replace("call['function']['name'] + ", "call['function']['name'] ~ ")

PHI_3 = """\
{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

MISTRAL_3 = """\
{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}\
{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}{{ bos_token }}\
{% for message in turns %}{% if message['role'] == 'user' %}\
{{ '[INST] ' + (system if loop.last else '') + message['content'] + '[/INST]' }}\
{% else %}{{ ' ' + message['content'] | trim + eos_token }}{% endif %}{% endfor %}"""

R1 = """\
{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<|User|>' + m.content }}\
{% else %}{{ '<|Assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"""

PARTS = """\
{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% for part in m.content %}{% if part.type == 'text' %}\
{{ part.text }}{% endif %}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

SPECIAL = (
    *("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<think>", "</think>"),
)
TEXTS = ("user assistant system model the weather in Paris is sunny, and hello there to all of you\n" * 20).splitlines()


@cache
def _trained(adds_bos: bool, trims: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    tokenizer.add_special_tokens([AddedToken(each, special=True) for each in SPECIAL])
    begin = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    after = [processors.ByteLevel(trim_offsets=True)] if trims else []
    tokenizer.post_processor = processors.Sequence([*after, *([begin] if adds_bos else [])])
    return tokenizer


def chat_tokenizer(
    template: str | None = None, adds_bos: bool = False, eos_token: str = "</s>", trims: bool = False
) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with this template.

    Args:
        template: of chats.
        adds_bos: it begins each text.
        eos_token: its end of text.
        trims: blanks are not in the places of its tokens, as in GPT-2's.
    """
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_trained(adds_bos, trims), bos_token="<s>", eos_token=eos_token, pad_token="<pad>"
    )
    tokenizer.chat_template = template
    return tokenizer
