"""Tiny configurations of the architectures of Transformers, by the type of a model."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Config = Mapping[str, Any]
VOCABULARY, POSITIONS = 512, 160
_IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_COMMON = _IDS | {"initializer_range": 0.1}
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
}
_LLAMA = _SIZES | {"num_key_value_heads": 2}
_HEADS = _LLAMA | {"head_dim": 8}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1}
_GROUPS = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
_LATENT = {"kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "q_lora_rank": 16}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS, "n_ctx": POSITIONS}
_LINEAR = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
}
_MIXERS = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_expand": 2, "mamba_d_state": 8}
_SIGHT = _SIZES | {"num_hidden_layers": 1, "image_size": 16, "patch_size": 8}
_STATES = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "conv_kernel": 4}

DECODERS: Mapping[str, Config] = MappingProxyType(
    {
        "gpt2": _GPT,
        "gpt_neo": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": POSITIONS,
            "intermediate_size": 64,
        },
        "gpt_neox": _SIZES,
        "gptj": _GPT | {"rotary_dim": 4},
        "gpt_bigcode": _GPT,
        "codegen": _GPT | {"rotary_dim": 4},
        "opt": _SIZES | {"ffn_dim": 64, "word_embed_proj_dim": 32},
        "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
        "falcon": _SIZES,
        "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": POSITIONS},
        "xglm": {
            "d_model": 32,
            "num_layers": 2,
            "attention_heads": 4,
            "ffn_dim": 64,
            "max_position_embeddings": POSITIONS,
        },
        "biogpt": _SIZES,
        "llama": _LLAMA,
        "mistral": _LLAMA,
        "mixtral": _LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2},
        "qwen2": _LLAMA,
        "qwen2_moe": _LLAMA | _EXPERTS | {"shared_expert_intermediate_size": 16, "decoder_sparse_step": 1},
        "qwen3": _HEADS,
        "qwen3_moe": _HEADS | _EXPERTS | {"decoder_sparse_step": 1},
        "qwen3_next": _HEADS
        | _EXPERTS
        | _LINEAR
        | {"shared_expert_intermediate_size": 16, "layer_types": ["linear_attention", "full_attention"]},
        "qwen3_5_text": _HEADS | _LINEAR | {"layer_types": ["linear_attention"] * 2},
        "qwen3_5_moe_text": _HEADS
        | _EXPERTS
        | _LINEAR
        | {"shared_expert_intermediate_size": 16, "layer_types": ["linear_attention", "full_attention"]},
        "minimax": _HEADS
        | {"num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["linear_attention"] * 2, "block_size": 16},
        "gemma": _HEADS,
        "gemma2": _HEADS | {"sliding_window": 64, "query_pre_attn_scalar": 8},
        "gemma3": {
            "text_config": _COMMON | _HEADS | {"sliding_window": 64, "query_pre_attn_scalar": 8},
            "vision_config": _SIGHT,
            "mm_tokens_per_image": 4,
            **dict(zip(("boi_token_index", "eoi_token_index", "image_token_index"), range(500, 503), strict=True)),
        },
        "gemma3_text": _HEADS | {"sliding_window": 64, "query_pre_attn_scalar": 8},
        "phi": _SIZES,
        "phi3": _LLAMA,
        "phimoe": _LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2},
        "stablelm": _LLAMA,
        "starcoder2": _LLAMA,
        "olmo": _LLAMA,
        "olmo2": _LLAMA,
        "olmoe": _LLAMA | {"num_experts": 4, "num_experts_per_tok": 2},
        "cohere": _LLAMA,
        "cohere2": _HEADS | {"sliding_window": 64},
        "deepseek_v2": _LLAMA | _ROUTED | _GROUPS | _LATENT | {"topk_method": "greedy", "num_key_value_heads": 4},
        "deepseek_v3": _LLAMA | _ROUTED | _GROUPS | _LATENT | {"num_key_value_heads": 4},
        "dots1": _LLAMA | _ROUTED | _GROUPS,
        "glm4": _HEADS,
        "glm4_moe": _HEADS | _ROUTED | _GROUPS,
        "granite": _LLAMA,
        "granitemoe": _LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2},
        "smollm3": _LLAMA,
        "nemotron": _LLAMA,
        "helium": _HEADS,
        "exaone4": _HEADS | {"sliding_window": 64},
        "ernie4_5": _HEADS,
        "gpt_oss": _HEADS | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64},
        "llama4_text": _HEADS | {"num_local_experts": 4, "intermediate_size_mlp": 64, "interleave_moe_layer_step": 1},
        "jamba": _LLAMA
        | {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "use_mamba_kernels": False,
            "mamba_d_state": 8,
        },
        "granitemoehybrid": _LLAMA
        | _MIXERS
        | {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 16,
            "layer_types": ["mamba", "attention"],
        },
        "bamba": _LLAMA | _MIXERS | {"attn_layer_indices": [1]},
        "falcon_h1": _HEADS | _MIXERS | {"mamba_d_ssm": 64},
        "ernie4_5_moe": _HEADS
        | {
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_intermediate_size": 16,
            "moe_num_shared_experts": 1,
            "moe_layer_start_index": 1,
        },
        "hunyuan_v1_moe": _HEADS | {"num_experts": 4, "moe_topk": 2},
        "olmo3": _LLAMA,
        "arcee": _LLAMA,
        "lfm2_moe": _LLAMA | _EXPERTS | {"num_dense_layers": 1, "layer_types": ["conv", "full_attention"]},
        "lfm2": _LLAMA | {"layer_types": ["conv", "full_attention"]},
        "mamba": _STATES | {"time_step_rank": 4},
        "mamba2": _STATES | {"num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 16},
        "falcon_mamba": _STATES | {"time_step_rank": 4},
        "recurrent_gemma": _LLAMA
        | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 64, "conv1d_width": 4},
        "rwkv": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "attention_hidden_size": 32,
            "intermediate_size": 64,
            "context_length": POSITIONS,
        },
    }
)
"""Causal language models."""

_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_SIDES = {
    "d_model": 32,
    "decoder_start_token_id": 3,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
}
_BART = _SIDES | {"max_position_embeddings": POSITIONS}
_SPEECH = {key: value for key, value in _BART.items() if key != "d_model"} | {"hidden_size": 32}
_GEMMA = _COMMON | _HEADS | {"sliding_window": 64, "query_pre_attn_scalar": 8}

PAIRS: Mapping[str, Config] = MappingProxyType(
    {
        "t5": _T5,
        "mt5": _T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        "umt5": _T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        "longt5": _T5 | {"local_radius": 8},
        "switch_transformers": _T5
        | {
            "num_experts": 4,
            "expert_capacity": 512,
            "num_decoder_layers": 2,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1,
        },
        "bart": _BART,
        "mbart": _BART,
        "plbart": _BART,
        "mvp": _BART,
        "marian": _BART | {"decoder_start_token_id": 0},
        "blenderbot": _BART,
        "blenderbot-small": _BART,
        "pegasus": _BART | {"decoder_start_token_id": 0},
        "pegasus_x": _BART | {"decoder_start_token_id": 0, "block_size": 8, "num_global_tokens": 4},
        "bigbird_pegasus": _BART | {"attention_type": "original_full"},
        "led": _SIDES
        | {
            "attention_window": 8,
            "max_encoder_position_embeddings": POSITIONS,
            "max_decoder_position_embeddings": POSITIONS,
        },
        "m2m_100": _BART,
        "nllb-moe": _BART
        | {"num_experts": 4, "expert_capacity": 512, "encoder_sparse_step": 2, "decoder_sparse_step": 2},
        "seamless_m4t": _SPEECH,
        "seamless_m4t_v2": _SPEECH,
        "prophetnet": {
            "hidden_size": 32,
            "decoder_start_token_id": 0,
            "max_position_embeddings": POSITIONS,
            **{f"num_{side}_layers": 2 for side in ("encoder", "decoder")},
            **{f"num_{side}_attention_heads": 4 for side in ("encoder", "decoder")},
            **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
        },
        "fsmt": _BART
        | {"langs": ["en", "de"], "src_vocab_size": VOCABULARY, "tgt_vocab_size": VOCABULARY, "init_std": 0.1},
        "encoder-decoder": {
            "encoder": {"model_type": "bert", **_COMMON, **_SIZES},
            "decoder": {"model_type": "bert", **_COMMON, **_SIZES, "is_decoder": True, "add_cross_attention": True},
            "decoder_start_token_id": 2,
            "pad_token_id": 0,
            "eos_token_id": 3,
        },
        "t5gemma": {"encoder": _GEMMA, "decoder": _GEMMA, **_COMMON},
        "t5gemma2": {
            "encoder": {"text_config": _GEMMA, "vision_config": _SIGHT, "mm_tokens_per_image": 4},
            "decoder": _GEMMA,
            **_COMMON,
        },
    }
)
"""Encoders with decoders."""

_ALBERT = _SIZES | {"embedding_size": 16}
ENCODERS: Mapping[str, Config] = MappingProxyType(
    {
        "bert": _SIZES,
        "roberta": _SIZES,
        "xlm-roberta": _SIZES,
        "camembert": _SIZES,
        "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": POSITIONS},
        "albert": _ALBERT,
        "electra": _SIZES | {"embedding_size": 16},
        "convbert": _SIZES | {"embedding_size": 32, "head_ratio": 2, "conv_kernel_size": 3},
        "deberta": _SIZES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        "deberta-v2": _SIZES | {"relative_attention": True, "position_buckets": 32, "pos_att_type": ["p2c", "c2p"]},
        "mpnet": _SIZES,
        "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
        "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "max_position_embeddings": POSITIONS},
        "modernbert": _SIZES | {"cls_token_id": 4, "sep_token_id": 5, "global_attn_every_n_layers": 1},
        "funnel": {"block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64},
        "longformer": _SIZES | {"attention_window": 8},
        "big_bird": _SIZES | {"attention_type": "original_full"},
        "nystromformer": _SIZES | {"num_landmarks": 4, "segment_means_seq_len": 4},
        "squeezebert": _SIZES | {"embedding_size": 32},
        "mobilebert": _SIZES | {"embedding_size": 32, "intra_bottleneck_size": 32, "num_feedforward_networks": 1},
        "rembert": _SIZES | {"input_embedding_size": 32, "output_embedding_size": 32},
        "roformer": _SIZES | {"embedding_size": 32},
        "ernie": _SIZES,
        "esm": _SIZES | {"mask_token_id": 6, "position_embedding_type": "rotary", "token_dropout": False},
        "fnet": _SIZES,
        "ibert": _SIZES,
    }
)
"""Encoders, for classification; decoders classify too."""


def settings_of(kind: str) -> dict[str, Any]:
    """Return the settings of the configuration of this model type; one of several parts has the common ones in them."""
    settings = {**DECODERS, **PAIRS, **ENCODERS}[kind]
    return {**settings} if "text_config" in settings else {**_COMMON, **settings}
